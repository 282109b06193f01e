"""The tables of a request, put together from what is stored now."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.declare.table import Table
from experiments.judge.assemble import TableResult, assemble
from experiments.judge.counts import Counter
from experiments.plan.plan import Plan
from experiments.plan.request import Request


def counter_of(request: Request) -> Counter:
    """Counts networks and remembers the counts among the request's results."""
    return Counter(request.registry, request.workspace.complexity)


def assembled(
    request: Request, tables: Sequence[Table], plan: Plan | None = None
) -> list[TableResult]:
    """The tables with what is stored now; nothing is trained.

    Args:
        request: whose results.
        tables: which ones.
        plan: of these tables, made after the last run ended; None: it is made now.
    """
    plan = request.plan(tables) if plan is None else plan
    counter = counter_of(request)
    return [
        assemble(table, plan, request.resolver, request.store, request.reference, counter)
        for table in tables
    ]
