"""Whether the gain of a class grows with a property of it: a rank correlation and its interval.

Seed by seed the gain of every class (or, within each class, of every image) is set against the
property by Spearman's correlation; the number is the mean over the seeds on Fisher's scale. Its
interval is for another draw of seeds, images and classes (docs/claims.md):

- seeds: Student's t with S − 1 degrees, as for a gain;
- images: a bootstrap over the images that all seeds share, less what each seed has alone;
- classes: those of a data set are few, and any two of their properties correlate somewhat by
  chance; the variance is Bonett and Wright's (2000, Psychometrika 65(1)), (1 + ρ²/2) / (K − 3).
  Within classes the images are the units, and the classes are taken as they are.

Half-widths are added in squares (:mod:`experiments.judge.spread`).

The distance of a class's features is measured in the baseline, and for each seed by the *other*
seeds: in its own the noise of one training would be in the gain and, with the opposite sign, in the
distance, and both would correlate without any reason but that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from experiments.declare.claims import ClassProperty
from experiments.judge.statistics import Estimate
from experiments.store.areas import ImageAreas
from experiments.store.distances import FeatureDistances

Values = NDArray[np.float64]

#: resamples of the images; the half-width by images is then known to a fifteenth
RESAMPLES = 200
#: fewer classes, or images of a class, correlate by chance with anything
FEWEST_CLASSES = 8
FEWEST_IMAGES = 8
#: correlations beyond are taken as this one: Fisher's scale ends at 1
_LARGEST = 0.999


@dataclass(frozen=True)
class ClassTrend:
    """A rank correlation between gain and property, of S seeds."""

    estimate: Estimate  # on Fisher's scale, on which its interval is symmetric
    each: tuple[float, ...]  # one a seed
    num_units: int  # classes, or images of all classes

    @property
    def value(self) -> float:
        """Spearman's correlation, −1 … 1."""
        return math.tanh(self.estimate.value)

    @cached_property
    def interval(self) -> tuple[float, float]:
        """Ends of the 95 % interval."""
        low, high = self.estimate.interval()
        return math.tanh(low), math.tanh(high)


@dataclass(frozen=True)
class PairedAreas:
    """S seeds of a row and of its baseline, scored on the same N images of K classes.

    Raises:
        ValueError: different numbers of seeds, or different images.
    """

    ours: Sequence[ImageAreas]
    theirs: Sequence[ImageAreas]
    #: of the baseline's runs; None: not extracted
    distances: Sequence[FeatureDistances] | None = None

    def __post_init__(self) -> None:
        if len(self.ours) != len(self.theirs) or not self.ours:
            raise ValueError(f"{len(self.ours)} runs against {len(self.theirs)} are no pairs")
        names = [areas.names for areas in (*self.ours, *self.theirs)]
        names += [own.names for own in self.distances or ()]
        if any(own != names[0] for own in names):
            raise ValueError("the runs were scored on different images")

    @property
    def num_seeds(self) -> int:
        """S."""
        return len(self.ours)

    @property
    def num_images(self) -> int:
        """N."""
        return len(self.labelled)

    @cached_property
    def labelled(self) -> Values:
        """(N, K) labelled pixels; of all runs the same."""
        return self.ours[0].labelled.astype(np.float64)

    @cached_property
    def shows(self) -> NDArray[np.bool_]:
        """(N, K) whether an image shows a class."""
        return self.labelled > 0

    @cached_property
    def _areas(self) -> tuple[Values, Values]:
        """Intersection and union, each (2, S, N, K), ours first."""
        sides = (self.ours, self.theirs)
        right = np.array([[areas.intersection for areas in side] for side in sides], float)
        return right, np.array([[areas.union for areas in side] for side in sides], float)

    @cached_property
    def distance(self) -> Values:
        """(S, N, K) of each seed, measured by the others; by itself where it is alone."""
        assert self.distances is not None
        values = np.array([each.values for each in self.distances], float)
        if self.num_seeds == 1:
            return values
        return (values.sum(0) - values) / (self.num_seeds - 1)

    def class_gains(self, weights: Values) -> Values:
        """(B, S, K) gain of each class over all images, percent points; NaN where none shows it.

        Args:
            weights: (B, N) how often each image counts.
        """
        sums = [np.einsum("bn,psnk->pbsk", weights, part, optimize=True) for part in self._areas]
        ours, theirs = _share(*sums)
        occurs = (weights @ self.labelled > 0)[:, None]
        return np.where(occurs, 100.0 * (ours - theirs), np.nan)

    def image_gains(self) -> Values:
        """(S, N, K) gain of each class in each image that shows it, percent points; else NaN."""
        ours, theirs = _share(*self._areas)
        return np.where(self.shows, 100.0 * (ours - theirs), np.nan)

    def of_classes(self, by: ClassProperty, weights: Values) -> Values:
        """(B, S or 1, K) a property of each class; NaN where no image shows it.

        Args:
            by: which.
            weights: (B, N) how often each image counts.
        """
        number = weights @ self.shows
        if by == "frequency":
            share = np.where(number > 0, number / weights.sum(1, keepdims=True), np.nan)
            return share[:, None]
        values = self.of_images(by)
        known = ~np.isnan(values)
        sums = np.einsum("bn,snk->bsk", weights, np.where(known, values, 0.0), optimize=True)
        return _share(sums, np.einsum("bn,snk->bsk", weights, known.astype(float), optimize=True))

    def of_images(self, by: ClassProperty) -> Values:
        """(S or 1, N, K) a property of each class in each image that shows it; else NaN."""
        if by == "distance":
            return self.distance
        share = self.labelled / np.maximum(self.labelled.sum(1, keepdims=True), 1.0)
        return np.where(self.shows, share, np.nan)[None]


