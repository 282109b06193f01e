"""Median, spread, the interval of a gain and its p-value, from areas per image and seed.

The paper trains three seeds and reports the middle value; so do we. How sure a gain is depends on
two draws, the seed of the training and the images of the split, so both are drawn again.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from experiments.store.areas import ImageAreas, mean_iou

REPLICATES = 2000  # of the bootstrap
PERMUTATIONS = 999  # of the permutation test: p is a multiple of 1/1000
CONFIDENCE = 0.95
BOOTSTRAP_SEED = 20240525  # fixed: the same records give the same interval

#: two differences of mIoU this near are the same but for rounding, percent points
SAME_POINTS = 1e-9

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
    """Difference of two medians with its bootstrap interval, in percent points."""

    value: float
    low: float
    high: float
    num_seeds: int  # pairs; with 1 the interval covers images only
    num_images: int
    p_value: float  # of the permutation test, two-sided


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
    """One run's areas and what is drawn from them, each computed once however often it is used.

    Args:
        areas: of N images and K classes.
        replicates: R, how many draws.
        seed: of the draws; runs with the same seed and number of images are drawn alike.
    """

    def __init__(
        self, areas: ImageAreas, replicates: int = REPLICATES, seed: int = BOOTSTRAP_SEED
    ) -> None:
        self.names, self.replicates, self.seed = areas.names, replicates, seed
        # (N, K); half the memory of what they were read as, and a full table holds many
        self._intersection = areas.intersection.astype(np.int32)
        self._union = areas.union.astype(np.int32)

    @property
    def num_images(self) -> int:
        """N."""
        return len(self.names)

    @property
    def intersection(self) -> NDArray[np.float64]:
        """(N, K) pixels; every product with them is exact."""
        return self._intersection.astype(np.float64)

    @property
    def union(self) -> NDArray[np.float64]:
        """(N, K) pixels."""
        return self._union.astype(np.float64)

    @cached_property
    def miou(self) -> float:
        """Over all images, percent."""
        return float(mean_iou(self.intersection.sum(0), self.union.sum(0)))

    @cached_property
    def draws(self) -> NDArray[np.float64]:
        """(R,) mIoU in percent of each drawing of N images with replacement."""
        counts, _ = _image_draws(self.num_images, self.replicates, self.seed)
        return mean_iou(_product(counts, self.intersection), _product(counts, self.union))

    def seed_draws(self, num_seeds: int) -> NDArray[np.int64]:
        """(R, S) which of ``num_seeds`` seeds each replicate draws, with replacement."""
        return _seed_draws(self.num_images, num_seeds, self.replicates, self.seed)


def median_miou(runs: Sequence[ScoredRun]) -> float:
    """Median mIoU over the seeds of a row, percent."""
    return float(np.median([run.miou for run in runs]))


def median_draws(runs: Sequence[ScoredRun]) -> NDArray[np.float64]:
    """(R,) median mIoU over the drawn seeds in each replicate, percent; one run an available seed.

    Rows with the same seeds and images are drawn alike, so that differences of these are paired.
    """
    drawn = np.stack([run.draws for run in runs], axis=1)
    return np.median(np.take_along_axis(drawn, runs[0].seed_draws(len(runs)), 1), axis=1)


def interval(draws: NDArray[np.float64], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Percentile interval of ``draws`` (R,)."""
    tail = (1.0 - confidence) / 2
    low, high = np.quantile(draws, [tail, 1.0 - tail])
    return float(low), float(high)


def bootstrap_gain(
    rows: Sequence[ImageAreas],
    baselines: Sequence[ImageAreas],
    *,
    replicates: int = REPLICATES,
    seed: int = BOOTSTRAP_SEED,
) -> Gain:
    """:func:`gain_over` of areas that nothing else is drawn from."""
    return gain_over(
        [ScoredRun(areas, replicates, seed) for areas in rows],
        [ScoredRun(areas, replicates, seed) for areas in baselines],
    )


