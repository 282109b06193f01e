"""From runs to a table: medians, spreads, gains, verdicts, each with where it comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from experiments.declare.metrics import METRICS
from experiments.declare.table import Row, Table
from experiments.errors import CorruptRecordError
from experiments.judge.claims import ClaimResult, Evidence, judge
from experiments.judge.comparability import comparable_seeds, own_rates
from experiments.judge.counts import Count, CountCell, count_cells
from experiments.judge.spread import noise_between
from experiments.judge.statistics import (
    Gain,
    ScoredRun,
    Summary,
    gain_of,
    noise_of_difference,
    pooled_seed_deviation,
    summarise,
)
from experiments.judge.verdict import FALSE_ALARMS, Verdict, against_paper, against_reference
from experiments.plan.plan import PlannedRow, PlannedTable
from experiments.store.distances import read_distances
from experiments.store.records import Record
from experiments.store.store import Store


@dataclass(frozen=True)
class RowResult:
    """One row with all that is known of it."""

    row: Row
    model: str
    dataset: str  # that was trained on
    paper_dataset: str
    records: tuple[Record, ...]  # in the order of their seeds
    stale: tuple[str, ...]  # modules of ours that changed since a record was made
    absent: tuple[str, ...]  # why seeds have no record, one sentence each
    blocked: bool
    miou: Summary | None
    gain: Gain | None
    reference: Summary | None
    versus_paper: Verdict
    versus_reference: Verdict
    counts: dict[str, CountCell]  # metric → number; all but mIoU and gain
    backbone: str = ""
    incomparable: str | None = None  # why the runs are none to count a gain over the baseline's
    num_seeds: int = 0  # that the row is to have

    @property
    def complete(self) -> bool:
        """Whether the row has a record for every seed."""
        return len(self.records) == self.num_seeds


@dataclass(frozen=True)
class TableResult:
    """A table with its numbers; nothing in it is formatted."""

    table: Table
    profile: str
    profile_title: str
    seeds: tuple[int, ...]
    rows: tuple[RowResult, ...]
    seed_deviation: float | None  # pooled over the rows, percent points of mIoU
    claims: tuple[ClaimResult, ...] = ()  # in the table's order
    sequential: bool = False  # seeds were added while verdicts were looked at

    @property
    def complete(self) -> bool:
        """Whether every row has a record for every seed."""
        return all(row.complete for row in self.rows)

    @property
    def columns(self) -> tuple[str, ...]:
        """Metrics with a column: those that the table names, then those that its data bring."""
        brought = (
            name
            for name, metric in METRICS.items()
            if metric.where_measured
            for row in self.rows
            if name in row.counts and row.counts[name].measured is not None
        )
        return tuple(dict.fromkeys((*self.table.columns, *brought)))


def assemble(
    planned: PlannedTable,
    store: Store,
    reference: Store | None,
    counts: Mapping[str, Count] | None = None,
    *,
    gains: bool = True,
) -> TableResult:
    """Judge a planned table.

    Args:
        planned: as it stands after the last run ended.
        store: the runs' areas are read from it.
        reference: the project's shipped runs; None: there are none to compare with.
        counts: row id → cost of the paper-size network; None: no counts.
        gains: whether to draw the intervals of gains and judge claims, which takes most of the
            time.
    """
    rows = {row.row.id: row for row in planned.rows}
    measured = {row_id: _mious(row) for row_id, row in rows.items()}
    shipped = {row_id: _shipped_mious(row, reference) for row_id, row in rows.items()}
    deviation = pooled_seed_deviation(list(measured.values()))
    evidence = evidence_of(planned, store)
    results = []
    for row_id, row in rows.items():
        baseline = rows[row.baseline]
        incomparable = _incomparable(row, baseline, evidence) if gains else None
        miou, reference_miou = _summary(measured[row_id]), _summary(shipped[row_id])
        results.append(
            RowResult(
                row=row.row,
                model=row.card.title,
                backbone=row.card.backbone,
                dataset=row.dataset,
                paper_dataset=row.paper_dataset,
                records=tuple(row.records.values()),
                num_seeds=len(row.cells),
                stale=row.stale,
                absent=row.absent,
                blocked=row.blocked,
                miou=miou,
                gain=_gain(row, baseline, evidence) if gains and not incomparable else None,
                incomparable=incomparable,
                reference=reference_miou,
                versus_paper=_versus_paper(row, miou, planned, deviation),
                versus_reference=_versus_reference(
                    row_id, measured, shipped, planned.table.paper.stated_error
                ),
                counts=count_cells(
                    row.row,
                    counts.get(row_id) if counts else None,
                    tuple(row.records.values()),
                ),
            )
        )
    return TableResult(
        table=planned.table,
        profile=planned.profile.name,
        profile_title=planned.profile.title,
        seeds=planned.seeds,
        rows=tuple(results),
        seed_deviation=deviation,
        claims=judge(evidence) if gains else (),
        sequential=planned.sequential,
    )


def evidence_of(planned: PlannedTable, store: Store) -> Evidence:
    """What is judged by: the finished runs of a planned table and their areas, read when needed."""
    records = {row.row.id: row.records for row in planned.rows}
    scored = cache(lambda run: ScoredRun(store.read_areas(run)))
    return Evidence(
        planned.table,
        records,
        scored,
        sequential=planned.sequential,
        areas=store.read_areas,
        distances=lambda record: read_distances(store, record),
    )


def _incomparable(row: PlannedRow, baseline: PlannedRow, evidence: Evidence) -> str | None:
    """Why no gain of one row over the other can be counted, though both have runs."""
    if row.row.id == baseline.row.id:
        return None
    own = own_rates(evidence.table, (row.row.id, baseline.row.id))
    return comparable_seeds(row.records, baseline.records, evidence.images, own_rates=own)


def _gain(row: PlannedRow, baseline: PlannedRow, evidence: Evidence) -> Gain | None:
    """Over the seeds that both rows have; None: there are none, or it is its own baseline."""
    pair = (row.row.id, baseline.row.id)
    if pair[0] == pair[1] or not evidence.seeds(pair):
        return None
    return gain_of(evidence.difference(pair).estimate)


def _mious(row: PlannedRow) -> list[float]:
    return [record.scores.miou for record in row.records.values()]


def _shipped_mious(row: PlannedRow, reference: Store | None) -> list[float]:
    """mIoU of the project's own shipped runs of a row, all seeds of the profile."""
    if reference is None:
        return []
    mious = []
    for spec in row.shipped:
        try:
            record = reference.read(spec.run_id)
        except CorruptRecordError:
            continue
        if record is not None:
            mious.append(record.scores.miou)
    return mious


