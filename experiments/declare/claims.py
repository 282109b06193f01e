"""Sentences that a table is to bear out; which test each gets is its kind (docs/claims.md)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

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


#: of a class: how far its features lie from its fixed prototype in the baseline, in which share of
#: the images it occurs, which share of such an image it takes
ClassProperty = Literal["distance", "frequency", "size"]


class TrendClaim(Stated):
    """A gain grows with something: that of several pairs of rows, or that of a pair's classes."""

    kind: Literal["trend"]
    points: tuple[TrendPoint, ...] = ()  # the gains of these pairs
    along: str = ""  # what grows with ``points``, in a word
    pair: Pair | None = None  # instead of ``points``: the gains of this pair's classes
    by: ClassProperty | None = None  # what they are set against
    within: Literal["classes", "images"] = "classes"  # images: from image to image of one class
    falls: bool = False  # the claim is that the gain falls with ``by``

    @model_validator(mode="after")
    def _one_or_the_other(self) -> TrendClaim:
        if (self.pair is None) != (self.by is None):
            raise ValueError("a trend over classes needs both pair and by")
        if self.pair is not None:
            if self.points or self.along:
                raise ValueError("a trend is over points or over the classes of a pair, not both")
            if self.within == "images" and self.by == "frequency":
                raise ValueError("a class's frequency is the same in all images")
            return self
        if self.falls or self.within != "classes":
            raise ValueError("falls and within belong to a trend over the classes of a pair")
        if not self.along:
            raise ValueError("a trend says in `along` what grows")
        if len(self.points) < FEWEST_POINTS:
            raise ValueError(f"a trend needs at least {FEWEST_POINTS} points")
        if len({point.at for point in self.points}) < 2:
            raise ValueError("a trend needs points at two places at least")
        return self

    @property
    def named(self) -> frozenset[str]:
        """See :class:`Stated`."""
        pairs = [point.pair for point in self.points]
        return frozenset(row for pair in (*pairs, self.pair or ()) for row in pair)


Claim = Annotated[
    GainClaim | BestClaim | WithinClaim | ReachClaim | ShareClaim | TrendClaim,
    Field(discriminator="kind"),
]
