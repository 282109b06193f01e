"""What a data set is: its classes, its splits, and where its files lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssa.errors import Remedy, SsaError, UnknownNameError
from ssa.registry import Registry

IGNORE_INDEX = 255


class DataError(SsaError):
    """A data set on disk that is not what it should be."""


class Pair(NamedTuple):
    """One image and its annotation."""

    image: Path
    label: Path


@dataclass(frozen=True)
class Layout:
    """One way in which a data set's files lie under its root."""

    name: str  # for messages: "mmsegmentation", "SegNet"
    folders: Mapping[str, tuple[str, str]]  # split → (image folder, annotation folder)
    image_suffix: str = ".jpg"  # of image files
    label_suffix: str = ".png"  # replaces image_suffix in an annotation's name
    lists: Mapping[str, str] = field(default_factory=dict)  # split → file with one stem a line
    label_map: Mapping[int, int] = field(default_factory=dict)  # raw id → id; others unchanged
    converted: bool = False  # annotations are PNG written by us: the digest takes their pixels

    def matches(self, root: Path) -> bool:
        """Whether every folder and list of this layout is there."""
        folders = {f for pair in self.folders.values() for f in pair}
        return all((root / f).is_dir() for f in folders) and all(
            (root / f).is_file() for f in self.lists.values()
        )


