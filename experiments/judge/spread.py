"""How far a mean over few seeds may lie from the truth: Student's t, with a deviation that is lent.

Two variances make up that of a mean over seeds: that between seeds, known from few of them, and
that of the images, known from many. The functions take arrays, so that coverage can be simulated
with what tables call (benchmarks/coverage.py).

The squared half-width is the sum of the two parts' squared half-widths, each at the interval's own
confidence: t²(S − 1)·s²/S + t²(N − 1)·v. It covers at least as often as its parts do, whatever
their shares, since the distribution function of a squared normal variable is concave. One t with
Satterthwaite's degrees of freedom is as wide on the median and covers 87 % in its worst cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Values: TypeAlias = NDArray[np.float64]

CONFIDENCE = 0.95

#: prior odds, a unit of log variance, that a row's deviation is the table's. Odds of 0 borrow
#: nothing; larger ones give shorter intervals, which cover less where a row deviates otherwise
#: than the others. At 0.5 simulated coverage was 94.3 % or more at every ratio tried.
ODDS = 0.5

HALVINGS = 60  # of a bracket: to the last digits
NEWTON_STEPS = 6  # to the last digits, whatever the value
SMALLEST_P = 1e-12


@dataclass(frozen=True)
class Prior:
    """What a table's other rows say of a variance between seeds."""

    variance: float  # of one run, percent points squared
    freedom: float  # degrees, > 0
    num_rows: int


def fit_prior(others: Sequence[Sequence[float]], *, paired: bool = True) -> Prior | None:
    """The prior of a variance from the mIoU of other rows, one value a seed.

    Smyth (2004, Linear models and empirical Bayes methods for assessing differential expression,
    Stat. Appl. Genet. Mol. Biol. 3(1)) takes variances of rows to be s₀²·d₀/χ²(d₀). As there, d₀
    follows from the moments of the log variances; s₀² is the variances' pooled mean, which is at
    least as large as Smyth's and steadier with one degree a row. d₀ is at most the degrees that
    the rows have together, since s₀² is no better known than that.

    Three rows or more with equally many seeds are taken to be paired by seed, and what a seed does
    to all of them is left out, as it is from paired gains; not so unless ``paired``.

    Returns:
        None without a row that has two seeds and a spread.
    """
    rows = [np.asarray(row, dtype=np.float64) for row in others if len(row) > 1]
    if not rows:
        return None
    share = 1.0
    if paired and len(rows) > 2 and len({len(row) for row in rows}) == 1:
        common = np.mean([row - row.mean() for row in rows], axis=0)
        rows, share = [row - common for row in rows], 1.0 - 1.0 / len(rows)
    freedom = np.array([len(row) - 1.0 for row in rows])
    variance, lent = prior_of(np.array([row.var(ddof=1) / share for row in rows]), freedom, share)
    return Prior(float(variance), float(lent), len(rows)) if variance > 0 else None


def prior_of(variances: Values, freedom: Values, share: float = 1.0) -> tuple[Values, Values]:
    """Variance and degrees of the prior, each (...), of the variances (..., R) of R rows.

    Args:
        variances: of the rows.
        freedom: (R,) their degrees.
        share: of the degrees that is left once what rows have in common is out.
    """
    from scipy.special import digamma, polygamma  # a tenth of a second: only where it is judged

    pooled = (freedom * variances).sum(-1) / freedom.sum()
    most = np.full(pooled.shape, float(freedom.sum()) * share)
    if len(freedom) == 1:
        return pooled, most
    least = np.maximum(1e-9 * pooled, np.finfo(float).tiny)[..., None]
    logs = np.log(np.maximum(variances, least)) - digamma(freedom / 2) + np.log(freedom / 2)
    excess = logs.var(-1, ddof=1) - polygamma(1, freedom / 2).mean()
    return pooled, np.where(excess > 0, np.minimum(most, 2 * _inverse_trigamma(excess)), most)


def _inverse_trigamma(value: Values) -> Values:
    """Where the trigamma function, which falls, has a positive value; 10⁴ for smaller ones.

    By Newton's method on its reciprocal, which is nearly a line (Smyth 2004, appendix).
    """
    from scipy.special import polygamma  # a tenth of a second: only where it is judged

    value = np.maximum(value, 1e-5)
    place = np.where(value > 10, 1 / np.sqrt(value), 0.5 + 1 / value)
    for _ in range(NEWTON_STEPS):
        there = polygamma(1, place)
        place = place + there * (1 - there / value) / polygamma(2, place)
    return np.asarray(np.clip(place, 1e-4, 1e4))