def gain_over(rows: Sequence[ScoredRun], baselines: Sequence[ScoredRun]) -> Gain:
    """Gain in mIoU of a row over its baseline, with its interval and p-value.

    The interval is a hierarchical paired percentile bootstrap: each replicate draws seeds with
    replacement, then images with replacement, the same for the row and its baseline, and takes the
    difference of the medians over the drawn seeds. With one seed only the images are drawn. The
    p-value is :func:`permutation_p`'s.

    Args:
        rows: runs of the row, one entry a seed.
        baselines: runs of the baseline, the same seeds in the same order.

    Raises:
        ValueError: different numbers of seeds, or different images.
    """
    _check_pairs(rows, baselines)
    low, high = interval(median_draws(rows) - median_draws(baselines))
    return Gain(
        value=median_miou(rows) - median_miou(baselines),
        low=low,
        high=high,
        num_seeds=len(rows),
        num_images=rows[0].num_images,
        p_value=permutation_p(rows, baselines),
    )


def permutation_p(
    rows: Sequence[ScoredRun], baselines: Sequence[ScoredRun], *, permutations: int = PERMUTATIONS
) -> float:
    """Two-sided p-value of a gain: paired permutation test over seeds and images.

    If the row and its baseline were the same method, it would not matter which of the two runs of
    a seed an image's areas come from. So within each pair of runs each image's areas change sides
    with probability ½, which includes whole runs changing sides, and the statistic is the
    difference of the medians over the seeds. The observed arrangement counts as one of the
    permutations, so p is at least 1 / (permutations + 1).

    What is exchanged are the areas of the networks that were trained; that other seeds would have
    trained others is in the bootstrap's interval, not here.

    Raises:
        ValueError: different numbers of seeds, or different images.
    """
    _check_pairs(rows, baselines)
    ours, theirs = [], []
    for index, (row, baseline) in enumerate(zip(rows, baselines)):
        swaps = _swaps(row.num_images, index, permutations, row.seed).astype(np.float64)
        one, other = (row.intersection, row.union), (baseline.intersection, baseline.union)
        moved = [_product(swaps, b - a) for a, b in zip(one, other)]
        ours.append(mean_iou(*(area.sum(0) + change for area, change in zip(one, moved))))
        theirs.append(mean_iou(*(area.sum(0) - change for area, change in zip(other, moved))))
    draws = np.median(ours, axis=0) - np.median(theirs, axis=0)
    observed = abs(median_miou(rows) - median_miou(baselines))
    extreme = np.count_nonzero(np.abs(draws) >= observed - SAME_POINTS)
    return float((1 + extreme) / (1 + len(draws)))


def _check_pairs(rows: Sequence[ScoredRun], baselines: Sequence[ScoredRun]) -> None:
    if len(rows) != len(baselines) or not rows:
        raise ValueError(f"{len(rows)} runs against {len(baselines)} cannot be paired")
    if any(run.names != rows[0].names for run in (*rows, *baselines)):
        raise ValueError("the runs were scored on different images")


def _product(draws: NDArray[np.float64], areas: NDArray[np.float64]) -> NDArray[np.float64]:
    """``draws`` (R, N) @ ``areas`` (N, K), on one thread.

    It is small: threads would wait for each other longer than they compute, on a busy machine
    twenty times as long. The sums are of whole numbers, so their order changes nothing.
    """
    with _libraries().limit(limits=1, user_api="blas"):
        return draws @ areas


@lru_cache(maxsize=1)
def _libraries() -> ThreadpoolController:
    """The numeric libraries of this process; numpy's is among them since numpy is imported."""
    return ThreadpoolController()


@lru_cache(maxsize=4)
def _image_draws(
    num_images: int, replicates: int, seed: int
) -> tuple[NDArray[np.float64], Mapping[str, object]]:
    """(R, N) how often each replicate draws each image, and the generator's state after that."""
    generator = np.random.Generator(np.random.Philox(seed))
    share = np.full(num_images, 1.0 / num_images)
    counts = generator.multinomial(num_images, share, size=replicates).astype(np.float64)
    return counts, generator.bit_generator.state


@lru_cache(maxsize=64)
def _seed_draws(num_images: int, num_seeds: int, replicates: int, seed: int) -> NDArray[np.int64]:
    generator = np.random.Generator(np.random.Philox(seed))
    generator.bit_generator.state = _image_draws(num_images, replicates, seed)[1]
    return generator.integers(0, num_seeds, size=(replicates, num_seeds))


@lru_cache(maxsize=16)
def _swaps(num_images: int, pair: int, permutations: int, seed: int) -> NDArray[np.bool_]:
    """(P, N) which images change sides in the ``pair``-th pair of runs."""
    generator = np.random.Generator(np.random.Philox([seed, 1 + pair]))
    return generator.integers(0, 2, size=(permutations, num_images), dtype=np.bool_)


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
