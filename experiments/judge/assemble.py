"""From runs to a table: medians, spreads, gains, verdicts, each with where it comes from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from experiments.declare.table import Row, Table
from experiments.errors import CorruptRecordError
from experiments.judge.claims import ClaimResult, Evidence, judge
from experiments.judge.counts import CountCell, Counter, count_cells
from experiments.judge.statistics import (
    Gain,
    ScoredRun,
    Summary,
    gain_over,
    noise_of_difference,
    pooled_seed_deviation,
    shared_seeds,
    summarise,
)
from experiments.judge.verdict import Verdict, against_paper, against_reference
from experiments.plan.plan import DONE, Plan, PlannedRun
from experiments.plan.resolve import Blocked, Resolver
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
    counts: dict[str, CountCell]  # params_m, macs_g, macs_all_g, latency_ms
    backbone: str = ""


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

    @property
    def complete(self) -> bool:
        """Whether every row has a record for every seed."""
        return all(len(row.records) == len(self.seeds) for row in self.rows)


def assemble(
    table: Table,
    plan: Plan,
    resolver: Resolver,
    store: Store,
    reference: Store | None,
    counter: Counter | None,
    *,
    gains: bool = True,
) -> TableResult:
    """Put one table together from what is stored now.

    Args:
        table: which one.
        plan: made after the last run ended.
        resolver: the profile of the plan.
        store: the runs' areas are read from it.
        reference: the project's shipped runs; None: there are none to compare with.
        counter: counts the paper-size networks, if the table has such columns; None: no counts.
        gains: whether to draw the intervals of gains and judge claims, which takes most of the
            time.
    """
    cells = [cell for cell in plan.cells if cell.table == table.name]
    seeds = tuple(dict.fromkeys(cell.seed for cell in cells))
    runs: dict[str, dict[int, PlannedRun]] = {row.id: {} for row in table.rows}
    absent: dict[str, list[str]] = {row.id: [] for row in table.rows}
    blocked: set[str] = set()
    for cell in cells:
        if cell.run is not None and cell.run.state in DONE:
            runs[cell.row][cell.seed] = cell.run
        elif cell.run is not None:
            absent[cell.row].append(f"seed {cell.seed}: {cell.run.reason}")
        else:
            blocked.add(cell.row)
            absent[cell.row] = [cell.blocked or ""]
    shipped = _reference_scores(table, resolver, reference)
    deviation = pooled_seed_deviation([_mious(done) for done in runs.values()])
    pooled = pooled_seed_deviation(
        [*(_mious(done) for done in runs.values()), *(values for values in shipped.values())]
    )
    counted = bool({"params_m", "macs_g", "macs_all_g"} & set(table.columns))

    @cache
    def scored(run_id: str) -> ScoredRun:
        return ScoredRun(store.read_areas(run_id))

    @cache
    def gain(ours: tuple[str, ...], theirs: tuple[str, ...]) -> Gain:
        return gain_over(list(map(scored, ours)), list(map(scored, theirs)))

    rows = []
    for row in table.rows:
        done = runs[row.id]
        values = _mious(done)
        miou = summarise(values) if values else None
        shipped_values = shipped.get(row.id, [])
        there = summarise(shipped_values) if shipped_values else None
        baseline = table.baseline_of(row)
        measured = miou.median if miou else None
        sure = noise_of_difference(pooled, len(values) or 1, len(shipped_values) or 1)
        rows.append(
            RowResult(
                row=row,
                model=resolver.model_of(table, row).title,
                backbone=resolver.model_of(table, row).backbone,
                dataset=resolver.data_of(table, row).name,
                paper_dataset=str(row.dataset or table.dataset),
                records=tuple(run.record for run in done.values() if run.record),
                stale=tuple(sorted({run.reason for run in done.values() if run.state == "stale"})),
                absent=tuple(absent[row.id]),
                blocked=row.id in blocked,
                miou=miou,
                gain=_gain(done, runs[baseline.id], gain)
                if gains and baseline.id != row.id
                else None,
                reference=there,
                versus_paper=_blocked(absent[row.id])
                if row.id in blocked and not values
                else against_paper(
                    measured,
                    row.reported.miou,
                    profile=resolver.profile.name,
                    comparable=resolver.profile.compares_with_paper,
                    noise=noise_of_difference(deviation, len(values) or 1, 1),
                ),
                versus_reference=against_reference(
                    measured, there.median if there else None, noise=sure
                ),
                counts=count_cells(row, counter.count(table, row) if counter and counted else None),
            )
        )
    records = {
        row_id: {seed: run.record for seed, run in done.items() if run.record}
        for row_id, done in runs.items()
    }
    return TableResult(
        table=table,
        profile=resolver.profile.name,
        profile_title=resolver.profile.title,
        seeds=seeds,
        rows=tuple(rows),
        seed_deviation=deviation,
        claims=judge(Evidence(table, records, scored)) if gains else (),
    )


def _blocked(reasons: Sequence[str]) -> Verdict:
    return Verdict("blocked", reasons[0])


def _mious(done: dict[int, PlannedRun]) -> list[float]:
    return [run.record.scores.miou for run in done.values() if run.record]


def _gain(
    row: dict[int, PlannedRun],
    baseline: dict[int, PlannedRun],
    gain: Callable[[tuple[str, ...], tuple[str, ...]], Gain],
) -> Gain | None:
    seeds = shared_seeds(row, baseline)
    if not seeds:
        return None
    ours, theirs = (tuple(runs[seed].spec.run_id for seed in seeds) for runs in (row, baseline))
    return gain(ours, theirs)


def _reference_scores(
    table: Table, resolver: Resolver, reference: Store | None
) -> dict[str, list[float]]:
    """mIoU of the project's own shipped runs of each row, all seeds of the profile."""
    if reference is None:
        return {}
    found: dict[str, list[float]] = {}
    for row in table.rows:
        for spec in resolver.resolve_seeds(table, row, range(resolver.profile.seeds)):
            if isinstance(spec, Blocked):
                continue
            try:
                record = reference.read(spec.run_id)
            except CorruptRecordError:
                continue
            if record is not None:
                found.setdefault(row.id, []).append(record.scores.miou)
    return found