def _summary(mious: Sequence[float]) -> Summary | None:
    return summarise(mious) if mious else None


def _versus_paper(
    row: PlannedRow, miou: Summary | None, planned: PlannedTable, deviation: float | None
) -> Verdict:
    if row.blocked and miou is None:
        return Verdict("blocked", row.absent[0])
    return against_paper(
        miou.median if miou else None,
        row.row.reported.miou,
        profile=planned.profile.name,
        comparable=planned.profile.compares_with_paper,
        noise=noise_of_difference(deviation, miou.num_seeds if miou else 1, 1),
        stated_error=planned.table.paper.stated_error,
    )


def _versus_reference(
    row_id: str,
    measured: Mapping[str, list[float]],
    shipped: Mapping[str, list[float]],
    stated_error: float | None,
) -> Verdict:
    """Of the means over the seeds; the table's other rows lend their deviation."""
    ours, theirs = measured[row_id], shipped[row_id]
    if not ours or not theirs:
        means = (float(np.mean(values)) if values else None for values in (ours, theirs))
        return against_reference(*means, noise=0.0, stated_error=stated_error)
    taken = {tuple(ours), tuple(theirs)}
    lenders = {tuple(own) for rows in (measured, shipped) for own in rows.values()} - taken
    noise = noise_between(ours, theirs, sorted(lenders), FALSE_ALARMS)
    means_of = (float(np.mean(ours)), float(np.mean(theirs)))
    return against_reference(*means_of, noise=noise, stated_error=stated_error)
