"""How many seeds it takes to see a gain, from how runs have deviated so far."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from experiments.declare.claims import Pair
from experiments.judge.claims import Evidence, over_baselines
from experiments.judge.hurdles import smallest
from experiments.judge.spread import CONFIDENCE, half_width

POWER = 0.8
MOST_SEEDS = 500
GRID = 2001  # points of the distribution of a variance that is estimated


@dataclass(frozen=True)
class PairSpread:
    """How paired gains of a table deviate, pooled over its pairs."""

    deviation: float  # between seeds, of one pair, percent points
    freedom: int  # degrees behind it
    images: float  # variance of a gain by the choice of images, which no seed reduces
    num_images: int
    num_pairs: int

    def power(self, gain: float, num_seeds: int, alpha: float = 1.0 - CONFIDENCE) -> float:
        """How often the interval of a true gain lies above 0.

        The estimated variance runs through the quantiles of its distribution, a scaled chi-square.
        Nothing is borrowed from other rows, which would only narrow the intervals.

        Args:
            gain: percent points.
            num_seeds: at least 2.
            alpha: 1 - confidence of the interval.
        """
        from scipy.special import gammaincinv, ndtr  # slow to load: only where it is asked

        freedom = num_seeds - 1
        quantiles = (np.arange(GRID) + 0.5) / GRID
        ratio = 2.0 * gammaincinv(freedom / 2.0, quantiles) / freedom
        true = self.deviation**2 / num_seeds
        width = half_width(true * ratio, num_seeds, self.images, self.num_images, alpha)
        error = np.sqrt(true + self.images)
        if error == 0:
            return float(gain > 0)
        return float(np.mean(ndtr((gain - width) / error)))

    def seeds_to_see(
        self, gain: float, alpha: float = 1.0 - CONFIDENCE, share: float = POWER
    ) -> int | None:
        """The fewest seeds that see a gain in a share of cases; None: more than MOST_SEEDS."""
        return smallest(lambda seeds: self.power(gain, seeds, alpha) >= share, 2, MOST_SEEDS)

    @property
    def images_alone(self) -> float:
        """Half-width of a 95 % interval with endless seeds, percent points."""
        return float(half_width(0.0, 1, self.images, self.num_images))


def pair_spread(evidence: Evidence) -> PairSpread | None:
    """From the seeds that rows share with their baselines; None: no pair has two.

    Pairs of the same runs count once.
    """
    pairs: dict[tuple[str, ...], Pair] = {}
    for pair in over_baselines(evidence.table):
        seeds = evidence.seeds(pair)
        if len(seeds) > 1 and not evidence.same(pair) and not evidence.incomparable(pair):
            runs = tuple(evidence.records[row][seed].run_id for row in pair for seed in seeds)
            pairs.setdefault(runs, pair)
    return _pooled(pairs.values(), evidence)


def _pooled(pairs: Iterable[Pair], evidence: Evidence) -> PairSpread | None:
    estimates = [evidence.difference(pair).estimate for pair in pairs]
    if not estimates:
        return None
    freedom = sum(each.num_seeds - 1 for each in estimates)
    squares = sum(each.variance * each.num_seeds * (each.num_seeds - 1) for each in estimates)
    return PairSpread(
        deviation=float(np.sqrt(squares / freedom)),
        freedom=freedom,
        images=float(np.mean([each.images for each in estimates])),
        num_images=min(each.num_images for each in estimates),
        num_pairs=len(estimates),
    )