def over_classes(runs: PairedAreas, by: ClassProperty, *, sequential: bool) -> ClassTrend | None:
    """The trend of the gain over the classes; None: fewer than :data:`FEWEST_CLASSES` vary."""
    weights = _resamples(runs.num_images)
    gains, places = runs.class_gains(weights), runs.of_classes(by, weights)
    gains, places = np.broadcast_arrays(gains, places)
    known = ~(np.isnan(gains) | np.isnan(places))
    correlations = _spearman(gains, places, known.astype(float))
    num_classes = int(known[0].all(0).sum())
    if num_classes < FEWEST_CLASSES or np.isnan(correlations[0]).any():
        return None
    each = correlations[0]
    chance = (1.0 + float(each.mean()) ** 2 / 2.0) / (num_classes - 3.0)
    return _trend(correlations, runs, num_classes, chance, sequential)


def over_images(runs: PairedAreas, by: ClassProperty, *, sequential: bool) -> ClassTrend | None:
    """The trend of the gain from image to image of one class, a mean over the classes.

    Every class that :data:`FEWEST_IMAGES` images show counts by their number; None: there is none.
    """
    weights = _resamples(runs.num_images)
    gains, places = np.broadcast_arrays(runs.image_gains(), runs.of_images(by))
    known = ~(np.isnan(gains) | np.isnan(places)).any(0)
    total = np.zeros((len(weights), runs.num_seeds))
    counted, units = np.zeros_like(total), 0
    for k in np.flatnonzero(known.sum(0) >= FEWEST_IMAGES):
        images = np.flatnonzero(known[:, k])
        share = weights[:, images]
        units += len(images)
        for seed in range(runs.num_seeds):
            first, second = (
                _ranks_of_one(values[seed, images, k], share) for values in (gains, places)
            )
            own = _pearson(first, second, share)
            number = np.where(np.isnan(own), 0.0, share.sum(1))
            total[:, seed] += np.where(np.isnan(own), 0.0, own) * number
            counted[:, seed] += number
    if not counted[0].all():
        return None
    correlations = np.where(counted > 0, total / np.maximum(counted, 1.0), np.nan)
    return _trend(correlations, runs, units, 0.0, sequential)


def _trend(
    correlations: Values, runs: PairedAreas, num_units: int, chance: float, sequential: bool
) -> ClassTrend:
    """The estimate of correlations (B, S), of which the first is that of the images as they are."""
    fisher = np.arctanh(np.clip(correlations, -_LARGEST, _LARGEST))
    real, drawn = fisher[0], fisher[1:][~np.isnan(fisher[1:]).any(1)]
    images = 0.0
    if len(drawn) > 1:
        images = float(drawn.mean(1).var(ddof=1))
        if runs.num_seeds > 1:
            alone = (drawn - real).var(1, ddof=1).mean() / runs.num_seeds
            images = max(images - float(alone), 0.0)
    estimate = Estimate(
        value=float(real.mean()),
        variance=float(real.var(ddof=1) / len(real)) if len(real) > 1 else 0.0,
        images=images + chance,
        num_seeds=len(real),
        num_images=runs.num_images,
        squares=1.0,
        sequential=sequential,
    )
    return ClassTrend(estimate, tuple(float(value) for value in correlations[0]), num_units)


def _resamples(num_images: int) -> Values:
    """(1 + RESAMPLES, N) how often each image is drawn; first the images as they are."""
    generator = np.random.default_rng(0)
    drawn = generator.multinomial(num_images, np.full(num_images, 1.0 / num_images), RESAMPLES)
    return np.concatenate([np.ones((1, num_images)), drawn.astype(np.float64)])


def _share(part: Values, whole: Values) -> Values:
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)


def _spearman(first: Values, second: Values, weights: Values) -> Values:
    """(...) rank correlations over the last axis of what has weight; NaN where one is constant."""
    one, other = (_ranks(np.where(weights > 0, values, 0.0), weights) for values in (first, second))
    return _pearson(one, other, weights)


def _ranks(values: Values, weights: Values) -> Values:
    """(..., n) mean ranks of weighted values (..., n)."""
    below = values[..., None, :] < values[..., :, None]
    same = values[..., None, :] == values[..., :, None]
    return ((below + 0.5 * same) * weights[..., None, :]).sum(-1)


def _ranks_of_one(values: Values, weights: Values) -> Values:
    """(B, n) mean ranks of the same values (n,) under B weights (B, n)."""
    below = (values[None, :] < values[:, None]) + 0.5 * (values[None, :] == values[:, None])
    return weights @ below.T


def _pearson(first: Values, second: Values, weights: Values) -> Values:
    """(...) weighted correlations over the last axis; NaN where one does not vary."""
    total = np.maximum(weights.sum(-1, keepdims=True), 1e-12)
    first = first - (weights * first).sum(-1, keepdims=True) / total
    second = second - (weights * second).sum(-1, keepdims=True) / total
    squares = (weights * first**2).sum(-1) * (weights * second**2).sum(-1)
    return _share((weights * first * second).sum(-1), np.sqrt(np.where(squares > 1e-9, squares, 0)))
