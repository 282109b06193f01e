"""Whether the scores of two runs may be set against each other at all.

A difference of two scores says something of the networks only where both were scored on the same
images with the same labels, prepared alike, after the same kind of training. Every gain, p-value,
claim and comparison of records asks here first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from experiments.declare.run_spec import RunSpec
from experiments.declare.table import Table
from experiments.judge.statistics import shared_seeds
from experiments.store.records import Record

#: run id → the names of the images that it was scored on
ImageNames = Callable[[str], tuple[str, ...]]

#: of an evaluation: how often and how many at once, which changes no score
_BOOKKEEPING = frozenset({"interval", "batch"})
#: of a training: how a batch is computed, not what it is; records say it as a deviation
_COMPUTATION = frozenset({"accumulation", "amp", "channels_last"})


def comparable(
    first: Record,
    second: Record,
    images: ImageNames | None = None,
    *,
    own_rates: bool = False,
) -> str | None:
    """Why the scores of two records cannot be compared, in a few words; None: they can.

    Args:
        first: a finished run.
        second: another.
        images: tells the images by a run's id, and is asked last; None: the specs and the number
            of images decide.
        own_rates: the table declares that each has a learning rate of its own, chosen alike on a
            split that decides nothing else.
    """
    for reason in (
        _other_data(first.spec, second.spec),
        _other_evaluation(first.spec, second.spec),
        _other_protocol(first.spec, second.spec, own_rates=own_rates),
    ):
        if reason:
            return reason
    if first.num_images != second.num_images:
        return f"{first.num_images} and {second.num_images} images were scored"
    if images is not None and images(first.run_id) != images(second.run_id):
        return "the images that were scored have other names"
    return None


def comparable_seeds(
    row: Mapping[int, Record],
    baseline: Mapping[int, Record],
    images: ImageNames | None = None,
    *,
    own_rates: bool = False,
) -> str | None:
    """:func:`comparable` for every pair of runs of one seed; None also where there is none.

    Args:
        row: seed → record.
        baseline: the same of the row that is compared with.
        images: as in :func:`comparable`.
        own_rates: likewise.
    """
    pairs = ((row[seed], baseline[seed]) for seed in shared_seeds(row, baseline))
    reasons = (comparable(*pair, images, own_rates=own_rates) for pair in pairs)
    return next(filter(None, reasons), None)


def _other_data(first: RunSpec, second: RunSpec) -> str | None:
    if first.dataset_digest != second.dataset_digest:
        names = (f"{spec.dataset} {spec.dataset_digest[:8]}" for spec in (first, second))
        own = _differing(first.dataset_settings, second.dataset_settings)
        return f"other images ({' and '.join(names)}{f'; {own}' if own else ''})"
    if own := _differing(first.dataset_settings, second.dataset_settings):
        return f"the data set is read otherwise ({own})"
    if first.num_classes != second.num_classes:
        return f"{first.num_classes} and {second.num_classes} classes"
    if first.working_size != second.working_size:
        sizes = (_size(spec.working_size) for spec in (first, second))
        return f"images reduced to another working size ({' and '.join(sizes)})"
    return None


def _other_evaluation(first: RunSpec, second: RunSpec) -> str | None:
    ours, theirs = (
        spec.evaluation.model_dump(mode="json", exclude=set(_BOOKKEEPING))
        for spec in (first, second)
    )
    differing = _differing(ours, theirs)
    return f"scored by another protocol ({differing})" if differing else None


def own_rates(table: Table, pair: tuple[str, str]) -> bool:
    """Whether both rows of a pair have rates that were chosen for them, as their table declares."""
    return all(table.row(row_id).rate_from for row_id in pair)


def _other_protocol(first: RunSpec, second: RunSpec, *, own_rates: bool) -> str | None:
    """Different networks have their own published trainings; one network has one."""
    if first.profile != second.profile:
        return f"profiles {first.profile} and {second.profile}"
    if first.training.train_split != second.training.train_split:
        splits = f"{first.training.train_split} and {second.training.train_split}"
        return f"trained on another split ({splits})"
    if first.model != second.model:
        return None
    ours, theirs = (
        spec.training.model_dump(mode="json", exclude=set(_COMPUTATION)) for spec in (first, second)
    )
    if own_rates:
        rate = {"lr": None}
        ours, theirs = ({**each, "optimizer": each["optimizer"] | rate} for each in (ours, theirs))
    if differing := _differing(ours, theirs):
        return f"trained by another protocol ({differing})"
    if (first.weights, first.weights_sha256) != (second.weights, second.weights_sha256):
        return "trained from other pretrained weights"
    return None


def _differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> str:
    """``scale: None and 3`` of every field that differs; "" where none does."""
    names = [key for key in {**first, **second} if first.get(key) != second.get(key)]
    return ", ".join(f"{name}: {_short(first, name)} and {_short(second, name)}" for name in names)


def _short(fields: Mapping[str, Any], name: str) -> str:
    text = str(fields.get(name, "not given"))
    return text if len(text) <= 24 else f"{text[:21]}…"


def _size(size: tuple[int, int] | None) -> str:
    return "none" if size is None else f"{size[0]}×{size[1]}"
