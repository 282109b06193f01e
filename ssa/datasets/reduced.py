"""Preparing the two sets of photographs that are made smaller: Clothing Co-Parsing, VOC's subset.

Images are reduced by averaging over the area that a pixel covers, annotations by taking the class
under the centre of each pixel, so that none is mixed. A side becomes ``round(share · side)``, half
to even. What is written are JPEGs of quality 95 (4:4:4): in the mean over an image at most
:data:`TOLERANCE` grey values from the exact average. Bytes may differ with the codec's version, and
then the digest does; annotations are the same everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ssa.datasets import ccp, voc_subset
from ssa.datasets.base import IGNORE_INDEX, DataError, DataSet, Pair
from ssa.datasets.convert import Task, atomically, matrix_of, translated, unlisted, write_label
from ssa.datasets.pixels import image_sizes, other_size, read_image, read_label
from ssa.errors import Remedy

CCP_SHARE = 0.4
VOC_SHARE = 0.5
#: mean absolute difference of a written image from the exact area average, in grey values
TOLERANCE = 2.0

#: colours at full resolution: halved in an image that is small already they would be blurred
_JPEG = (
    *(cv2.IMWRITE_JPEG_QUALITY, 95),
    *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
)
_SPLITS = Path(__file__).parent / "splits"
_VOC_PLACES = ("", "VOC2012", "VOCdevkit/VOC2012")
_SBD_PLACES = ("", "dataset", "benchmark_RELEASE/dataset", "benchmark/benchmark_RELEASE/dataset")


def names_of(dataset: str, split: str) -> list[str]:
    """The images of a split of ours, by the names that the originals have."""
    return (_SPLITS / dataset / f"{split}.txt").read_text(encoding="utf-8").split()


def reduced_size(height: int, width: int, share: float) -> tuple[int, int]:
    """(height, width) of what is made of a picture of that size; at least one pixel."""
    return max(1, round(share * height)), max(1, round(share * width))


def reduced_image(image: NDArray[np.uint8], share: float) -> NDArray[np.uint8]:
    """An image (H, W, 3) reduced to ``share`` of its sides, averaged over areas."""
    height, width = reduced_size(image.shape[0], image.shape[1], share)
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.uint8)


def reduced_label(labels: NDArray[np.uint8], share: float) -> NDArray[np.uint8]:
    """Class ids (H, W) reduced to ``share`` of their sides: those under the pixels' centres."""
    full = (int(labels.shape[0]), int(labels.shape[1]))
    small = reduced_size(full[0], full[1], share)
    rows, columns = (
        ((np.arange(few) + 0.5) * many / few).astype(np.int64) for few, many in zip(small, full)
    )
    return labels[np.ix_(rows, columns)]


@dataclass(frozen=True)
class ReducedImage:
    """A smaller JPEG of a photograph, as it is stored: masks were drawn on the stored pixels."""

    source: Path
    target: Path
    share: float  # of the sides

    def run(self) -> None:
        """See Task."""
        small = reduced_image(read_image(self.source, turn=False), self.share)
        made, data = cv2.imencode(self.target.suffix, small, _JPEG)
        if not made:
            raise DataError(f"Cannot write {self.source} as {self.target.suffix}.")
        atomically(self.target, lambda temporary: temporary.write_bytes(data.tobytes()))


@dataclass(frozen=True)
class ReducedLabel:
    """A smaller annotation PNG from a MATLAB file's matrix or an indexed PNG of ids."""

    source: Path
    target: Path
    share: float
    image: Path  # that it annotates
    table: NDArray[np.int16]  # id → id in the PNG; −1: an id that must not occur
    variable: str = ""  # name of the matrix; "": the source is a picture

    def run(self) -> None:
        """See Task."""
        ids = matrix_of(self.source, self.variable) if self.variable else read_label(self.source)
        labels = translated(ids, self.table, str(self.source))
        stored = image_sizes(self.image)[:1]
        size = (int(labels.shape[0]), int(labels.shape[1]))
        if sentence := other_size(Pair(self.image, self.source), stored, size):
            raise DataError(sentence)
        write_label(self.target, reduced_label(labels, self.share))


def plan_ccp(source: Path, target: Path) -> list[Task]:
    """What to do to turn the repository of Clothing Co-Parsing into our layout under ``target``.

    Raises:
        DataError: if ``source`` is not that repository.
    """
    _require(ccp.CCP, source, unlisted(source, ("photos", "annotations/pixel-level")))
    dataset, table = ccp.CCP, np.arange(ccp.CCP.num_classes, dtype=np.int16)
    tasks: list[Task] = []
    for split in dataset.splits:
        for stem in names_of(dataset.name, split):
            photo, image, label = _places(dataset, split, stem, source / "photos", target)
            masks = source / "annotations" / "pixel-level" / f"{stem}.mat"
            tasks.append(ReducedImage(photo, image, CCP_SHARE))
            tasks.append(ReducedLabel(masks, label, CCP_SHARE, photo, table, "groundtruth"))
    return tasks


def plan_voc_subset(source: Path, target: Path) -> list[Task]:
    """What to do to turn VOC 2012 and SBD's masks into our layout under ``target``.

    ``source`` holds, at any of the depths at which the archives unpack, JPEGImages and
    SegmentationClass (the test split's masks) and SBD's folder cls (the training split's).

    Raises:
        DataError: if one of them is not there.
    """
    dataset = voc_subset.VOC_SUBSET
    places = {
        "JPEGImages": _find(source, _VOC_PLACES, "JPEGImages"),
        "SegmentationClass": _find(source, _VOC_PLACES, "SegmentationClass"),
        "SBD's folder cls": _find(source, _SBD_PLACES, "cls"),
    }
    _require(dataset, source, [name for name, place in places.items() if place is None])
    photos, own, extra = (place for place in places.values() if place is not None)
    table = np.full(IGNORE_INDEX + 1, -1, np.int16)
    table[: dataset.num_classes] = np.arange(dataset.num_classes)
    bordered = table.copy()
    bordered[IGNORE_INDEX] = IGNORE_INDEX
    tasks: list[Task] = []
    for split in dataset.splits:
        for stem in names_of(dataset.name, split):
            photo, image, label = _places(dataset, split, stem, photos, target)
            tasks.append(ReducedImage(photo, image, VOC_SHARE))
            if split == dataset.training_split:
                masks, known, variable = extra / f"{stem}.mat", table, "GTcls.Segmentation"
            else:
                masks, known, variable = own / f"{stem}.png", bordered, ""
            tasks.append(ReducedLabel(masks, label, VOC_SHARE, photo, known, variable))
    return tasks


def _places(
    dataset: DataSet, split: str, stem: str, photos: Path, target: Path
) -> tuple[Path, Path, Path]:
    """The photograph, and where its smaller image and annotation go."""
    layout = dataset.layouts[0]
    images, labels = (target / folder for folder in layout.folders[split])
    name = f"{stem}{layout.image_suffix}"
    return photos / name, images / name, labels / f"{stem}{layout.label_suffix}"


def _find(source: Path, places: Sequence[str], name: str) -> Path | None:
    folders = (source / place / name for place in places)
    return next((folder for folder in folders if folder.is_dir()), None)


def _require(dataset: DataSet, source: Path, missing: Iterable[str]) -> None:
    """Refuse a source that lacks something.

    Raises:
        DataError: names what is missing.
    """
    if lacking := ", ".join(missing):
        raise DataError(
            f"{source} holds no originals of {dataset.title}: missing {lacking}. {dataset.obtain}",
            remedy=Remedy("prepare", dataset.name),
        )