@dataclass(frozen=True)
class DataSet:
    """A data set: everything that is known of it before its files are seen."""

    name: str  # the registry's key
    title: str  # as the paper and the tables write it
    class_names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]  # RGB, one a class
    counts: Mapping[str, int]  # split → number of images; empty: not known beforehand
    layouts: tuple[Layout, ...]  # the first is the one that prepare writes
    folders: tuple[str, ...]  # names under the data root where it is looked for
    obtain: str  # one sentence: how a user gets it
    training_split: str = "train"
    evaluation_split: str = "val"
    reduce_zero_label: bool = False  # raw 0 is unlabelled, raw k is class k−1
    ignore_index: int = IGNORE_INDEX
    other_counts: Mapping[str, int] = field(default_factory=dict)  # of a known variant; accepted

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.class_names)

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits."""
        return tuple(self.layouts[0].folders)

    def locate(self, data_root: Path) -> Path:
        """The folder of this data set under ``data_root`` (or ``data_root`` itself).

        Raises:
            DataError: if neither holds one of its layouts.
        """
        data_root = Path(data_root)
        for root in [*(data_root / folder for folder in self.folders), data_root]:
            if any(layout.matches(root) for layout in self.layouts):
                return root
        nearest = next((data_root / f for f in self.folders if (data_root / f).is_dir()), None)
        if nearest is not None:
            self.layout(nearest)  # raises, and names what is missing there
        looked = " or ".join(str(data_root / folder) for folder in self.folders)
        raise DataError(
            f"No {self.title} in {looked}. {self.obtain}", remedy=Remedy("prepare", self.name)
        )

    def layout(self, root: Path) -> Layout:
        """The layout in which the files under ``root`` lie.

        Raises:
            DataError: if none matches; names the folders expected and those found.
        """
        root = Path(root)
        for layout in self.layouts:
            if layout.matches(root):
                return layout
        expected = self.layouts[0]
        names = sorted({f for pair in expected.folders.values() for f in pair})
        names += sorted(expected.lists.values())
        missing = [name for name in names if not (root / name).exists()]
        if root.is_dir():
            found = ", ".join(sorted(p.name for p in _listed(root))[:12]) or "nothing"
        else:
            found = "no such folder"
        raise DataError(
            f"{root} is not {self.title}: expected {', '.join(names)}; "
            f"missing {', '.join(missing)}; found {found}. {self.obtain}",
            remedy=Remedy("prepare", self.name),
        )

    def load_index(self, root: Path, split: str) -> list[Pair]:
        """All pairs of a split, sorted by name (or in the order of the split's list file).

        Raises:
            UnknownNameError: if there is no such split.
            DataError: if the folder is not this data set, is empty, or files lack a partner.
        """
        pairs, problems = self.pairs(root, split)
        if not (pairs or problems):
            problems = [self.emptiness(root, split)]
        if problems:
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            raise DataError(
                f"{self.title}, {split}: {problems[0]}{more}.", remedy=Remedy("verify", self.name)
            )
        return pairs

    def emptiness(self, root: Path, split: str) -> str:
        """The sentence about a split without any file."""
        layout = self.layout(root)
        return f"{Path(root) / layout.folders[split][0]} holds no *{layout.image_suffix} file"

    def pairs(self, root: Path, split: str) -> tuple[list[Pair], list[str]]:
        """The pairs of a split that are whole, and a sentence for each file that is not."""
        if split not in self.splits:
            raise UnknownNameError(f"split of {self.title}", split, self.splits)
        root, layout = Path(root), self.layout(root)
        images, labels = (root / folder for folder in layout.folders[split])
        suffix, label_suffix = layout.image_suffix, layout.label_suffix
        have_images = _stems(images, suffix)
        have_labels = _stems(labels, label_suffix)
        if split in layout.lists:
            lines = (root / layout.lists[split]).read_text().split()
            stems = [Path(line).name.removesuffix(suffix) for line in lines]
            wanted = set(stems)
            have_images, have_labels = have_images & wanted, have_labels & wanted
        else:
            stems = sorted(have_images | have_labels)
        problems = []
        for stem in stems:
            if stem not in have_labels and stem not in have_images:
                problems.append(f"{images / (stem + suffix)} is in the list but not there")
            elif stem not in have_labels:
                problems.append(f"{images / (stem + suffix)} has no annotation in {labels}")
            elif stem not in have_images:
                problems.append(f"{labels / (stem + label_suffix)} has no image in {images}")
        pairs = [
            Pair(images / (stem + suffix), labels / (stem + label_suffix))
            for stem in stems
            if stem in have_images and stem in have_labels
        ]
        return pairs, problems

    def check(self, root: Path, splits: Sequence[str] | None = None) -> None:
        """Refuse a folder with a wrong layout, files without a partner or a wrong number of them.

        Looks at names only, so it takes milliseconds; ``verify`` opens every file.

        Raises:
            DataError: with one sentence that says what was expected and what was found.
        """
        found = {split: len(self.load_index(root, split)) for split in splits or self.splits}
        if sentences := self.miscounts(root, found):
            raise DataError(f"{sentences[0]}.", remedy=Remedy("verify", self.name))

    def miscounts(self, root: Path, found: Mapping[str, int]) -> list[str]:
        """A sentence for each split with another number of images than it should have."""
        if self.is_variant(found):
            return []
        return [
            f"{self.title}, {split}: expected {self.counts[split]} images under {root}, "
            f"found {number}"
            for split, number in found.items()
            if split in self.counts and number != self.counts[split]
        ]

    def is_variant(self, found: Mapping[str, int]) -> bool:
        """Whether these are the numbers of images of the known variant."""
        return bool(self.other_counts) and all(self.other_counts[s] == n for s, n in found.items())

    def label_table(self, root: Path) -> NDArray[np.uint8]:
        """(256,) uint8: raw value in an annotation file → class id or 255."""
        table = np.arange(256, dtype=np.uint8)
        if self.reduce_zero_label:
            table = np.concatenate([[np.uint8(255)], table[:254], [np.uint8(255)]])
        for raw, label in self.layout(root).label_map.items():
            table[raw] = label
        return table


DATASETS: Registry[DataSet] = Registry("data set")


def register(dataset: DataSet) -> DataSet:
    """Enter a data set into the registry under its own name."""
    return DATASETS.register(dataset.name)(dataset)


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise DataError(
            f"Cannot read the folder {folder}: {error.strerror}. Check its permissions."
        ) from error


def _stems(folder: Path, suffix: str) -> set[str]:
    return {p.name.removesuffix(suffix) for p in _listed(folder) if p.name.endswith(suffix)}
