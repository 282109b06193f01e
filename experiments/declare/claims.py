"""Sentences that a table is to bear out; which test each gets is its kind (docs/claims.md)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from experiments.declare.base import Declared

#: two row ids: what is counted over what
Pair = tuple[str, str]


class Stated(Declared):
    """A sentence that a table is to bear out. Which test it gets is its kind: docs/claims.md."""

    id: str
    text: str  # our own words
    where: str  # which part of the paper says so, or that it is ours

    @property
    def named(self) -> frozenset[str]:
        """Ids of the rows that are named; without any the table's own rows are meant."""
        raise NotImplementedError


class GainClaim(Stated):
    """Every pair's first row has more mIoU than its second by more than ``at_least``."""

    kind: Literal["gain"]
    pairs: tuple[Pair, ...] = ()  # none: every row over its baseline
    at_least: float = 0.0  # percent points

    @property
    def named(self) -> frozenset[str]:
        """See :class:`Stated`."""
        return frozenset(row for pair in self.pairs for row in pair)


class BestClaim(Stated):
    """One row has more mIoU than each of the others."""

    kind: Literal["best"]
    row: str
    among: tuple[str, ...] = ()  # none: every other row

    @property
    def named(self) -> frozenset[str]:
        """See :class:`Stated`."""
        return frozenset((self.row, *self.among))


class WithinClaim(Stated):
    """No row's mIoU lies further from one row's than ``points``."""

    kind: Literal["within"]
    row: str
    points: float = Field(gt=0)  # percent points
    among: tuple[str, ...] = ()  # none: every other row

    @property
    def named(self) -> frozenset[str]:
        """See :class:`Stated`."""
        return frozenset((self.row, *self.among))


class ReachClaim(Stated):
    """A row's validation curve reaches another's final mIoU in that share of its iterations."""

    kind: Literal["reach"]
    row: str
    over: str
    within: float = Field(gt=0, le=1)  # share of the other's iterations

    @property
    def named(self) -> frozenset[str]:
        """See :class:`Stated`."""
        return frozenset((self.row, self.over))


class ShareClaim(Stated):
    """Of one gain, another is more than a share."""

    kind: Literal["share"]
    part: Pair
    whole: Pair
    at_least: float  # share

    @property
    def named(self) -> frozenset[str]:
        """See :class:`Stated`."""
        return frozenset((*self.part, *self.whole))


class TrendPoint(Declared):
    """A gain at one strength of something."""

    at: float
    pair: Pair


#: fewer gains make no trend
FEWEST_POINTS = 3


class TrendClaim(Stated):
    """A gain grows with something."""

    kind: Literal["trend"]
    points: tuple[TrendPoint, ...] = Field(min_length=FEWEST_POINTS)
    along: str  # what grows, in a word

    @field_validator("points")
    @classmethod
    def _spread(cls, points: tuple[TrendPoint, ...]) -> tuple[TrendPoint, ...]:
        if len({point.at for point in points}) < 2:
            raise ValueError("a trend needs points at two places at least")
        return points

    @property
    def named(self) -> frozenset[str]:
        """See :class:`Stated`."""
        return frozenset(row for point in self.points for row in point.pair)


Claim = Annotated[
    GainClaim | BestClaim | WithinClaim | ReachClaim | ShareClaim | TrendClaim,
    Field(discriminator="kind"),
]
