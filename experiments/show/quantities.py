"""The numbers of a table, each by the name under which a text may quote it (docs/prose.md)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from experiments.declare.metrics import METRICS
from experiments.judge.assemble import RowResult, TableResult
from experiments.judge.claims import ClaimResult
from experiments.judge.statistics import Gain
from experiments.show.claims import SIGNED

CLAIM = "claim:"  # begins the name of a claim; no row's id has a colon

#: what low and high are: a 95 % interval, or the smallest and largest of the seeds
Span = Literal["", "interval", "range"]


@dataclass(frozen=True)
class Quantity:
    """One number, or one word, that a text may quote."""

    value: float | int | str | None  # None: nothing is stored
    low: float | None = None
    high: float | None = None
    span: Span = ""
    digits: int = 2  # that are printed
    signed: bool = False  # printed with its sign, also where it is positive
    stale: tuple[str, ...] = ()  # why the runs behind it are older than the code

    def negated(self) -> Quantity:
        """The same seen from the other side: 8.0 points below is −8.0 points above.

        Raises:
            ValueError: a word has no other side.
        """
        if isinstance(self.value, str):
            raise ValueError(self.value)
        low, high = (None if n is None else -n for n in (self.high, self.low))
        value = None if self.value is None else -self.value
        return replace(self, value=value, low=low, high=high)


def quantities(result: TableResult) -> dict[str, Quantity]:
    """Every number of an assembled table: ``full/gain``, ``claim:third-of-the-iterations/p``."""
    named = {}
    for row in result.rows:
        for name, quantity in _of_row(result, row):
            named[f"{row.row.id}/{name}"] = replace(quantity, stale=row.stale)
    for claim in result.claims:
        stale = _stale_of_claim(result, claim)
        for name, quantity in _of_claim(claim):
            named[f"{CLAIM}{claim.claim.id}/{name}"] = replace(quantity, stale=stale)
    return named


def gain_quantity(gain: Gain | None) -> Quantity:
    """A gain with its interval, in points."""
    if gain is None:
        return Quantity(None, signed=True)
    return Quantity(gain.value, gain.low, gain.high, "interval", signed=True)


def _of_row(result: TableResult, row: RowResult) -> Iterator[tuple[str, Quantity]]:
    miou, gain = row.miou, row.gain
    spread = miou is not None and miou.num_seeds > 1
    yield (
        "miou",
        Quantity(
            miou.median if miou else None,
            miou.low if miou and spread else None,
            miou.high if miou and spread else None,
            "range" if spread else "",
        ),
    )
    yield "miou_min", Quantity(miou.low if miou else None)
    yield "miou_max", Quantity(miou.high if miou else None)
    yield "gain", gain_quantity(gain)
    yield "gain_low", Quantity(gain.low if gain else None, signed=True)
    yield "gain_high", Quantity(gain.high if gain else None, signed=True)
    yield "p", Quantity(gain.p_value if gain else None, digits=3)
    yield "seeds", Quantity(len(row.records), digits=0)
    yield "verdict", Quantity(row.versus_paper.word)
    yield "reported", Quantity(row.row.reported.miou)
    for name, cell in row.counts.items():
        metric = METRICS[name]
        if metric.always_exported or name in result.columns:
            yield name, Quantity(cell.measured, digits=metric.digits)
            yield f"reported_{name}", Quantity(cell.reported, digits=metric.paper_digits)


def _of_claim(claim: ClaimResult) -> Iterator[tuple[str, Quantity]]:
    value, low, high = (
        None if number is None or math.isinf(number) else number
        for number in (claim.value, claim.low, claim.high)
    )
    signed = claim.unit in SIGNED
    bounded = low is not None and high is not None
    yield "value", Quantity(value, low, high, "interval" if bounded else "", signed=signed)
    yield "low", Quantity(low, signed=signed)
    yield "high", Quantity(high, signed=signed)
    yield "p", Quantity(None if claim.unit is None else claim.p_value, digits=3)
    yield "seeds", Quantity(claim.num_seeds, digits=0)
    yield "verdict", Quantity(claim.word)


def _stale_of_claim(result: TableResult, claim: ClaimResult) -> tuple[str, ...]:
    asked = claim.claim.named or {row.row.id for row in result.rows}
    reasons = (why for row in result.rows if row.row.id in asked for why in row.stale)
    return tuple(dict.fromkeys(reasons))
