"""Median, spread, gain with interval and p-value, from areas per image and seed.

The paper trains three seeds and reports the middle value; so do the tables. A gain is the mean of
the gains of the pairs, one a seed, and how sure it is depends on two draws, the seed of the
training and the images of the split (:mod:`experiments.judge.spread`).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from experiments.judge import anytime
from experiments.judge.spread import (
    CONFIDENCE,
    SMALLEST_P,
    Prior,
    fit_prior,
    half_width,
    image_variance,
)
from experiments.store.areas import ImageAreas, leave_one_out, mean_iou

#: two differences of mIoU this near are the same but for rounding, percent points
SAME_POINTS = 1e-9

P_LEVELS, P_ROUNDS = 65, 6  # of the search for a p-value: to 1e-9 of itself

#: standard error of a median over that of a mean, for normal data
MEDIAN_EFFICIENCY = math.sqrt(math.pi / 2)
Z_99 = 2.5758


@dataclass(frozen=True)
class Summary:
    """One metric over the seeds of a row."""

    median: float
    low: float  # smallest
    high: float  # largest
    num_seeds: int


@dataclass(frozen=True)
class Gain:
    """Mean of the gains of the pairs, one a seed, with its 95 % interval, in percent points."""

    value: float
    low: float
    high: float
    num_seeds: int  # pairs; with 1 the interval covers images only
    num_images: int
    p_value: float  # two-sided; below 0.05 exactly where the interval leaves 0 out
    num_lenders: int = 0  # other rows whose deviation between seeds is borrowed
    sequential: bool = False  # the interval holds at whatever number of seeds one stops


def shared_seeds(first: Collection[int], *others: Collection[int]) -> list[int]:
    """The seeds of which every row has a run, in the order of the first: the pairs of a gain."""
    return [seed for seed in first if all(seed in other for other in others)]


def summarise(values: Sequence[float]) -> Summary:
    """Median, smallest and largest of at least one value."""
    return Summary(
        median=float(np.median(values)),
        low=float(min(values)),
        high=float(max(values)),
        num_seeds=len(values),
    )


class ScoredRun:
    """One run's areas and what follows from them, each computed once however often it is used.

    Args:
        areas: of N images and K classes.
    """

    def __init__(self, areas: ImageAreas) -> None:
        self.names = areas.names
        # (N, K); half the memory of what they were read as, and a full table holds many
        self._intersection = areas.intersection.astype(np.int32)
        self._union = areas.union.astype(np.int32)

    @property
    def num_images(self) -> int:
        """N."""
        return len(self.names)

    @cached_property
    def miou(self) -> float:
        """Over all images, percent."""
        sums = (areas.sum(0, dtype=np.float64) for areas in (self._intersection, self._union))
        return float(mean_iou(*sums))

    @cached_property
    def left_out(self) -> NDArray[np.float64]:
        """(N,) mIoU in percent of all images but one."""
        if self.num_images == 1:
            return np.array([self.miou])
        return leave_one_out(self._intersection, self._union)


@dataclass(frozen=True)
class Estimate:
    """A weighted sum of rows' mIoU, its mean over seeds, and what is known of its spread."""

    value: float
    variance: float  # of the mean by the spread of seeds; 0 with one
    images: float  # variance of the mean by the choice of images
    num_seeds: int
    num_images: int
    squares: float  # sum of the squared weights
    prior: Prior | None = None
    sequential: bool = False  # seeds were added while it was looked at; nothing is borrowed then

    def half_width(self, confidence: float = CONFIDENCE) -> float:
        """Of the interval, which is symmetric."""
        return float(self._widths(np.float64(1.0 - confidence)))

    def interval(self, confidence: float = CONFIDENCE) -> tuple[float, float]:
        """Lower and upper end."""
        width = self.half_width(confidence)
        return self.value - width, self.value + width

    @property
    def seed_error(self) -> float:
        """Standard error of the mean by the spread of its seeds."""
        return math.sqrt(self.variance)

    def with_seeds(self, num_seeds: int) -> Estimate:
        """What the estimate would be with so many seeds of the same mean and spread."""
        variance = self.variance * self.num_seeds / num_seeds
        return replace(self, variance=variance, num_seeds=num_seeds)

    def image_half_width(self, confidence: float = CONFIDENCE) -> float:
        """Of the interval that endless seeds would leave: that of the images alone."""
        return replace(self, num_seeds=1).half_width(confidence)

    def p_value(self, threshold: float = 0.0) -> float:
        """The largest 1 - confidence at which the interval holds ``threshold``."""
        away = abs(self.value - threshold)
        if away <= SAME_POINTS:
            return 1.0
        ends = (math.log(SMALLEST_P), 0.0)
        for _ in range(P_ROUNDS):
            levels = np.linspace(*ends, P_LEVELS)
            holding = int(np.count_nonzero(self._widths(np.exp(levels)) >= away))
            at = min(max(holding, 1), P_LEVELS - 1)
            ends = (float(levels[at - 1]), float(levels[at]))
        p_value, level = math.exp(sum(ends) / 2), 1.0 - CONFIDENCE
        if self.half_width() >= away:  # rounding must not part the two
            return max(p_value, level)
        return min(p_value, math.nextafter(0.05, 0.0))

    def _widths(self, alpha: NDArray[np.float64] | np.float64) -> NDArray[np.float64]:
        if self.sequential:
            parts = (self.variance, self.num_seeds, self.images, self.num_images)
            return anytime.half_width(*parts, alpha)
        prior = self.prior if self.num_seeds > 1 else None
        return half_width(
            self.variance,
            self.num_seeds,
            self.images,
            self.num_images,
            alpha,
            prior.variance * self.squares / self.num_seeds if prior else None,
            prior.freedom if prior else 1.0,
        )


