"""The gain of classes and images against a property: by hand, by scipy, and by chance alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError
from samples import make_record, make_spec
from scipy.stats import spearmanr
from test_claims import table_of

from experiments.declare.claims import TrendClaim
from experiments.judge.claims import ClaimResult, Evidence, judge
from experiments.judge.class_trends import (
    FEWEST_CLASSES,
    PairedAreas,
    over_classes,
    over_images,
)
from experiments.judge.statistics import ScoredRun
from experiments.show.claims import claim_document, show_claim
from experiments.store.areas import ImageAreas
from experiments.store.distances import FeatureDistances

PIXELS = 10_000  # labelled pixels of a class in an image that shows it
Floats = NDArray[np.float64]


def areas_of(iou: Floats, labelled: NDArray[np.int64]) -> ImageAreas:
    """Runs that miss pixels and predict no wrong ones, so that the IoU is the share that is hit.

    Args:
        iou: (N, K) or (K,), in percent.
        labelled: (N, K).
    """
    right = np.rint(labelled * np.broadcast_to(iou, labelled.shape) / 100).astype(np.int64)
    names = tuple(f"{i:03d}" for i in range(len(labelled)))
    return ImageAreas(names, right, right.copy(), labelled)


def distances_of(values: Floats, labelled: NDArray[np.int64]) -> FeatureDistances:
    names = tuple(f"{i:03d}" for i in range(len(labelled)))
    values = np.where(labelled > 0, np.broadcast_to(values, labelled.shape), np.nan)
    return FeatureDistances(names, values.astype(np.float32))


def masks(images: int, classes: int, share: float = 1.0, seed: int = 0) -> NDArray[np.int64]:
    """(N, K) labelled pixels, the sizes of masks all different."""
    generator = np.random.default_rng([seed, images, classes])
    sizes = generator.permutation(images * classes).reshape(images, classes) + PIXELS
    return np.where(generator.random(sizes.shape) < share, sizes, 0)


def test_a_gain_that_follows_the_size_of_the_classes_by_hand() -> None:
    # 8 classes of 1 … 8 hundred pixels in every image; gains rise but for the last two, exchanged
    labelled = np.tile(100 * np.arange(1, 9), (4, 1))
    gain = np.array([1, 2, 3, 4, 5, 6, 8, 7], float)
    runs = PairedAreas([areas_of(40 + gain, labelled)], [areas_of(np.full(8, 40.0), labelled)])
    trend = over_classes(runs, "size", sequential=False)
    assert trend is not None
    # 1 − 6·Σd²/(n(n² − 1)), d = ±1 twice
    assert trend.value == pytest.approx(1 - 6 * 2 / (8 * 63))
    assert trend.num_units == 8
    # all images are alike: what is left of the interval is that of 8 classes
    half = 1.0 / math.sqrt(5) * math.sqrt(1 + trend.value**2 / 2)
    t_of_3 = 3.182446
    assert math.atanh(trend.interval[1]) == pytest.approx(
        math.atanh(trend.value) + t_of_3 * half, rel=1e-4
    )


@pytest.mark.parametrize("by", ["distance", "frequency", "size"])
def test_over_classes_is_scipys_correlation(by: Any) -> None:
    generator = np.random.default_rng(1)
    labelled = masks(30, 12, share=0.5)
    labelled[:, 3] = 0  # a class that no image shows
    sides = [[areas_of(generator.uniform(10, 90, 12), labelled) for _ in range(3)] for _ in "ab"]
    far = [distances_of(generator.uniform(0, 1, labelled.shape), labelled) for _ in range(3)]
    trend = over_classes(PairedAreas(*sides, far), by, sequential=False)
    assert trend is not None
    assert trend.num_units == 11
    known = np.arange(12) != 3
    for seed in range(3):
        iou = [
            100 * side[seed].intersection.sum(0) / np.maximum(labelled.sum(0), 1) for side in sides
        ]
        others = np.mean([far[s].values for s in range(3) if s != seed], axis=0)
        where = labelled > 0
        share = labelled / labelled.sum(1, keepdims=True)
        place = {
            "distance": np.nansum(others, 0) / np.maximum(where.sum(0), 1),
            "frequency": where.mean(0),
            "size": share.sum(0) / np.maximum(where.sum(0), 1),
        }[by]
        expected = spearmanr((iou[0] - iou[1])[known], place[known]).statistic
        assert trend.each[seed] == pytest.approx(expected, abs=1e-9)
    assert trend.value == pytest.approx(math.tanh(np.arctanh(trend.each).mean()))


def test_within_classes_is_scipys_correlation_class_by_class() -> None:
    generator = np.random.default_rng(2)
    labelled = masks(40, 5, share=0.6)
    labelled[7:, 4] = 0  # too few images for a correlation
    # whole percents, so that gains tie
    sides = [
        [areas_of(generator.integers(3, 9, labelled.shape) * 10.0, labelled) for _ in range(2)]
        for _ in "ab"
    ]
    far = [distances_of(generator.uniform(0, 1, labelled.shape), labelled) for _ in range(2)]
    trend = over_images(PairedAreas(*sides, far), "distance", sequential=False)
    assert trend is not None
    numbers = (labelled > 0).sum(0)[:4]
    assert trend.num_units == numbers.sum()
    for seed in range(2):
        each = []
        for k in range(4):
            here = labelled[:, k] > 0
            iou = [s[seed].intersection[here, k] / labelled[here, k] for s in sides]
            gain = np.round(iou[0] - iou[1], 3)
            each.append(spearmanr(gain, far[1 - seed].values[here, k]).statistic)
        assert trend.each[seed] == pytest.approx(np.average(each, weights=numbers), abs=0.02)


def test_differences_between_classes_do_not_enter_within_them() -> None:
    """Gain and distance rise from class to class, and against each other from image to image."""
    images, classes = 20, 10
    labelled = masks(images, classes)
    place = np.linspace(0, 1, images)[:, None]
    gain = 30 * np.linspace(0, 1, classes) - 5 * place
    far = np.linspace(0, 1, classes) + 0.05 * place
    sides = [[areas_of(30 + side, labelled)] * 2 for side in (gain, 0 * gain)]
    runs = PairedAreas(*sides, [distances_of(far, labelled)] * 2)
    between, within = (
        over_classes(runs, "distance", sequential=False),
        over_images(runs, "distance", sequential=False),
    )
    assert between is not None
    assert within is not None
    assert between.value > 0.99
    assert within.value < -0.99


def test_each_seeds_distance_is_that_of_the_others() -> None:
    labelled = masks(3, 2)
    areas = [areas_of(np.full(2, 50.0), labelled)] * 3
    far = [distances_of(np.full(2, value), labelled) for value in (0.1, 0.2, 0.6)]
    assert np.allclose(PairedAreas(areas, areas, far).distance[:, 0, 0], [0.4, 0.35, 0.15])
    alone = PairedAreas(areas[:1], areas[:1], far[:1])
    assert np.allclose(alone.distance, 0.1)


def test_too_few_classes_are_no_trend() -> None:
    labelled = masks(10, FEWEST_CLASSES - 1)
    generator = np.random.default_rng(0)
    sides = [[areas_of(generator.uniform(10, 90, labelled.shape[1]), labelled)] for _ in "ab"]
    assert over_classes(PairedAreas(*sides), "size", sequential=False) is None


def test_other_images_are_refused() -> None:
    one, other = (areas_of(np.full(9, 50.0), masks(images, 9)) for images in (4, 5))
    with pytest.raises(ValueError, match="different images"):
        PairedAreas([one], [other])
    with pytest.raises(ValueError, match="no pairs"):
        PairedAreas([one], [])


# --- the claims -----------------------------------------------------------------------------------

DISTANCE = {"kind": "trend", "pair": ("a", "b"), "by": "distance"}
SIZE = {"kind": "trend", "pair": ("a", "b"), "by": "size", "within": "images"}


def verdict(
    claim: dict[str, Any],
    gain: Floats,
    far: Floats,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    extracted: bool = True,
    noise: float = 1.0,
) -> ClaimResult:
    """Of runs with these gains (N, K) in percent points and distances, and a spread of seeds."""
    labelled = masks(*gain.shape)
    areas, records, own = {}, {}, {}
    for row, base in (("a", 40.0 + gain), ("b", np.full_like(gain, 40.0))):
        for seed in seeds:
            generator = np.random.default_rng([seed, ord(row)])
            run = areas_of(base + noise * generator.normal(size=gain.shape), labelled)
            record = make_record(make_spec(seed=seed), run)
            name = f"{row}-{seed}"
            records.setdefault(row, {})[seed] = record.model_copy(update={"run_id": name})
            areas[name], own[name] = run, distances_of(far, labelled)
    evidence = Evidence(
        table_of(claim, "ab"),
        records,
        lambda run: ScoredRun(areas[run]),
        sequential=False,
        areas=areas.__getitem__,
        distances=lambda record: own[record.run_id] if extracted else None,
    )
    (result,) = judge(evidence)
    assert claim_document(result)["unit"] in ("rank correlation", None)
    assert show_claim(result).startswith(f"It is so (here): {result.word}")
    return result


IMAGES, CLASSES = 24, 16
#: rising from class to class, and from image to image
BY_CLASS = np.tile(np.linspace(0, 1, CLASSES), (IMAGES, 1))
BY_IMAGE = np.tile(np.linspace(0, 1, IMAGES)[:, None], (1, CLASSES))


@pytest.mark.parametrize(
    ("claim", "gain", "far", "word"),
    [
        (DISTANCE, 20 * BY_CLASS, BY_CLASS, "holds"),
        (DISTANCE, -20 * BY_CLASS, BY_CLASS, "does not hold"),
        (DISTANCE | {"falls": True}, -20 * BY_CLASS, BY_CLASS, "holds"),
        (DISTANCE | {"falls": True}, 20 * BY_CLASS, BY_CLASS, "does not hold"),
        (DISTANCE | {"within": "images"}, 20 * BY_IMAGE, BY_IMAGE, "holds"),
        (DISTANCE | {"within": "images"}, -20 * BY_IMAGE, BY_IMAGE, "does not hold"),
        (DISTANCE | {"within": "images"}, 20 * BY_CLASS, BY_CLASS + 0 * BY_IMAGE, "undecided"),
        (SIZE, 0 * BY_CLASS, BY_CLASS, "undecided"),
    ],
)
def test_verdicts(claim: dict[str, Any], gain: Floats, far: Floats, word: str) -> None:
    result = verdict(claim, gain, far)
    assert result.word == word
    if result.unit is not None:
        assert None not in (result.value, result.low, result.high)
        assert -1 <= result.low <= result.value <= result.high <= 1  # type: ignore[operator]


def test_what_is_not_extracted_is_named_with_the_command() -> None:
    result = verdict(DISTANCE, 20 * BY_CLASS, BY_CLASS, extracted=False)
    assert result.word == "undecided"
    assert result.reason.startswith("missing: the distances of b-0 are not extracted")
    assert "./run_all.sh extract made" in result.reason
    assert verdict(SIZE, 20 * BY_CLASS, BY_CLASS, extracted=False).unit == "rank correlation"


def test_one_seed_decides_nothing() -> None:
    result = verdict(DISTANCE, 20 * BY_CLASS, BY_CLASS, seeds=(0,))
    assert (result.word, result.num_seeds, result.p_value) == ("undecided", 1, 1.0)


def test_where_nothing_is_true_hardly_any_verdict_is_given() -> None:
    """Gains that differ from class to class for another reason than the distance."""
    decided = 0
    for draw in range(40):
        generator = np.random.default_rng([7, draw])
        gain = np.tile(10 * generator.normal(size=CLASSES), (IMAGES, 1))
        far = np.tile(generator.uniform(size=CLASSES), (IMAGES, 1))
        decided += verdict(DISTANCE, gain, far).word != "undecided"
    assert decided <= 4  # of 40 at 5 %: more with probability 5 %


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"by": None}, "needs both pair and by"),
        ({"along": "shift"}, "over points or over the classes of a pair"),
        ({"by": "frequency", "within": "images"}, "the same in all images"),
        ({"by": "colour"}, "Input should be 'distance', 'frequency' or 'size'"),
    ],
)
def test_a_claim_that_makes_no_sense_is_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        TrendClaim.model_validate({"id": "i", "text": "t", "where": "w", **DISTANCE} | changes)


@pytest.mark.parametrize("changes", [{"falls": True}, {"within": "images"}])
def test_a_trend_over_points_has_no_classes(changes: dict[str, Any]) -> None:
    points = [{"at": n, "pair": ("a", "b")} for n in range(3)]
    claim = {"id": "i", "text": "t", "where": "w", "kind": "trend", "points": points}
    TrendClaim.model_validate({**claim, "along": "shift"})
    with pytest.raises(ValidationError, match="belong to a trend over the classes"):
        TrendClaim.model_validate({**claim, "along": "shift", **changes})
