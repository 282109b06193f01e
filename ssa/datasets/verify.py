"""Opening every file of a data set and naming everything that is wrong with it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ssa.datasets import scenes
from ssa.datasets.base import DataError, DataSet, Pair
from ssa.datasets.digest import content_digest
from ssa.datasets.folder import find
from ssa.datasets.pixels import UNREADABLE, read_label
from ssa.datasets.prepare import Progress

_CHUNK = 16
_EXIF_ORIENTATION = 0x0112
_SIDEWAYS = (5, 6, 7, 8)  # orientations that swap height and width


@dataclass(frozen=True)
class Found:
    """What one pair of files holds."""

    problems: tuple[str, ...]
    pixels: NDArray[np.int64]  # (256,) labelled pixels by class id, 255 = unlabelled
    size: tuple[int, int] | None  # height, width of the annotation


@dataclass(frozen=True)
class VerifyReport:
    """What verify found."""

    name: str
    root: Path
    counts: dict[str, int]  # split → images (files without a partner included)
    problems: tuple[str, ...]  # one sentence each; empty: the data set is right
    notes: tuple[str, ...]  # what is unusual but allowed
    pixels: dict[str, int]  # class name → labelled pixels over all splits
    unlabelled_pixels: int
    sizes: tuple[tuple[int, int], tuple[int, int]] | None  # smallest, largest height and width
    digest: str | None  # of the content; None while there are problems

    @property
    def ok(self) -> bool:
        """Whether training on it is allowed."""
        return not self.problems


def verify(
    name: str,
    data_root: Path,
    jobs: int = 1,
    on_progress: Progress | None = None,
    cache_dir: Path | None = None,
) -> VerifyReport:
    """Check counts, pairs, readability, sizes and labels of the data set ``name``.

    Decodes every file, so it takes as long as one pass over the data. A wrong file is a sentence
    in the report, not an exception.

    Args:
        jobs: processes to decode with.
        on_progress: called with (pairs done, all pairs).
        cache_dir: where file digests are kept (``content_digest``).

    Raises:
        UnknownNameError: if there is no such data set.
        DataError: if it is not under ``data_root``, or its folders are not as expected.
    """
    dataset = find(name, data_root)
    roots = _scenes_roots(data_root) if name == "scenes" else [dataset.locate(data_root)]
    reports = [_verify(dataset, root, jobs, on_progress, cache_dir) for root in roots]
    return next((report for report in reports if not report.ok), reports[0])


def check_labels(dataset: DataSet, root: Path) -> None:
    """Refuse masks that cannot be read or hold a value that is no class; opens every one.

    Raises:
        DataError: about the first such mask.
    """
    table = dataset.label_table(root)
    for split in dataset.splits:
        for pair in dataset.load_index(root, split):
            values = np.bincount(read_label(pair.label).ravel(), minlength=256)
            if sentence := _wrong_values(pair.label, values, table, dataset.num_classes):
                raise DataError(sentence)


def _scenes_roots(data_root: Path) -> list[Path]:
    roots = sorted(p for p in Path(data_root).glob("scenes-*") if p.is_dir())
    return roots or [scenes.ensure(data_root)]


def _verify(
    dataset: DataSet, root: Path, jobs: int, on_progress: Progress | None, cache_dir: Path | None
) -> VerifyReport:
    problems: list[str] = []
    counts: dict[str, int] = {}
    pairs: list[Pair] = []
    for split in dataset.splits:
        whole, halves = dataset.pairs(root, split)
        counts[split] = len(whole) + len(halves)
        problems += [f"{half}." for half in halves]
        if not counts[split] and split not in dataset.counts:
            problems.append(f"{dataset.emptiness(root, split)}.")
        pairs += whole
    problems += [f"{sentence}." for sentence in dataset.miscounts(root, counts)]
    inspect = partial(_inspect, dataset.label_table(root), dataset.num_classes)
    found = list(_inspected(pairs, inspect, jobs, on_progress))
    problems += [sentence for pair in found for sentence in pair.problems]
    pixels = sum((pair.pixels for pair in found), np.zeros(256, np.int64))
    notes = []
    if dataset.is_variant(counts):
        notes.append(
            f"{' + '.join(map(str, counts.values()))} images, as the .mat files give; the paper's "
            f"protocol has {' + '.join(map(str, dataset.counts.values()))}."
        )
    absent = [n for n, count in zip(dataset.class_names, pixels) if count == 0]
    if absent and found:
        notes.append(f"No pixel of {', '.join(absent[:10])}{' …' * (len(absent) > 10)}.")
    digest = None
    if not problems:
        digest = content_digest(dataset, root, dataset.splits, cache_dir)
        if dataset.name == "scenes":
            problems += _scenes_problems(dataset, root)
    sizes = [pair.size for pair in found if pair.size]
    return VerifyReport(
        name=dataset.name,
        root=root,
        counts=counts,
        problems=tuple(problems),
        notes=tuple(notes),
        pixels={n: int(count) for n, count in zip(dataset.class_names, pixels)},
        unlabelled_pixels=int(pixels[dataset.ignore_index]),
        sizes=(min(sizes, key=_area), max(sizes, key=_area)) if sizes else None,
        digest=None if problems else digest,
    )


def _area(size: tuple[int, int]) -> int:
    return size[0] * size[1]


def _inspected(
    pairs: list[Pair], inspect: partial[list[Found]], jobs: int, on_progress: Progress | None
) -> Iterator[Found]:
    stream = iter(pairs)
    chunks = list(iter(lambda: list(islice(stream, _CHUNK)), []))
    done = 0
    if jobs > 1:
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            for found in pool.map(inspect, chunks):
                done += len(found)
                if on_progress:
                    on_progress(done, len(pairs))
                yield from found
    else:
        for found in map(inspect, chunks):
            done += len(found)
            if on_progress:
                on_progress(done, len(pairs))
            yield from found


def _inspect(table: NDArray[np.uint8], num_classes: int, pairs: list[Pair]) -> list[Found]:
    return [_inspect_pair(pair, table, num_classes) for pair in pairs]


def _inspect_pair(pair: Pair, table: NDArray[np.uint8], num_classes: int) -> Found:
    problems: list[str] = []
    pixels = np.zeros(256, np.int64)
    sizes, size = _image_sizes(pair.image, problems), None
    try:
        raw = read_label(pair.label)
    except DataError as error:
        problems.append(str(error))
    else:
        size = (int(raw.shape[0]), int(raw.shape[1]))
        values = np.bincount(raw.ravel(), minlength=256)
        np.add.at(pixels, table, values)
        if sentence := _wrong_values(pair.label, values, table, num_classes):
            problems.append(sentence)
        if sizes and size not in sizes:
            problems.append(
                f"{pair.image} has {sizes[0][0]}×{sizes[0][1]} pixels, its annotation "
                f"{size[0]}×{size[1]}."
            )
    return Found(tuple(problems), pixels, size)


def _wrong_values(
    path: Path, values: NDArray[np.int64], table: NDArray[np.uint8], num_classes: int
) -> str:
    """The sentence about raw values of a mask, counted in ``values`` (256,), that are no class."""
    wrong = [
        str(value)
        for value in np.flatnonzero(values)
        if table[value] != 255 and table[value] >= num_classes
    ]
    if not wrong:
        return ""
    return (
        f"{path} holds the label {', '.join(wrong[:5])}; the {num_classes} classes are "
        f"{_raw_range(table, num_classes)}."
    )


def _image_sizes(path: Path, problems: list[str]) -> list[tuple[int, int]]:
    """The sizes (height, width) an image may be read with: as stored, and turned as EXIF says."""
    try:
        with Image.open(path) as image:
            image.load()  # Pillow refuses a truncated file, OpenCV paints the rest grey
            width, height = image.size
            turned = image.getexif().get(_EXIF_ORIENTATION) in _SIDEWAYS
    except UNREADABLE as error:
        problems.append(f"Cannot read the image {path}: {error}.")
        return []
    return [(height, width), (width, height)] if turned else [(height, width)]


def _raw_range(table: NDArray[np.uint8], num_classes: int) -> str:
    raw = np.flatnonzero(table < num_classes)
    others = np.flatnonzero(table == 255)
    return f"{raw.min()} … {raw.max()}, unlabelled {' or '.join(map(str, others))}"


def _scenes_problems(dataset: DataSet, root: Path) -> list[str]:
    """Whether a scenes folder holds what its own description says it was made with."""
    try:
        meta = json.loads((root / scenes.META).read_text())
        given = scenes.ScenesParameters(**meta["parameters"])
        expected = Counter(train=given.train, val=given.val)
        made = meta["content_sha256"]
    except (OSError, ValueError, KeyError, TypeError, DataError) as error:
        return [f"{root / scenes.META} is damaged: {error!r}. Delete {root}; it is made again."]
    found = Counter({split: len(dataset.load_index(root, split)) for split in dataset.splits})
    if found != expected or scenes.content_sha256(root) != made:
        return [f"{root} is not what was made there. Delete it; it is made again."]
    return []
