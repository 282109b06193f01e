"""Where the next seeds of a table are worth most: what is still open, and what it would take.

Nothing here can make a verdict false. The intervals hold however one chooses
(:mod:`experiments.judge.anytime`); a bad choice only costs runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from experiments.judge.claims import ClaimResult, level_of_undecided
from experiments.judge.hurdles import Outlook, Way, outlook

#: pairs without which nothing is called futile: the spread of fewer says too little
FEWEST_PAIRS = 4
#: standard errors by which a number may yet move to the right side before it is called futile
SLACK = 1.0

Fate = Literal["decided", "open", "futile", "beyond seeds"]


@dataclass(frozen=True)
class Standing:
    """Where a claim stands while seeds are being added."""

    result: ClaimResult
    fate: Fate
    ahead: Outlook | None = None  # the shortest way, of an open claim

    @property
    def needed(self) -> int:
        """Seeds that it takes, at a guess."""
        return self.ahead.more or 1 if self.ahead else 0


def standings(results: Sequence[ClaimResult], most: int) -> list[Standing]:
    """Where every claim of a table stands.

    A claim is futile when it would take more than ``most`` seeds even if its number lay a standard
    error nearer: because the number is near the border, or because the choice of images alone
    reaches over it, which no seed reduces. One whose rows are missing, cannot be compared or are
    one and the same run is beyond seeds.

    Args:
        results: of the claims, judged together.
        most: seeds of a row.
    """
    alpha = level_of_undecided(results)
    return [_standing(result, alpha, most) for result in results]


def _standing(result: ClaimResult, alpha: float, most: int) -> Standing:
    if result.word != "undecided":
        return Standing(result, "decided")
    ahead = outlook(result.ways, alpha, most)
    hoped = outlook(result.ways, alpha, most, SLACK)
    if ahead is None or hoped is None or not ahead.open:
        return Standing(result, "beyond seeds")
    if hoped.more is None:
        pairs = min(hurdle.estimate.num_seeds for hurdle in hoped.open)
        if pairs >= min(FEWEST_PAIRS, most):
            return Standing(result, "futile", hoped)
    if min(hurdle.estimate.num_seeds for hurdle in hoped.open) >= most:
        return Standing(result, "futile", hoped)
    return Standing(result, "open", hoped if ahead.more is None else ahead)


#: row → seeds that it is given
Seeds = dict[str, int]


def next_seeds(
    claims: Sequence[Standing],
    seeds: Mapping[str, int],
    cost: Callable[[str], float],
    runs: int,
    most: int,
    fits: Callable[[Seeds], bool] = lambda _: True,
) -> Seeds:
    """How many seeds the rows are to have next; only rows that get more are named.

    A step brings all rows of an open claim one whole seed further, those that lag behind. It is
    worth a share 1 / n for every claim that it brings a pair and that needs n of them, over what
    its runs cost. The best step is taken, then the next best, until there are as many runs as can
    go on at once.

    Args:
        claims: where they stand.
        seeds: row → seeds that it has.
        cost: of one run of a row; any unit.
        runs: how many are wanted.
        most: seeds of a row.
        fits: whether there is time for these.
    """
    given, needs = dict(seeds), [claim.needed for claim in claims]
    chosen: Seeds = {}
    while sum(number - seeds[row] for row, number in chosen.items()) < runs:
        best, worth = None, 0.0
        for claim in claims:
            step = _step(claim, given, most)
            if not step or not fits({**chosen, **step}):
                continue
            after = {**given, **step}
            helped = sum(
                1.0 / max(need, 1)
                for other, need in zip(claims, needs)
                if need > 0 and _pairs(other, after) > _pairs(other, given)
            )
            value = helped / sum(cost(row) for row in step)
            if value > worth:
                best, worth = step, value
        if best is None:
            break
        after = {**given, **best}
        needs = [
            need - (_pairs(other, after) > _pairs(other, given))
            for other, need in zip(claims, needs)
        ]
        given, chosen = after, {**chosen, **best}
    return chosen


def _way(claim: Standing) -> Way:
    return claim.ahead.open if claim.fate == "open" and claim.ahead else ()


def _pairs(claim: Standing, seeds: Mapping[str, int]) -> int:
    """Seeds that every row of an open claim has."""
    return min((seeds[row] for hurdle in _way(claim) for row in hurdle.rows), default=0)


def _step(claim: Standing, seeds: Mapping[str, int], most: int) -> Seeds:
    """One more seed for those rows of an open claim that have the fewest."""
    fewest = _pairs(claim, seeds)
    if not _way(claim) or fewest >= most:
        return {}
    rows = dict.fromkeys(row for hurdle in _way(claim) for row in hurdle.rows)
    return {row: fewest + 1 for row in rows if seeds[row] == fewest}
