"""Medians, intervals and noise, against what they are defined to be and against simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import make_areas

from experiments.judge.statistics import (
    MEDIAN_EFFICIENCY,
    PERMUTATIONS,
    Z_99,
    ScoredRun,
    bootstrap_gain,
    noise_of_difference,
    permutation_p,
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


def test_the_gain_is_the_difference_of_the_medians_that_the_table_prints() -> None:
    rows, baselines = [strong(i) for i in range(3)], [weak(i) for i in range(3)]
    gain = bootstrap_gain(rows, baselines)
    printed = [np.median([scores(run).miou for run in runs]) for runs in (rows, baselines)]
    assert gain.value == pytest.approx(printed[0] - printed[1], abs=1e-12)
    assert gain.low <= gain.value <= gain.high
    assert (gain.num_seeds, gain.num_images) == (3, 12)


def test_the_same_records_give_the_same_interval() -> None:
    rows, baselines = [strong(i) for i in range(3)], [weak(i) for i in range(3)]
    assert bootstrap_gain(rows, baselines) == bootstrap_gain(rows, baselines)
    assert bootstrap_gain(rows, baselines, seed=1) != bootstrap_gain(rows, baselines)


@pytest.mark.parametrize("seeds", [1, 3])
def test_identical_runs_differ_by_nothing_at_all(seeds: int) -> None:
    """Only if seeds and images are drawn in pairs."""
    runs = [strong(i) for i in range(seeds)]
    gain = bootstrap_gain(runs, runs)
    assert (gain.value, gain.low, gain.high) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_a_gain_and_its_opposite_mirror_each_other(seeds: int) -> None:
    rows, baselines = [strong(i) for i in range(seeds)], [weak(9 + i) for i in range(seeds)]
    there, back = bootstrap_gain(rows, baselines), bootstrap_gain(baselines, rows)
    assert (back.value, back.low, back.high) == pytest.approx(
        (-there.value, -there.high, -there.low), abs=1e-9
    )


def test_the_draws_are_what_drawing_images_one_by_one_gives() -> None:
    """The interval of one seed against a plain loop over draws of images."""
    row, baseline = strong(0), weak(0)
    generator = np.random.default_rng(7)
    draws = []
    for _ in range(4000):
        images = generator.integers(0, 12, size=12)
        draws.append(scores(chosen(row, images)).miou - scores(chosen(baseline, images)).miou)
    gain = bootstrap_gain([row], [baseline], replicates=4000)
    low, high = np.quantile(draws, [0.025, 0.975])
    assert gain.low == pytest.approx(low, abs=0.35)
    assert gain.high == pytest.approx(high, abs=0.35)


def test_the_interval_covers_the_known_truth() -> None:
    """Seeds move a run, images are drawn from a population whose true gain is known."""
    generator = np.random.default_rng(3)
    population, images, repeats, classes = 3000, 60, 120, 4
    hard = generator.normal(0.0, 0.5, size=(population, 1))
    pixels = generator.integers(50, 200, size=(population, classes))

    def run(skill: float) -> ImageAreas:
        chance = 1 / (1 + np.exp(-(skill + hard)))
        hit = generator.binomial(pixels, chance)
        return ImageAreas(tuple(map(str, range(population))), hit, pixels, pixels)

    true = scores(run(1.3)).miou - scores(run(1.0)).miou
    covered = 0
    for _ in range(repeats):
        drawn = generator.choice(population, size=images, replace=False)
        shifts = generator.normal(0.0, 0.02, size=(2, 3))
        rows = [chosen(run(1.3 + s), drawn) for s in shifts[0]]
        baselines = [chosen(run(1.0 + s), drawn) for s in shifts[1]]
        gain = bootstrap_gain(rows, baselines, replicates=300)
        covered += gain.low <= true <= gain.high
    assert 0.85 <= covered / repeats <= 1.0


def test_what_cannot_be_paired_is_refused() -> None:
    with pytest.raises(ValueError, match="2 runs against 1"):
        bootstrap_gain([strong(0), strong(1)], [weak(0)])
    with pytest.raises(ValueError, match="0 runs against 0"):
        bootstrap_gain([], [])
    with pytest.raises(ValueError, match="different images"):
        bootstrap_gain([strong(0)], [chosen(weak(0), np.arange(11))])


def test_a_class_that_no_drawn_image_has_is_left_out() -> None:
    rare = strong(0)
    labelled, predicted = rare.labelled.copy(), rare.predicted.copy()
    hit = rare.intersection.copy()
    for area in (labelled, predicted, hit):
        area[1:, 3] = 0  # class 3 occurs in the first image only
    runs = [ImageAreas(rare.names, hit, predicted, labelled)]
    gain = bootstrap_gain(runs, [weak(0)])
    assert all(map(math.isfinite, (gain.value, gain.low, gain.high)))


# --- the permutation test -----------------------------------------------------------------------


def test_the_p_value_of_identical_runs_is_one() -> None:
    runs = [strong(i) for i in range(3)]
    assert bootstrap_gain(runs, runs).p_value == 1.0


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_strong_effect_has_the_smallest_p_value(seeds: int) -> None:
    rows = [make_areas(i, images=30, skill=0.9) for i in range(seeds)]
    baselines = [make_areas(9 + i, images=30, skill=0.5) for i in range(seeds)]
    assert bootstrap_gain(rows, baselines).p_value == 1 / (PERMUTATIONS + 1)


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_which_run_is_called_the_baseline_does_not_matter(seeds: int) -> None:
    rows = [make_areas(i, images=12, skill=0.63) for i in range(seeds)]
    baselines = [weak(9 + i) for i in range(seeds)]
    there, back = bootstrap_gain(rows, baselines), bootstrap_gain(baselines, rows)
    assert 0 < there.p_value == back.p_value < 1


def test_the_p_value_is_that_of_every_arrangement_counted() -> None:
    """Six images have 64 arrangements; the statistic of each by the definition of mIoU."""
    row, baseline = make_areas(0, skill=0.7), make_areas(5, skill=0.62)
    observed = abs(scores(row).miou - scores(baseline).miou)
    extreme = 0
    for sides in itertools.product([False, True], repeat=6):
        change = np.array(sides)[:, None]
        one, two = (
            ImageAreas(
                row.names,
                *(
                    np.where(change, getattr(b, kind), getattr(a, kind))
                    for kind in ("intersection", "predicted", "labelled")
                ),
            )
            for a, b in ((row, baseline), (baseline, row))
        )
        extreme += abs(scores(one).miou - scores(two).miou) >= observed - 1e-9
    found = permutation_p([ScoredRun(row)], [ScoredRun(baseline)], permutations=8000)
    assert 0.02 < extreme / 64 < 0.98, "or this shows nothing"
    assert found == pytest.approx(extreme / 64, abs=0.02)


def test_without_an_effect_every_p_value_is_as_likely() -> None:
    p_values = [
        permutation_p(
            [ScoredRun(make_areas(1000 * n + i, skill=0.7)) for i in range(2)],
            [ScoredRun(make_areas(1000 * n + 500 + i, skill=0.7)) for i in range(2)],
            permutations=199,
        )
        for n in range(300)
    ]
    for level in (0.05, 0.25, 0.5, 0.75):
        share = np.mean(np.array(p_values) <= level)
        assert share == pytest.approx(level, abs=3.5 * math.sqrt(level * (1 - level) / 300))


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