def contrast(
    rows: Sequence[Sequence[ScoredRun]],
    weights: Sequence[float],
    prior: Prior | None = None,
    *,
    sequential: bool,
) -> Estimate:
    """The weighted sum of rows' mIoU, seed by seed.

    Args:
        rows: runs of each row, one a seed, the same seeds in the same order.
        weights: of the rows.
        prior: of the variance between seeds of one row.
        sequential: whether seeds were added while it was looked at
            (:mod:`experiments.judge.anytime`).
    """
    values = np.sum([w * np.array([run.miou for run in row]) for w, row in zip(weights, rows)], 0)
    num_seeds, images = len(values), 0.0
    # rows that were scored on other images are drawn on their own
    for names in dict.fromkeys(row[0].names for row in rows):
        alike = [(w, row) for w, row in zip(weights, rows) if row[0].names == names]
        left_out = np.sum([w * np.stack([run.left_out for run in row]) for w, row in alike], 0)
        images += float(image_variance(left_out))
    return Estimate(
        value=float(values.mean()),
        variance=float(values.var(ddof=1) / num_seeds) if num_seeds > 1 else 0.0,
        images=images,
        num_seeds=num_seeds,
        num_images=min(row[0].num_images for row in rows),
        squares=float(np.square(weights).sum()),
        prior=None if sequential else prior,
        sequential=sequential,
    )


def gain(
    rows: Sequence[ImageAreas],
    baselines: Sequence[ImageAreas],
    *,
    others: Sequence[Sequence[ImageAreas]] = (),
) -> Gain:
    """Gain in mIoU of a row over its baseline: value, 95 % interval and p-value, as in tables.

    The value is the mean of the gains of the pairs. The interval is for seeds and images drawn
    anew. With one seed it is for images only.

    Args:
        rows: areas of the row's runs, one a seed.
        baselines: of the baseline's, the same seeds in the same order.
        others: of the table's other rows, to borrow their deviation between seeds.

    Raises:
        ValueError: different numbers of seeds, or different images.
    """
    return gain_over(
        [ScoredRun(areas) for areas in rows],
        [ScoredRun(areas) for areas in baselines],
        [[ScoredRun(areas) for areas in other] for other in others],
        sequential=False,
    )


def gain_over(
    rows: Sequence[ScoredRun],
    baselines: Sequence[ScoredRun],
    others: Sequence[Sequence[ScoredRun]] = (),
    *,
    sequential: bool,
) -> Gain:
    """:func:`gain` of runs that are used more than once, or chosen while one looked.

    Args:
        rows: the row's runs, one a seed.
        baselines: the baseline's, the same seeds in the same order.
        others: as in :func:`gain`; nothing is borrowed where seeds were added.
        sequential: as in :func:`contrast`.

    Raises:
        ValueError: different numbers of seeds, or different images.
    """
    _check_pairs(rows, baselines)
    prior = fit_prior([[run.miou for run in other] for other in others])
    return gain_of(contrast([rows, baselines], [1.0, -1.0], prior, sequential=sequential))


def gain_of(estimate: Estimate) -> Gain:
    """The gain that an estimate of weights 1 and -1 is."""
    low, high = estimate.interval()
    lends = estimate.prior if estimate.num_seeds > 1 else None
    return Gain(
        value=estimate.value,
        low=low,
        high=high,
        num_seeds=estimate.num_seeds,
        num_images=estimate.num_images,
        p_value=estimate.p_value(),
        num_lenders=lends.num_rows if lends else 0,
        sequential=estimate.sequential,
    )


def _check_pairs(rows: Sequence[ScoredRun], baselines: Sequence[ScoredRun]) -> None:
    if len(rows) != len(baselines) or not rows:
        raise ValueError(f"{len(rows)} runs against {len(baselines)} cannot be paired")
    if any(run.names != rows[0].names for run in (*rows, *baselines)):
        raise ValueError("the runs were scored on different images")


def pooled_seed_deviation(groups: Sequence[Sequence[float]]) -> float | None:
    """Standard deviation between seeds pooled over rows; None without two seeds anywhere."""
    groups = [group for group in groups if group]  # a row whose runs are all missing has no say
    squares = sum(float(np.var(group)) * len(group) for group in groups)
    freedom = sum(len(group) - 1 for group in groups)
    return math.sqrt(squares / freedom) if freedom > 0 else None


def noise_of_difference(deviation: float | None, first: int, second: int) -> float:
    """How far two medians of ``first`` and ``second`` seeds lie apart by chance (99 %).

    Args:
        deviation: between seeds, in the metric's unit; None counts as 0.
    """
    if deviation is None:
        return 0.0
    return Z_99 * MEDIAN_EFFICIENCY * deviation * math.sqrt(1.0 / first + 1.0 / second)
