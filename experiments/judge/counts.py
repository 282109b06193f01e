"""Parameters and multiply-accumulates of a table's rows, always of the paper-size network.

A count depends on nothing but the network's config and our code, so it is kept and reread; a
change of either counts anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from statistics import median
from typing import Any

from experiments.declare.extensions import own_line, sources_used
from experiments.declare.metrics import METRICS, Metric, value_at
from experiments.declare.model import ModelCard
from experiments.declare.registry import ExperimentRegistry
from experiments.declare.table import SIDE, SIDE_OF, Row, Table
from experiments.files import read_bounded, write_atomically
from experiments.imports import import_mmengine
from experiments.judge.verdict import Verdict, of_complexity
from experiments.machine import PROJECT
from experiments.plan.resolve import resolve_classifier
from experiments.store.meaning import meaning_of_file
from experiments.store.records import Record, Stored
from ssa.errors import ConfigurationError

_MOST_BYTES = 1 << 16  # of a kept count


class Count(Stored):
    """What one network costs."""

    params_m: float  # the auxiliary head included, the teacher left out
    macs_g: float  # the paper's convention
    macs_all_g: float  # every matrix product
    num_classes: int
    size: int  # side of the input, pixels


LookUp = Callable[[ModelCard, Row, int, int], Count | None]  # the last: classes, side in pixels


@dataclass(frozen=True)
class CountCell:
    """One number of a row beside the paper's, of a column that is neither mIoU nor gain."""

    measured: float | None
    reported: float | None
    verdict: Verdict
    note: str | None  # why they differ, from the table's file


class Counter:
    """Counts the rows of tables and remembers the results.

    Args:
        registry: where models are declared.
        folder: where counts are kept.
        shipped: where those that the project ships are; None: nowhere.
    """

    def __init__(
        self, registry: ExperimentRegistry, folder: Path, shipped: Path | None = None
    ) -> None:
        self.registry = registry
        self.folder = folder
        self.shipped = shipped

    def count(self, table: Table, row: Row) -> Count:
        """The cost of a row's network; counted now if it is not known.

        Raises:
            SsaError: the network cannot be built; results cannot be written.
        """
        found = self._find(table, row, self._counted)
        assert found is not None
        return found

    def known(self, table: Table, row: Row) -> Count | None:
        """:meth:`count` if it has been made before; nothing is counted now."""
        return self._find(table, row, self._stored)

    def _find(self, table: Table, row: Row, look_up: LookUp) -> Count | None:
        card = self.registry.model(str(row.model or table.model))
        dataset = str(row.dataset or table.dataset)
        size = row.counted_with.get("size", SIDE_OF.get(dataset, SIDE))
        num_classes = row.counted_with.get("num_classes") or _num_classes(dataset)
        found = look_up(card, row, num_classes, size)
        if found is None or table.params_num_classes in (None, num_classes):
            return found
        once = look_up(card, row, int(table.params_num_classes or 0), size)
        return found.model_copy(update={"params_m": once.params_m}) if once else None

    def _counted(self, card: ModelCard, row: Row, num_classes: int, size: int) -> Count:
        found = self._stored(card, row, num_classes, size)
        if found is None:
            classifier = resolve_classifier(row)
            found = _count(card, classifier, row.model_overrides, num_classes, size)
            path = self.path(card, row, num_classes, size)
            write_atomically(path, found.model_dump_json(indent=1) + "\n")
        return found

    def _stored(self, card: ModelCard, row: Row, num_classes: int, size: int) -> Count | None:
        kept = self.path(card, row, num_classes, size)
        found = read_count(kept)
        if found is None and self.shipped is not None:
            found = read_count(self.shipped / kept.name)
        return found

    def path(self, card: ModelCard, row: Row, num_classes: int, size: int) -> Path:
        """Where a count is kept: the name holds a digest of all that it depends on."""
        classifier = resolve_classifier(row)
        asked = {
            "segmentor": card.segmentor,
            "adapted": card.adapted,
            "overrides": row.model_overrides,
            "classifier": classifier,
            "num_classes": num_classes,
            "size": size,
            "code": code_that_counts(),
            **own_code(classifier["name"]),
        }
        key = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]
        return self.folder / f"{card.name}-{classifier['name']}-{num_classes}-{size}-{key}.json"


