"""The tables of a plan: their networks counted, their runs judged."""

from __future__ import annotations

from experiments.declare.metrics import METRICS
from experiments.declare.table import Table
from experiments.judge.assemble import TableResult, assemble
from experiments.judge.counts import Count, Counter
from experiments.plan.plan import Plan
from experiments.plan.request import Request


def counter_of(request: Request) -> Counter:
    """Counts networks, but those whose counts are shipped; remembers them among the results."""
    workspace = request.workspace
    return Counter(request.registry, workspace.complexity, workspace.reference / "complexity")


def counts_of(table: Table, counter: Counter) -> dict[str, Count]:
    """Row id → cost of its network; nothing where no column of the table tells it."""
    if all(METRICS[name].source != "count" for name in table.columns):
        return {}
    return {row.id: counter.count(table, row) for row in table.rows}


def assembled(request: Request, plan: Plan) -> list[TableResult]:
    """The tables of a plan, judged by what the plan says is stored; nothing is trained."""
    store, reference, counter = request.store, request.reference, counter_of(request)
    return [
        assemble(planned, store, reference, counts_of(planned.table, counter))
        for planned in plan.tables
    ]
