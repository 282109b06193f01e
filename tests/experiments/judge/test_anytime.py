"""Intervals that hold at whatever number of seeds one stops; a part of benchmarks.decide."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.decide import FIRST, MOST, Setting, draw, effort, false_verdicts, holm
from experiments.judge import anytime, spread
from experiments.judge.statistics import Estimate

TABLES = 600
NOISE = 2.5 * (0.05 * 0.95 / TABLES) ** 0.5


@pytest.mark.parametrize("claims", [1, 6])
@pytest.mark.parametrize("images", [0.0, 1.0])
def test_one_table_of_twenty_without_truth_gets_a_verdict_at_most(
    claims: int, images: float
) -> None:
    generator = np.random.default_rng([claims, int(images)])
    setting = Setting(claims, 0.0, images, correlation=0.4, tables=TABLES)
    assert false_verdicts(setting, generator) <= 0.05 + NOISE


def test_students_interval_looked_at_after_every_seed_is_wrong_more_often() -> None:
    """What the sequence is for; and the simulation does see false verdicts."""
    tables = draw(Setting(1, 0.0, tables=TABLES), MOST, np.random.default_rng(0))
    decided = np.zeros((TABLES, 1), dtype=bool)
    for seeds in range(FIRST, MOST + 1):
        means, variances = tables.moments(seeds)
        holm(
            np.abs(means),
            lambda alpha, v=variances, s=seeds: spread.half_width(v, s, 0.0, 1, alpha),
            decided,
        )
    assert decided.mean() > 0.12


@pytest.mark.parametrize("claims", [1, 6])
def test_a_gain_of_one_and_a_half_deviations_takes_fewer_runs_than_a_fixed_design(
    claims: int,
) -> None:
    measured = effort(Setting(claims, 1.5, tables=TABLES), np.random.default_rng(claims))
    assert measured.fixed_runs is not None
    assert measured.power > 0.99
    assert measured.mean_runs < measured.fixed_runs


@pytest.mark.parametrize("seeds", [3, 5, 12, 30])
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 6])
def test_the_ends_of_an_interval_are_where_the_martingale_is_one_over_alpha(
    seeds: int, alpha: float
) -> None:
    width = float(anytime.seed_half_width(0.4, seeds, alpha))
    if not np.isfinite(width):
        assert seeds == 3
        return
    t_squared, spread_ = width**2 / 0.4, 1 + seeds * anytime.EXPECTED
    freedom = seeds - 1
    inner = (1 + t_squared / freedom) / (1 + t_squared / (freedom * spread_))
    assert spread_**-0.5 * inner ** (seeds / 2) == pytest.approx(1 / alpha)


def test_two_seeds_decide_nothing_and_neither_do_equal_ones() -> None:
    assert np.isinf(anytime.half_width(0.1, 2, 0.0, 1))
    assert np.isinf(anytime.half_width(0.0, 2, 0.0, 1))
    assert anytime.half_width(0.0, 5, 0.0, 1) == 0


def test_what_the_images_do_is_left_however_many_seeds_there_are() -> None:
    widths = [float(anytime.half_width(1.0 / n, n, 0.25, 150)) for n in (5, 50, 5000, 10**7)]
    assert widths == sorted(widths, reverse=True)
    alone = float(anytime.half_width(0.0, 1, 0.25, 150))
    assert widths[-1] == pytest.approx(alone, abs=0.01)
    assert alone > float(spread.half_width(0.0, 1, 0.25, 150)), "its share of 5 % is smaller"


@pytest.mark.parametrize("value", [0.2, 1.0, 1.7, 3.0, 20.0])
@pytest.mark.parametrize("seeds", [2, 3, 6, 20])
def test_the_p_value_tells_the_same_as_the_interval(value: float, seeds: int) -> None:
    estimate = Estimate(value, 1.0 / seeds, 0.04, seeds, 150, 2.0, sequential=True)
    low, _ = estimate.interval()
    assert (estimate.p_value() < 0.05) == (low > 0)