def read_count(path: Path) -> Count | None:
    """A count that is kept; None: there is none, or the file is damaged."""
    try:
        return Count.model_validate_json(read_bounded(path, _MOST_BYTES))
    except (OSError, ValueError):
        return None


def _count(
    card: ModelCard,
    classifier: dict[str, Any],
    overrides: dict[str, Any],
    num_classes: int,
    size: int,
) -> Count:
    import_mmengine()
    from experiments.judge.complexity import complexity

    try:
        found = complexity(
            card.model_dump(),
            classifier,
            num_classes=num_classes,
            size=size,
            model_overrides=overrides,
        )
    except Exception as error:
        if not (where := own_line(error)):
            raise
        what = " ".join(str(error).split())
        raise ConfigurationError(
            f"{where}{type(error).__name__}: {what} (while counting on the meta device, where "
            "tensors have shapes but no values)."
        ) from error
    return Count(
        params_m=found.params_m,
        macs_g=found.macs_g,
        macs_all_g=found.macs_all_g,
        num_classes=num_classes,
        size=size,
    )


def _num_classes(dataset: str) -> int:
    from ssa.datasets import DATASETS

    if dataset not in DATASETS:
        raise ConfigurationError(
            f"The number of classes of {dataset} is not known: declare it in datasets/ of a "
            "registry folder, or give the row counted_with: {num_classes: …}."
        )
    return DATASETS[dataset].num_classes


@lru_cache(maxsize=1)
def code_that_counts() -> str:
    """sha256 over what the sources that a count depends on mean."""
    folders = (".", "backbones", "classifiers", "classifiers/parts", "heads", "mask_classifiers")
    paths = [PROJECT / "experiments" / "judge" / "complexity.py"]
    paths += [path for name in folders for path in sorted((PROJECT / "ssa" / name).glob("*.py"))]
    meanings = sorted({meaning_of_file(path) for path in paths})
    return hashlib.sha256("\n".join(meanings).encode()).hexdigest()


def own_code(classifier: str) -> dict[str, str]:
    """sha256 of each file of a user's classifier, by module; nothing for one of ours."""
    from ssa.classifiers.catalogue import CLASSIFIERS, CONFIGS
    from ssa.models import NO_CLASSIFIER

    if classifier == NO_CLASSIFIER or classifier in CONFIGS:
        return {}
    sources = sources_used([CLASSIFIERS[classifier].__module__])
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in sources.items()}


def count_cells(
    row: Row, count: Count | None, records: Sequence[Record] = ()
) -> dict[str, CountCell]:
    """Every number of a row that is neither mIoU nor gain beside the paper's, by its metric.

    Args:
        row: with the paper's numbers.
        count: what its paper-size network costs; None: not counted.
        records: of its runs; a number of a run is the median over them.
    """
    cells = {}
    for metric in METRICS.values():
        if metric.source in ("scores", "gain"):
            continue
        measured = _measured(metric, row, count, records)
        reported = value_at(row.reported, metric.name)
        verdict = of_complexity(measured, reported, digits=metric.paper_digits)
        cells[metric.name] = CountCell(measured, reported, verdict, row.notes.get(metric.name))
    return cells


def _measured(
    metric: Metric, row: Row, count: Count | None, records: Sequence[Record]
) -> float | None:
    if metric.source == "count" and count:
        # a row says which of our counts the paper's is to be compared with
        return value_at(count, row.macs_printed if metric.name == "macs_g" else metric.field)
    if metric.source == "record":
        values = [value_at(record, metric.field) for record in records]
        known = [value for value in values if value is not None]
        return median(known) if known else None
    return None  # latency is measured by `bench latency` on a device and compared as a ratio
