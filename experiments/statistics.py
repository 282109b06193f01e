"""Median, spread and the interval of a gain, from areas per image and seed.

The paper trains three seeds and reports the middle value; so do we. How sure a gain is depends on
two draws, the seed of the training and the images of the split, so both are drawn again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from experiments.evaluate import ImageAreas, mean_iou

REPLICATES = 2000
CONFIDENCE = 0.95
BOOTSTRAP_SEED = 20240525  # fixed: the same records give the same interval

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


def summarise(values: Sequence[float]) -> Summary:
    """Median, smallest and largest of at least one value."""
    return Summary(
        median=float(np.median(values)),
        low=float(min(values)),
        high=float(max(values)),
        num_seeds=len(values),
    )


def bootstrap_gain(
    rows: Sequence[ImageAreas],
    baselines: Sequence[ImageAreas],
    *,
    replicates: int = REPLICATES,
    seed: int = BOOTSTRAP_SEED,
) -> Gain:
    """Gain in mIoU of a row over its baseline: hierarchical paired percentile bootstrap.

    Each replicate draws seeds with replacement, then images with replacement, the same for the row
    and its baseline, and takes the difference of the medians over the drawn seeds. With one seed
    only the images are drawn.

    Args:
        rows: areas of the row, one entry a seed.
        baselines: areas of the baseline, the same seeds in the same order.
        replicates: how many draws.
        seed: of the draws.

    Raises:
        ValueError: different numbers of seeds, or different images.
    """
    if len(rows) != len(baselines) or not rows:
        raise ValueError(f"{len(rows)} runs against {len(baselines)} cannot be paired")
    names = rows[0].names
    if any(areas.names != names for areas in (*rows, *baselines)):
        raise ValueError("the runs were scored on different images")
    num_seeds, num_images = len(rows), len(names)
    generator = np.random.Generator(np.random.Philox(seed))
    image_counts = generator.multinomial(
        num_images, np.full(num_images, 1.0 / num_images), size=replicates
    ).astype(np.float64)
    seeds = generator.integers(0, num_seeds, size=(replicates, num_seeds))
    ours = _resampled_miou(rows, image_counts)
    theirs = _resampled_miou(baselines, image_counts)
    draws = np.median(np.take_along_axis(ours, seeds, 1), axis=1) - np.median(
        np.take_along_axis(theirs, seeds, 1), axis=1
    )
    tail = (1.0 - CONFIDENCE) / 2
    low, high = np.quantile(draws, [tail, 1.0 - tail])
    return Gain(
        value=float(np.median(_miou(rows)) - np.median(_miou(baselines))),
        low=float(low),
        high=float(high),
        num_seeds=num_seeds,
        num_images=num_images,
    )


def _resampled_miou(runs: Sequence[ImageAreas], counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """(R, S) mIoU in percent of each run under each drawing of images; ``counts`` is (R, N)."""
    return np.stack(
        [mean_iou(counts @ run.intersection, counts @ run.union) for run in runs], axis=1
    )


def _miou(runs: Sequence[ImageAreas]) -> NDArray[np.float64]:
    return np.array([mean_iou(run.intersection.sum(0), run.union.sum(0)) for run in runs])


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
