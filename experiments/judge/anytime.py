"""How far a mean over seeds may lie from the truth, at whatever number of seeds one stops.

Student's interval is right for a number of seeds that was fixed beforehand. Whoever looks, adds
seeds and looks again is wrong more often. A confidence sequence holds at all numbers of seeds at
once, with one probability, however one decides to stop or which row gets the next seed.

Under the hypothesis that the mean is m, of S paired gains with mean x, variance s² and
t² = S (x − m)² / s²,

    E_S(m) = (1 + Sg)^(−1/2) · [(1 + t² / (S − 1)) / (1 + t² / ((S − 1)(1 + Sg)))]^(S/2)

is a martingale that begins at 1: the likelihood ratio of the maximal invariants, with the right
Haar measure over the deviation and a normal one with variance g over the mean in deviations. By
Ville's inequality it ever exceeds 1/α with probability α at most, so that the m with
E_S(m) < 1/α hold the true mean at every S with probability 1 − α.

Lai (1976, On confidence sequences, Ann. Statist. 4(2), 265-280) has the idea, with a flat measure
over the mean; Wang and Ramdas (2023, Anytime-valid t-tests and confidence sequences for Gaussian
means with unknown variance, arXiv:2310.03722) the normal one, which makes it a test martingale.

What it supposes: gains of pairs are normal and independent given the images, and seeds are taken in
their order. Nothing is borrowed from other rows. The functions take arrays, so that false verdicts
can be simulated with what tables call (benchmarks/decide.py).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from experiments.judge.spread import CONFIDENCE, Values

#: g, the variance of a gain in its own deviations that is expected beforehand. Any value is valid;
#: it decides for which gains the fewest seeds are needed. Of 1 to 12, 4 costs no gain of 0.75 to 3
#: deviations more than 5 % over what is best for it.
EXPECTED = 4.0

#: share of α that goes to the images, whose draw is one for all seeds
IMAGES_SHARE = 0.2


def seed_half_width(variance: ArrayLike, num_seeds: int, alpha: ArrayLike) -> Values:
    """Half-width at confidence 1 − ``alpha`` at every number of seeds at once.

    Args:
        variance: of the mean over seeds, s² / S.
        num_seeds: S, at least 2; with few the interval may be endless.
        alpha: 1 − confidence.
    """
    alpha = np.asarray(alpha, dtype=np.float64)
    spread = 1.0 + num_seeds * EXPECTED
    # E_S = 1 / α solved for the ratio in brackets, then for t² / (S − 1)
    ratio = np.exp((np.log(spread) - 2.0 * np.log(alpha)) / num_seeds)
    ends = ratio < spread  # else the brackets never get so far, whatever the mean
    squared = (ratio - 1.0) * spread / np.where(ends, spread - ratio, 1.0)
    width = np.sqrt(np.asarray(variance) * (num_seeds - 1) * squared)
    return np.asarray(np.where(ends, width, np.inf))


def half_width(
    variance: ArrayLike,
    num_seeds: int,
    images: ArrayLike,
    num_images: int,
    alpha: ArrayLike = 1.0 - CONFIDENCE,
) -> Values:
    """Half-width of an interval of a mean over seeds, of seeds and images drawn anew.

    The images are drawn once and no seed reduces what they do: given them, the sequence above is
    about the mean on these images, and that lies off the true one by a normal error. Each of the
    two has its share of ``alpha`` and the half-widths are added (Bonferroni), since squares, as
    :func:`experiments.judge.spread.half_width` has them, are about one number of seeds only.

    Args:
        variance: of the mean, by the spread of its seeds; with one seed it has no say.
        num_seeds: S.
        images: variance of the mean by the choice of images that all seeds share.
        num_images: N.
        alpha: 1 − confidence.
    """
    from scipy.special import stdtrit  # a tenth of a second: only where it is judged

    alpha = np.asarray(alpha, dtype=np.float64)
    width = np.zeros(np.broadcast_shapes(np.shape(variance), np.shape(images), alpha.shape))
    if num_seeds > 1:
        width = width + seed_half_width(variance, num_seeds, (1.0 - IMAGES_SHARE) * alpha)
    if num_images > 1:
        away = -stdtrit(num_images - 1, IMAGES_SHARE * alpha / 2)
        width = width + away * np.sqrt(np.asarray(images))
    return np.asarray(width)
