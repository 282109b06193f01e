"""Seeds added to a table where they are worth most, until its claims are decided.

Nothing but stored runs decides: between two batches the table is judged anew from what is stored,
so that the same command goes on after any interruption. What is kept besides is how many seeds were
promised to each row (:mod:`experiments.store.promises`), before the first of them is trained.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from experiments.declare.table import Table
from experiments.errors import UnclearNameError
from experiments.judge.allocation import Seeds, Standing, next_seeds, standings
from experiments.judge.assemble import TableResult, assemble
from experiments.plan.estimate import makespan
from experiments.plan.plan import Plan, PlannedRun
from experiments.plan.request import Request
from experiments.store.promises import write_promise

#: seeds that every row is given before the first look; with fewer an interval is endless
FIRST_SEEDS = 3

End = Literal["settled", "budget", "blocked", "failed"]


@dataclass(frozen=True)
class Course:
    """Where a table stands between two batches."""

    result: TableResult
    claims: tuple[Standing, ...]
    num_runs: int  # trained by this call
    batch: Seeds = field(default_factory=dict)  # row → seeds that it is about to have

    def count(self, fate: str) -> int:
        """Claims of this fate."""
        return sum(claim.fate == fate for claim in self.claims)


#: trains the missing runs of a plan, of which the table stood so, and says whether all went well
Trainer: TypeAlias = Callable[[Plan, Course | None], bool]


class Budget:
    """How long a call may go on, from now.

    Args:
        seconds: of the clock; None: no end.
        clock: seconds, from whenever.
    """

    def __init__(self, seconds: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ends = None if seconds is None else clock() + seconds

    @property
    def left_s(self) -> float:
        """Seconds; endless without a budget."""
        return math.inf if self._ends is None else self._ends - self._clock()


def check_decidable(table: Table) -> None:
    """Raise UnclearNameError for a table that claims nothing."""
    if not table.claims:
        raise UnclearNameError(
            f"{table.name} declares no claims, so there is nothing to decide; `./run_all.sh "
            f"{table.name} --seeds 5` trains a number of seeds, and docs/claims.md says how claims "
            "are declared."
        )


def decide(
    request: Request,
    table: Table,
    budget: Budget,
    most: int,
    train: Trainer,
    told: Callable[[Course], None],
) -> tuple[End, Plan]:
    """Train seeds until every claim is decided, futile or beyond seeds, or the budget is spent.

    Seeds that are stored, whatever they were trained for, count at every look: the intervals hold
    for the first n seeds of a row whatever n is. A batch that is not expected to end within the
    budget is not begun.

    Args:
        request: profile, folders and how many runs go on at once.
        table: whose claims are to be decided.
        budget: of this call.
        most: seeds of a row.
        train: trains what a plan lacks.
        told: hears where the table stands, before every batch and at the end.

    Returns:
        Why it ended, and the plan as it stands.

    Raises:
        UnclearNameError: the table claims nothing.
        StoreError: the results folder takes nothing.
    """
    check_decidable(table)
    first = min(max(request.profile.seeds, FIRST_SEEDS), most)
    results, profile = request.workspace.results, request.profile.name
    write_promise(results, table.name, profile, {row.id: first for row in table.rows})
    request = replace(request, seeds=tuple(range(request.profile.seeds)))
    trained, course = 0, None
    while True:
        write_promise(results, table.name, profile, _stored_seeds(request, table, most))
        plan = request.plan([table])
        now = _affordable(plan, request.jobs, budget.left_s)
        if now.to_do:
            well = train(now, course)
            plan = plan.after([run.spec.run_id for run in now.to_do], request.store)
            left = {run.spec.run_id for run in plan.to_do}
            if not well or any(run.spec.run_id in left for run in now.to_do):
                return "failed", plan
            trained += len(now.to_do)
            continue
        course = _course(request, plan, trained, most)
        if plan.to_do:
            told(course)
            return "budget", plan
        batch = _batch(request, plan, course, budget.left_s, most)
        if batch and budget.left_s > 0:
            course = replace(course, batch=batch)
            told(course)
            write_promise(results, table.name, profile, batch)
            continue
        told(course)
        if course.count("open"):
            return ("blocked" if budget.left_s == math.inf else "budget"), plan
        return "settled", plan


def _stored_seeds(request: Request, table: Table, most: int) -> Seeds:
    """The first seeds of every row, up to one that is not stored."""
    (planned,) = replace(request, seeds=tuple(range(most))).plan([table]).tables
    return {
        row.row.id: next(n for n in range(most + 1) if n not in row.finished)
        for row in planned.rows
    }


def _course(request: Request, plan: Plan, trained: int, most: int) -> Course:
    (planned,) = plan.tables
    result = assemble(planned, request.store, request.reference)
    return Course(result, tuple(standings(result.claims, most)), trained)


def _affordable(plan: Plan, jobs: int, left_s: float) -> Plan:
    """As much of what is to be done as there is time for, whole seeds of all rows first.

    Of runs whose cost nobody knows one seed is begun as long as there is time at all.
    """
    if left_s == math.inf or not plan.to_do:
        return plan
    if left_s <= 0:
        return _with_runs(plan, ())
    chosen: list[PlannedRun] = []
    in_order = sorted(plan.to_do, key=lambda run: run.spec.seed)
    for _, runs in itertools.groupby(in_order, key=lambda run: run.spec.seed):
        for run in runs:
            costs = [each.expected_s or 0.0 for each in (*chosen, run)]
            if makespan((), costs, jobs) > left_s:
                return _with_runs(plan, chosen)
            chosen.append(run)
        if any(run.expected_s is None for run in chosen):
            break
    return _with_runs(plan, chosen)


def _with_runs(plan: Plan, runs: Iterable[PlannedRun]) -> Plan:
    """The plan with no other runs to do than these."""
    kept = {run.spec.run_id for run in runs}
    tables = []
    for table in plan.tables:
        rows = [
            replace(
                row,
                cells=tuple(
                    cell
                    for cell in row.cells
                    if cell.run is not None
                    and (cell.run.spec.run_id in kept or cell.seed in row.finished)
                ),
            )
            for row in table.rows
        ]
        tables.append(replace(table, rows=tuple(rows)))
    return Plan(tuple(tables))


def _batch(request: Request, plan: Plan, course: Course, left_s: float, most: int) -> Seeds:
    """What is to be trained next, at least as many runs as go on at once."""
    (planned,) = plan.tables
    seeds = {row.row.id: len(row.cells) for row in planned.rows}
    past = request.costs
    specs = {row.row.id: row.cells[0].spec for row in planned.rows}
    costs = {row: past.of(spec) if spec else None for row, spec in specs.items()}
    known = [cost for cost in costs.values() if cost is not None]
    usual = sum(known) / len(known) if known else None

    def cost(row: str) -> float:
        return costs[row] or usual or 1.0

    def fits(chosen: Mapping[str, int]) -> bool:
        if usual is None:
            return left_s > 0
        each = [cost(row) for row, n in chosen.items() for _ in range(n - seeds[row])]
        return makespan((), each, request.jobs) <= left_s

    return next_seeds(course.claims, seeds, cost, request.jobs, most, fits)
