"""Medians, intervals and noise, against what they are defined to be and against simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import make_areas

from experiments.judge.statistics import (
    MEDIAN_EFFICIENCY,
    Z_99,
    ScoredRun,
    gain,
    noise_of_difference,
    pooled_seed_deviation,
    summarise,
)
from experiments.store.areas import ImageAreas, scores


def strong(seed: int) -> ImageAreas:
    return make_areas(seed, images=12, skill=0.8)


def weak(seed: int) -> ImageAreas:
    return make_areas(seed, images=12, skill=0.6)


def chosen(areas: ImageAreas, images: np.ndarray) -> ImageAreas:
    return ImageAreas(
        names=tuple(areas.names[i] for i in images),
        intersection=areas.intersection[images],
        predicted=areas.predicted[images],
        labelled=areas.labelled[images],
    )


def test_a_summary_is_the_middle_and_the_ends() -> None:
    summary = summarise([3.0, 1.0, 2.5])
    assert (summary.median, summary.low, summary.high, summary.num_seeds) == (2.5, 1.0, 3.0, 3)
    assert summarise([1.0, 2.0]).median == 1.5


def test_the_gain_is_the_mean_of_the_paired_gains() -> None:
    rows, baselines = [strong(i) for i in range(3)], [weak(i) for i in range(3)]
    made = gain(rows, baselines)
    pairs = [scores(row).miou - scores(base).miou for row, base in zip(rows, baselines)]
    assert made.value == pytest.approx(np.mean(pairs), abs=1e-12)
    assert made.low <= made.value <= made.high
    assert (made.num_seeds, made.num_images) == (3, 12)


def test_the_same_records_give_the_same_interval() -> None:
    rows, baselines = [strong(i) for i in range(3)], [weak(i) for i in range(3)]
    assert gain(rows, baselines) == gain(rows, baselines)


@pytest.mark.parametrize("seeds", [1, 3])
def test_identical_runs_differ_by_nothing_at_all(seeds: int) -> None:
    """Only if seeds and images are drawn in pairs."""
    runs = [strong(i) for i in range(seeds)]
    made = gain(runs, runs)
    assert (made.value, made.low, made.high) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_a_gain_and_its_opposite_mirror_each_other(seeds: int) -> None:
    rows, baselines = [strong(i) for i in range(seeds)], [weak(9 + i) for i in range(seeds)]
    forth, back = gain(rows, baselines), gain(baselines, rows)
    assert (back.value, back.low, back.high) == pytest.approx(
        (-forth.value, -forth.high, -forth.low), abs=1e-9
    )


def test_the_jackknife_is_what_leaving_images_out_one_by_one_gives() -> None:
    run = strong(0)
    expected = [scores(chosen(run, np.delete(np.arange(12), i))).miou for i in range(12)]
    assert ScoredRun(run).left_out == pytest.approx(np.array(expected))


def test_what_cannot_be_paired_is_refused() -> None:
    with pytest.raises(ValueError, match="2 runs against 1"):
        gain([strong(0), strong(1)], [weak(0)])
    with pytest.raises(ValueError, match="0 runs against 0"):
        gain([], [])
    with pytest.raises(ValueError, match="different images"):
        gain([strong(0)], [chosen(weak(0), np.arange(11))])


def test_a_class_that_no_drawn_image_has_is_left_out() -> None:
    rare = strong(0)
    labelled, predicted = rare.labelled.copy(), rare.predicted.copy()
    hit = rare.intersection.copy()
    for area in (labelled, predicted, hit):
        area[1:, 3] = 0  # class 3 occurs in the first image only
    runs = [ImageAreas(rare.names, hit, predicted, labelled)]
    made = gain(runs, [weak(0)])
    assert all(map(math.isfinite, (made.value, made.low, made.high)))


# --- the p-value --------------------------------------------------------------------------------


def test_the_p_value_of_identical_runs_is_one() -> None:
    runs = [strong(i) for i in range(3)]
    assert gain(runs, runs).p_value == 1.0


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_which_run_is_called_the_baseline_does_not_matter(seeds: int) -> None:
    rows = [make_areas(i, images=12, skill=0.63) for i in range(seeds)]
    baselines = [weak(9 + i) for i in range(seeds)]
    forth, back = gain(rows, baselines), gain(baselines, rows)
    assert forth.p_value == pytest.approx(back.p_value)
    assert 0 < forth.p_value < 1


# --- noise between seeds ------------------------------------------------------------------------

groups = st.lists(st.lists(st.floats(0, 100), max_size=5), max_size=5)


@given(groups)
def test_the_pooled_deviation_is_its_definition(values: list[list[float]]) -> None:
    full = [np.array(group) for group in values if len(group) > 1]
    pooled = pooled_seed_deviation(values)
    if not full:
        assert pooled is None
        return
    squares = sum(((group - group.mean()) ** 2).sum() for group in full)
    expected = math.sqrt(squares / sum(len(group) - 1 for group in full))
    assert pooled == pytest.approx(expected, abs=1e-9)


@pytest.mark.filterwarnings("error")
def test_a_row_without_a_run_does_not_spoil_the_others_noise() -> None:
    assert pooled_seed_deviation([[40.0, 42.0], []]) == pooled_seed_deviation([[40.0, 42.0]])
    assert pooled_seed_deviation([[], []]) is None
    assert pooled_seed_deviation([[40.0], [41.0]]) is None


def test_noise_of_a_difference() -> None:
    expected = Z_99 * MEDIAN_EFFICIENCY * 0.3 * math.sqrt(1 / 3 + 1 / 5)
    assert noise_of_difference(0.3, 3, 5) == pytest.approx(expected)
    assert noise_of_difference(None, 1, 1) == 0.0
    assert noise_of_difference(0.3, 3, 3) < noise_of_difference(0.3, 1, 1)


def test_two_honest_medians_seldom_differ_by_more_than_noise() -> None:
    generator = np.random.default_rng(0)
    medians = np.median(generator.normal(0.0, 0.5, size=(4000, 2, 9)), axis=2)
    beyond = np.abs(medians[:, 0] - medians[:, 1]) > noise_of_difference(0.5, 9, 9)
    assert 0.0 < beyond.mean() < 0.02
