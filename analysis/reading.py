"""What a picture is drawn from: its description, its records, and what was extracted of them.

No torch and no data set is needed here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from experiments.draw.drawing import Drawing, read_drawing
from experiments.draw.inspection import RunInspection, read_inspection, without_pictures
from experiments.errors import StoreError
from experiments.store.areas import ImageAreas
from experiments.store.distances import FeatureDistances, read_distances
from experiments.store.promises import read_promise
from experiments.store.records import Record
from experiments.store.store import Store


@dataclass(frozen=True)
class Line:
    """One line, matrix or column of a figure: the seeds of one row on one data set."""

    label: str
    baseline: bool
    records: tuple[Record, ...]  # in the order of their seeds
    inspections: tuple[RunInspection, ...]  # of the same runs; () where the kind needs none

    @property
    def dataset(self) -> str:
        """What was trained on."""
        return self.records[0].spec.dataset

    @property
    def dataset_settings(self) -> dict[str, Any]:
        """What that was made with."""
        return self.records[0].spec.dataset_settings

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of its runs."""
        return tuple(record.spec.seed for record in self.records)


@dataclass(frozen=True)
class Material:
    """Everything that a kind of figure draws from."""

    drawing: Drawing
    lines: tuple[Line, ...]
    folder: Path  # where its files go: results/figures

    @property
    def baseline(self) -> Line:
        """The line that the others are compared with."""
        return next((line for line in self.lines if line.baseline), self.lines[0])

    @property
    def others(self) -> tuple[Line, ...]:
        """All lines but the baseline, on the baseline's data set."""
        base = self.baseline
        return tuple(
            line for line in self.lines if not line.baseline and line.dataset == base.dataset
        )

    def on(self, dataset: str) -> tuple[Line, ...]:
        """The lines on one data set."""
        return tuple(line for line in self.lines if line.dataset == dataset)

    def differing_settings(self, line: Line) -> dict[str, Any]:
        """The settings that tell a line's data set from others of its name."""
        others = [other.dataset_settings for other in self.on(line.dataset)]
        return {
            name: value
            for name, value in line.dataset_settings.items()
            if any(other.get(name) != value for other in others)
        }

    def areas(self, record: Record) -> ImageAreas:
        """What one of its runs was scored by, image by image."""
        return Store(self.folder.parent).read_areas(record.run_id)

    def distances(self, record: Record) -> FeatureDistances | None:
        """How far the features of one of its runs lie from prototypes; None: not extracted."""
        return read_distances(Store(self.folder.parent), record)

    @cached_property
    def sequential(self) -> bool:
        """Whether a table of its rows was given seeds while its verdicts were looked at."""
        tables = {run.row.partition("/")[0] for run in self.drawing.runs}
        results, profile = self.folder.parent, self.drawing.profile
        return any(read_promise(results, table, profile) is not None for table in tables)

    @property
    def datasets(self) -> tuple[str, ...]:
        """What the lines were trained on, in their order."""
        return tuple(dict.fromkeys(line.dataset for line in self.lines))


def read_material(description: Path) -> Material:
    """Load what ``results/figures/<stem>.json`` describes, from the results folder around it.

    Raises:
        StoreError: the description or a run that it names is not there or has changed since.
        CorruptRecordError: a record is damaged.
        InspectionError: what was extracted of a run is damaged.
    """
    drawing = read_drawing(description)
    store = Store(description.resolve().parent.parent)
    found: dict[tuple[str, str, str], list[tuple[Record, RunInspection | None]]] = {}
    baselines: dict[str, bool] = {}
    for run in drawing.runs:
        record = store.read(run.run_id)
        if record is None or record.result_digest != run.result_digest:
            raise StoreError(
                f"{description} was drawn from {run.run_id}, which is not in {store.runs} as it "
                f"was; `./run_all.sh {drawing.figure.name}` describes it anew."
            )
        inspection = read_inspection(store, record) if drawing.figure.inspected else None
        if drawing.figure.inspected and inspection is None:
            raise StoreError(
                f"{run.run_id} has not been extracted; `./run_all.sh extract {run.run_id}` does it."
            )
        if inspection is not None and not drawing.pictures:
            inspection = without_pictures(inspection)  # of all lines where it is of one
        made = json.dumps(record.spec.dataset_settings, sort_keys=True)
        found.setdefault((run.label, record.spec.dataset, made), []).append((record, inspection))
        baselines[run.label] = run.baseline
    lines = tuple(
        Line(
            label=label,
            baseline=baselines[label],
            records=tuple(record for record, _ in runs),
            inspections=tuple(i for _, i in runs if i is not None),
        )
        for (label, *_), runs in found.items()
    )
    return Material(drawing, lines, description.resolve().parent)


def run_ids(lines: Sequence[Line]) -> list[str]:
    """The runs of some lines, each once."""
    return list(dict.fromkeys(record.run_id for line in lines for record in line.records))