def seed_half_width(
    variance: ArrayLike,
    freedom: float,
    alpha: ArrayLike,
    lent: ArrayLike | None = None,
    lent_freedom: ArrayLike = 1.0,
) -> Values:
    """Half-width at confidence 1 − ``alpha`` of a mean whose only noise is that between seeds.

    Without anything lent it is Student's. Else it is where a mixture of two p-values is ``alpha``:
    that of the moderated t (Smyth 2004), in which the lent variance counts for its degrees, and
    Student's own. The moderated one weighs as much as the own variance is likely under the prior,
    so a row that deviates otherwise than the table is left to its own (a robust mixture prior:
    Schmidli et al. 2014, Biometrics 70(4), 1023-1032; the other component is Jeffreys').

    Args:
        variance: of the mean, estimated with ``freedom`` degrees.
        freedom: S − 1, at least 1.
        alpha: 1 − confidence.
        lent: what the prior says of the same variance; None: nothing is lent.
        lent_freedom: the prior's degrees.
    """
    from scipy.special import stdtr, stdtrit  # a tenth of a second: only where it is judged

    own = np.asarray(variance, dtype=np.float64)
    alpha = np.asarray(alpha, dtype=np.float64)
    plain = -stdtrit(freedom, alpha / 2) * np.sqrt(own)
    if lent is None:
        return np.asarray(plain)
    prior, d0 = np.asarray(lent, dtype=np.float64), np.asarray(lent_freedom, dtype=np.float64)
    both = (freedom * own + d0 * prior) / (freedom + d0)
    moderated = -stdtrit(freedom + d0, alpha / 2) * np.sqrt(both)
    weight = _likeness(own / prior, freedom, d0)
    low, high = np.minimum(plain, moderated), np.maximum(plain, moderated)
    scale = np.sqrt(np.maximum(own, np.finfo(float).tiny))
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        p = 2 * weight * stdtr(freedom + d0, -middle / np.sqrt(both))
        p += 2 * (1 - weight) * stdtr(freedom, -middle / scale)
        wide = p > alpha
        low, high = np.where(wide, middle, low), np.where(wide, high, middle)
    return np.asarray(low)


def _likeness(ratio: Values, freedom: float, d0: Values) -> Values:
    """Weight of the prior where a variance is ``ratio`` times the lent one; F's log density."""
    from scipy.special import betaln  # a tenth of a second: only where it is judged

    with np.errstate(divide="ignore", over="ignore"):
        log = (
            np.log(ODDS)
            + freedom / 2 * np.log(freedom * ratio)
            + d0 / 2 * np.log(d0)
            - (freedom + d0) / 2 * np.log(freedom * ratio + d0)
            - betaln(freedom / 2, d0 / 2)
        )
        return np.asarray(1.0 / (1.0 + np.exp(-log)))


def half_width(
    variance: ArrayLike,
    num_seeds: int,
    images: ArrayLike,
    num_images: int,
    alpha: ArrayLike = 1.0 - CONFIDENCE,
    lent: ArrayLike | None = None,
    lent_freedom: ArrayLike = 1.0,
) -> Values:
    """Half-width of an interval of a mean over seeds, of seeds and images drawn anew.

    Args:
        variance: of the mean, by the spread of its seeds; with one seed it has no say.
        num_seeds: S.
        images: variance of the mean by the choice of images that all seeds share.
        num_images: N.
        alpha: 1 − confidence.
        lent: see :func:`seed_half_width`.
        lent_freedom: see :func:`seed_half_width`.
    """
    from scipy.special import stdtrit  # a tenth of a second: only where it is judged

    alpha = np.asarray(alpha, dtype=np.float64)
    squared = np.zeros(np.broadcast_shapes(np.shape(variance), np.shape(images), alpha.shape))
    if num_seeds > 1:
        seeds = seed_half_width(variance, num_seeds - 1, alpha, lent, lent_freedom)
        squared = squared + seeds**2
    if num_images > 1:
        squared = squared + stdtrit(num_images - 1, alpha / 2) ** 2 * np.asarray(images)
    return np.asarray(np.sqrt(squared))


def image_variance(left_out: Values, *, shared: bool = True) -> Values:
    """Jackknife variance of a mean over seeds by the choice of images.

    What the images do to each seed alone is in the spread of the seeds already. It is taken off
    (not below 0), or it would be counted twice.

    Args:
        left_out: (..., S, N) the number of each seed with each image left out.
        shared: whether to take off what each seed has alone.
    """
    num_seeds, num_images = left_out.shape[-2:]
    away = left_out - left_out.mean(-1, keepdims=True)
    jackknife = (num_images - 1) / num_images
    whole = jackknife * (away.mean(-2) ** 2).sum(-1)
    if not shared or num_seeds == 1:
        return np.asarray(whole)
    alone = jackknife * away.var(-2, ddof=1).sum(-1) / num_seeds
    return np.asarray(np.maximum(whole - alone, 0.0))


def noise_between(
    first: Sequence[float], second: Sequence[float], others: Sequence[Sequence[float]], alpha: float
) -> float | None:
    """How far the means of two groups of runs of one row lie apart by chance, percent points.

    Both groups deviate alike, so their variances are pooled (Student's t for two groups), and
    moderated by ``others`` as that of a gain is. They may share images, which then add nothing.

    Args:
        first: mIoU of the one group, one value a seed.
        second: of the other.
        others: mIoU of the other rows' groups.
        alpha: how often they lie further apart.

    Returns:
        None with one seed each: the row may deviate otherwise than those that lend.
    """
    prior = fit_prior(others, paired=False)
    factor = 1.0 / len(first) + 1.0 / len(second)
    freedom = len(first) + len(second) - 2
    if freedom == 0:
        return None
    squares = sum(float(np.var(group)) * len(group) for group in (first, second))
    variance = squares / freedom * factor
    if prior is None:
        return float(seed_half_width(variance, freedom, alpha))
    return float(seed_half_width(variance, freedom, alpha, prior.variance * factor, prior.freedom))
