"""What a claim lacks to be decided: borders that intervals still hold, and the seeds that it takes.

Everything here is a projection: number and spread are taken to stay as they are now. It decides
nothing, it says where seeds are worth something.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from experiments.judge.statistics import Estimate

#: seeds of a row beyond which nobody is told a number
MOST_SEEDS = 200


@dataclass(frozen=True)
class Hurdle:
    """A border, and the side of it on which an interval has to lie."""

    estimate: Estimate
    border: float
    above: bool
    rows: tuple[str, ...]  # whose seeds narrow the interval
    number: int = 1  # of intervals, for which it is widened (Bonferroni)

    @property
    def away(self) -> float:
        """How far the number lies on the right side; not positive: on the wrong one."""
        away = self.estimate.value - self.border
        return away if self.above else -away

    def is_cleared(self, alpha: float) -> bool:
        """Whether the interval lies on the right side at confidence 1 - ``alpha``."""
        return self.away > self.estimate.half_width(1.0 - alpha / self.number)

    def seeds(self, alpha: float, most: int = MOST_SEEDS, slack: float = 0.0) -> int | None:
        """The fewest seeds with which it would be cleared; None: more than ``most``.

        Args:
            alpha: 1 - confidence.
            most: seeds.
            slack: standard errors that the number may move to the right side.
        """
        first, away = self.estimate.num_seeds, self.away + slack * self.estimate.seed_error
        if first < 2 or away <= 0 or first > most:
            return None
        confidence = 1.0 - alpha / self.number

        def clears(seeds: int) -> bool:
            return away > self.estimate.with_seeds(seeds).half_width(confidence)

        return smallest(clears, first, most)

    def images_alone(self, alpha: float) -> float:
        """Half-width that is left by the choice of images however many seeds there are."""
        return self.estimate.image_half_width(1.0 - alpha / self.number)


def smallest(holds: Callable[[int], bool], first: int, last: int) -> int | None:
    """The smallest whole number of ``first`` … ``last`` from which on ``holds``; None: none."""
    if not holds(last):
        return None
    low = first - 1  # does not hold, as far as anybody asks
    while last - low > 1:
        middle = (low + last) // 2
        low, last = (low, middle) if holds(middle) else (middle, last)
    return last


Way: TypeAlias = tuple[Hurdle, ...]


@dataclass(frozen=True)
class Outlook:
    """What would decide a claim that is undecided."""

    open: Way  # the hurdles that the shortest way has left
    more: int | None  # seeds of their rows; None: more than anybody counts
    images: float | None = None  # half-width by images alone, where that is what keeps it open


def outlook(
    ways: Sequence[Way], alpha: float, most: int = MOST_SEEDS, slack: float = 0.0
) -> Outlook | None:
    """The way that takes the fewest seeds; None: there is none, or one seed to go by.

    Args:
        ways: a claim is decided when all hurdles of one of them are cleared.
        alpha: 1 - the confidence that it must be decided at.
        most: seeds of a row.
        slack: see :meth:`Hurdle.seeds`.
    """
    found = [
        _along([hurdle for hurdle in way if not hurdle.is_cleared(alpha)], alpha, most, slack)
        for way in ways
        if all(hurdle.estimate.num_seeds > 1 for hurdle in way)
    ]

    def length(ahead: Outlook) -> tuple[float, float]:
        # of ways without end, the one whose numbers lie best
        nearest = min((hurdle.away for hurdle in ahead.open), default=0.0)
        return math.inf if ahead.more is None else ahead.more, -nearest

    return min(found, key=length, default=None)


def _along(way: Sequence[Hurdle], alpha: float, most: int, slack: float) -> Outlook:
    more = 0
    for hurdle in way:
        seeds = hurdle.seeds(alpha, most, slack)
        if seeds is None:
            return Outlook(tuple(way), None, _kept_by_images(way, alpha))
        more = max(more, seeds - hurdle.estimate.num_seeds)
    return Outlook(tuple(way), more)


def _kept_by_images(way: Sequence[Hurdle], alpha: float) -> float | None:
    """The widest half-width of images that a number on the right side lies within."""
    if any(hurdle.away <= 0 for hurdle in way):
        return None
    alone = [(hurdle.images_alone(alpha), hurdle.away) for hurdle in way]
    return max((width for width, away in alone if away <= width), default=None)
