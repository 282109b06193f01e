"""Intervals cover as often as they say: a small part of the grid of benchmarks/coverage.py."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import polygamma

import experiments
from benchmarks.coverage import Cell, covered, judged, table, weights_of
from benchmarks.record import read
from experiments import ImageAreas
from experiments.judge.spread import (
    _inverse_trigamma,
    fit_prior,
    half_width,
    image_variance,
    noise_between,
)
from experiments.judge.verdict import FALSE_ALARMS
from experiments.machine import PROJECT

CLASSES, IMAGES = 8, 40


def runs(
    shifts: np.ndarray, difficulty: np.ndarray, size: np.ndarray, generator: np.random.Generator
) -> list[ImageAreas]:
    """One run a shift (percent points of IoU), on images that are as hard for all of them."""
    own = generator.normal(0, 0.03, (len(shifts), *size.shape))
    right = np.clip(0.5 + shifts[:, None, None] / 100 + difficulty + own, 0, 1)
    hits = np.round(right * size).astype(np.int64)
    names = tuple(map(str, range(len(size))))
    return [ImageAreas(names, hit, size, size) for hit in hits]


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("lenders", [0, 4])
def test_nineteen_of_twenty_intervals_hold_the_true_gain(seeds: int, lenders: int) -> None:
    """Images and seeds drawn anew each time; the p-value tells the same as the interval."""
    generator = np.random.default_rng([seeds, lenders])
    repeats, held = 300, 0
    for _ in range(repeats):
        size = generator.integers(50, 200, (IMAGES, CLASSES))
        difficulty = generator.normal(0, 0.1, size.shape)
        rows = [
            runs(generator.normal(0, 1.2, seeds), difficulty, size, generator)
            for _ in range(2 + lenders)
        ]
        gain = experiments.gain(rows[0], rows[1], others=rows[2:])
        assert (gain.p_value < 0.05) == (gain.low > 0 or gain.high < 0)
        assert gain.num_lenders == lenders
        held += gain.low <= 0 <= gain.high
    assert held / repeats >= 0.92  # 0.95 less two and a half standard errors


@pytest.mark.parametrize("seeds", [2, 3, 20])
@pytest.mark.parametrize("lender", ["none", "row's", "0.3 points"])
@pytest.mark.parametrize("tails", ["normal", "t4"])
def test_a_row_unlike_those_that_lend_is_covered_too(seeds: int, lender: str, tails: str) -> None:
    generator = np.random.default_rng(seeds)
    for deviations in ((0.3, 0.3), (1.2, 0.3), (4.0, 0.3)):
        cover, _ = covered(seeds, deviations, 0.4, tails, lender, None, 8000, generator)
        assert cover >= 0.935  # 0.94 less two standard errors


@pytest.mark.parametrize("kind", ["share", "trend", "best", "together"])
@pytest.mark.parametrize("seeds", [2, 3, 10])
def test_every_kind_of_claim_is_right_as_often_as_it_says(kind: str, seeds: int) -> None:
    generator = np.random.default_rng(seeds)
    rows = weights_of(kind).shape[1]
    for deviations in ((1.2,) * rows, (4.0, *(0.3,) * (rows - 1))):
        cell = Cell(kind, seeds, deviations, correlation=0.4)
        assert judged(cell, None, 6000, generator).right >= 0.935


@pytest.mark.parametrize("evaluations", [5, 20])
def test_a_curve_reaches_a_level_within_its_interval(evaluations: int) -> None:
    generator = np.random.default_rng(evaluations)
    for deviation in (0.01, 0.1):
        cell = Cell("reach", 3, (deviation,), evaluations=evaluations)
        assert judged(cell, None, 1000, generator).right >= 0.93


def test_the_page_on_claims_has_the_shipped_coverage() -> None:
    record = read(PROJECT / "results" / "reference" / "benchmarks" / "coverage.json")
    page = (PROJECT / "docs" / "claims.md").read_text(encoding="utf-8")
    assert table(record) in page
    assert all(figure.met for figure in record.figures)


def test_borrowing_from_like_rows_narrows_the_interval() -> None:
    generator = np.random.default_rng(0)
    widths = [
        covered(3, (1.2, 1.2), 0.0, "normal", lender, None, 8000, generator)[1]
        for lender in ("none", "row's")
    ]
    assert widths[1] < 0.96 * widths[0]


def test_two_seeds_with_nothing_to_borrow_are_as_wide_as_students_t() -> None:
    assert half_width(0.5, 2, 0.0, 1) == pytest.approx(12.7062 * 0.5**0.5, rel=1e-5)


def test_what_an_image_does_to_each_seed_is_not_counted_twice() -> None:
    """Seeds whose images are independent have nothing in common beside their spread."""
    generator = np.random.default_rng(0)
    alone = generator.normal(size=(400, 3, 50))
    assert image_variance(alone).mean() < 0.6 * image_variance(alone, shared=False).mean()
    common = np.repeat(generator.normal(size=(1, 50)), 3, axis=0)
    assert image_variance(common) == pytest.approx(float(image_variance(common, shared=False)))


def test_the_trigamma_function_is_inverted_to_the_last_digits() -> None:
    place = np.geomspace(1.001e-4, 9.99e3, 1000)
    np.testing.assert_allclose(_inverse_trigamma(polygamma(1, place)), place, rtol=1e-9)
    np.testing.assert_array_equal(_inverse_trigamma(np.array([1e9, 0.0, 1e-12])), [1e-4, 1e4, 1e4])


def test_the_prior_is_that_which_the_variances_were_drawn_from() -> None:
    generator = np.random.default_rng(0)
    deviation = np.sqrt(2.0 * 8 / generator.chisquare(8, 2000))
    prior = fit_prior(list(deviation[:, None] * generator.standard_normal((2000, 5))))
    assert prior is not None
    assert prior.freedom == pytest.approx(8, rel=0.2)
    assert prior.variance == pytest.approx(2.0 * 8 / 6, rel=0.1)
    assert polygamma(1, prior.freedom / 2) > 0
    assert fit_prior([]) is fit_prior([[1.0]]) is fit_prior([[1.0, 1.0]]) is None


@pytest.mark.parametrize("seeds", [(1, 3), (2, 2), (3, 3)])
def test_two_correct_installations_differ_in_one_of_a_hundred_comparisons(
    seeds: tuple[int, int],
) -> None:
    """Rows of a table deviate by 0.6 to 2.4 points, and both installations alike."""
    generator = np.random.default_rng(seeds)
    differ, compared = 0, 4000
    for _ in range(compared):
        deviations = 1.2 * 2 ** generator.uniform(-1, 1, 6)
        ours, theirs = (
            [list(generator.normal(0, deviation, number)) for deviation in deviations]
            for number in seeds
        )
        others = [*ours[1:], *theirs[1:]]
        noise = noise_between(ours[0], theirs[0], others, FALSE_ALARMS)
        assert noise is not None
        differ += abs(np.mean(ours[0]) - np.mean(theirs[0])) > noise
    assert differ / compared <= 0.0125  # 1 % and one and a half standard errors


def test_one_seed_each_tells_nothing() -> None:
    assert noise_between([40.0], [44.0], [[40.0, 41.0, 42.0]], 0.01) is None
