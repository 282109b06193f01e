"""Opening every file of a data set and naming everything that is wrong with it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssa.datasets import scenes
from ssa.datasets.base import IGNORE_INDEX, DataError, DataSet, Pair
from ssa.datasets.digest import content_digest, unstorable_name
from ssa.datasets.folder import find
from ssa.datasets.pixels import image_sizes, label_size, other_size, read_label
from ssa.datasets.prepare import Progress

_CHUNK = 16


@dataclass(frozen=True)
class Found:
    """What one pair of files holds."""

    problems: tuple[str, ...]
    values: NDArray[np.int64]  # (256,) pixels by raw value
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


def check_pairs(dataset: DataSet, root: Path, every_value: bool) -> dict[str, str]:
    """Refuse pairs that training would stumble over: unreadable, of two sizes, with odd values.

    Of images only the headers are read, so it takes a fraction of what ``verify`` takes.

    Args:
        dataset: what is checked.
        root: its folder.
        every_value: decode every mask, for masks that nobody has checked before; else only
            headers, and masks until one with a label is found.

    Returns:
        Split → why it is of no use to train or to score on, for those that are of none.

    Raises:
        DataError: about the first pair that is wrong.
    """
    table = dataset.label_table(root)
    unfit: dict[str, str] = {}
    for split in dataset.splits:
        seen = np.zeros(256, np.int64)
        for pair in dataset.load_index(root, split):
            if every_value or not _labelled(seen, table):
                raw = read_label(pair.label)
                size = (int(raw.shape[0]), int(raw.shape[1]))
                values = np.bincount(raw.ravel(), minlength=256)
                seen += values
                if sentence := _wrong_values(pair.label, values, table, dataset.num_classes):
                    raise DataError(sentence)
            else:
                size = label_size(pair.label)
            if sentence := other_size(pair, image_sizes(pair.image), size):
                raise DataError(sentence)
        if sentence := _unfit(dataset, split, seen, table, every_value):
            unfit[split] = sentence
    return unfit


def _labelled(values: NDArray[np.int64], table: NDArray[np.uint8]) -> int:
    """How many of the pixels, counted by raw value, have a class."""
    return int(values[table != IGNORE_INDEX].sum())


def _unfit(
    dataset: DataSet,
    split: str,
    values: NDArray[np.int64],
    table: NDArray[np.uint8],
    all_seen: bool = True,
) -> str:
    """Why a split is of no use, by how often its masks hold each raw value (256,); "" if it is."""
    held = np.flatnonzero(values)
    if all_seen and held.tolist() == [0, 255] and tuple(table[[0, 255]]) == (0, IGNORE_INDEX):
        return (
            f"The masks of {dataset.title}, {split}, hold 0 and 255 only, and 255 means unlabelled:"
            f" only {dataset.class_names[0]} would be learnt and scored. If 255 is the foreground, "
            'give its class by label_map {"255": 1} in the description of the data set, or write '
            "the masks with 0 and 1."
        )
    if held.size and not _labelled(values, table):
        return (
            f"No pixel of {dataset.title}, {split}, is labelled: its masks hold "
            f"{', '.join(map(str, held[:5]))} only, which means unlabelled. Give it masks with "
            "classes (label_map, reduce_zero_label say how values are read), or name another split "
            "as training_split or evaluation_split."
        )
    return ""


def _scenes_roots(data_root: Path) -> list[Path]:
    roots = sorted(p for p in Path(data_root).glob("scenes-*") if p.is_dir())
    return roots or [scenes.ensure(data_root)]


def _verify(
    dataset: DataSet, root: Path, jobs: int, on_progress: Progress | None, cache_dir: Path | None
) -> VerifyReport:
    problems: list[str] = []
    counts: dict[str, int] = {}
    pairs: list[Pair] = []
    wholes: list[int] = []  # pairs of each split
    for split in dataset.splits:
        whole, halves = dataset.pairs(root, split)
        counts[split] = len(whole) + len(halves)
        problems += [f"{half}." for half in halves]
        if not counts[split] and split not in dataset.counts:
            problems.append(f"{dataset.emptiness(root, split)}.")
        pairs += whole
        wholes.append(len(whole))
    problems += [f"{sentence}." for sentence in dataset.miscounts(root, counts)]
    table = dataset.label_table(root)
    inspect = partial(_inspect, table, dataset.num_classes)
    found = list(_inspected(pairs, inspect, jobs, on_progress))
    problems += [sentence for pair in found for sentence in pair.problems]
    notes: list[str] = []
    for split, values in zip(dataset.splits, _by_split(found, wholes)):
        if sentence := _unfit(dataset, split, values, table):
            used = split in (dataset.training_split, dataset.evaluation_split)
            (problems if used else notes).append(sentence)
    pixels = np.zeros(256, np.int64)
    np.add.at(pixels, table, _sum(found))
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


def _sum(found: Sequence[Found]) -> NDArray[np.int64]:
    return sum((pair.values for pair in found), np.zeros(256, np.int64))


def _by_split(found: Sequence[Found], numbers: Sequence[int]) -> Iterator[NDArray[np.int64]]:
    """Pixels by raw value of each split; ``found`` holds as many pairs of each as ``numbers``."""
    stream = iter(found)
    for number in numbers:
        yield _sum(list(islice(stream, number)))


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
    problems = [sentence] if (sentence := unstorable_name(pair.image)) else []
    values = np.zeros(256, np.int64)
    sizes: list[tuple[int, int]] = []
    size = None
    try:
        sizes = image_sizes(pair.image, decode=True)
    except DataError as error:
        problems.append(str(error))
    try:
        raw = read_label(pair.label)
    except DataError as error:
        problems.append(str(error))
    else:
        size = (int(raw.shape[0]), int(raw.shape[1]))
        values = np.bincount(raw.ravel(), minlength=256)
        if sentence := _wrong_values(pair.label, values, table, num_classes):
            problems.append(sentence)
        if sizes and (sentence := other_size(pair, sizes, size)):
            problems.append(sentence)
    return Found(tuple(problems), values, size)


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
