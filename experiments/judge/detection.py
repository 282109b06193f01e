"""What it takes to see a gain in a table: seeds, runs and time, from stored deviations."""

from __future__ import annotations

from dataclasses import dataclass, replace

from experiments.declare.table import Table
from experiments.judge.assemble import evidence_of
from experiments.judge.power import PairSpread, pair_spread
from experiments.judge.spread import CONFIDENCE
from experiments.plan.plan import Plan, make_plan
from experiments.plan.request import Request

#: seeds that are looked for in a store
LOOKED_FOR = 30


@dataclass(frozen=True)
class Needed:
    """Seeds that see a gain, and the plan with them."""

    seeds: int | None  # None: more than anybody counts
    plan: Plan | None = None


@dataclass(frozen=True)
class Detection:
    """What it takes to see a gain of ``points`` in a table."""

    table: Table
    profile: str
    points: float
    spread: PairSpread | None  # None: no pair of rows has two seeds anywhere
    shipped: bool = False  # the deviations are of the project's own runs
    alone: Needed | None = None  # the interval of one gain
    together: Needed | None = None  # as the least sure of the table's claims


def detection(request: Request, table: Table, points: float) -> Detection:
    """Look up how a table's runs deviate and what follows from it; nothing is trained.

    Args:
        request: profile and folders; its rows alone are to be run.
        table: of the registry.
        points: the gain, percent points.
    """
    for store in request.stores:
        plan = make_plan([table], request.resolver, range(LOOKED_FOR), store, to_train=False)
        spread = pair_spread(evidence_of(plan.tables[0], store))
        if spread is not None:
            break
    else:
        return Detection(table, request.profile.name, points, None)

    def needed(alpha: float) -> Needed:
        seeds = spread.seeds_to_see(points, alpha)
        if seeds is None:
            return Needed(None)
        wider = replace(request, seeds=tuple(range(seeds)))
        return Needed(seeds, wider.plan([table]).only(request.rows))

    alpha, claims = 1.0 - CONFIDENCE, len(table.claims)
    return Detection(
        table,
        request.profile.name,
        points,
        spread,
        shipped=store.root != request.store.root,
        alone=needed(alpha),
        together=needed(alpha / claims) if claims > 1 else None,
    )
