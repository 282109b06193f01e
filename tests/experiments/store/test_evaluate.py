"""Exact areas and scores against a direct count of pixels."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from samples import make_areas

from experiments.store.areas import ImageAreas, image_areas, per_class_iou, scores

K, IGNORE = 4, 255
shapes = st.tuples(st.integers(1, 5), st.integers(1, 5))
labels = st.sampled_from([*range(K), IGNORE])


@st.composite
def image_pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    shape = draw(shapes)
    present = draw(st.sets(st.integers(0, K - 1), min_size=1))
    prediction = draw(arrays.arrays(np.int64, shape, elements=st.sampled_from(sorted(present))))
    return prediction, draw(arrays.arrays(np.uint8, shape, elements=labels))


def collect(pairs: list[tuple[np.ndarray, np.ndarray]]) -> ImageAreas:
    areas = [image_areas(p, g, K, IGNORE) for p, g in pairs]
    return ImageAreas(
        tuple(f"{i}" for i in range(len(pairs))), *(np.stack(part) for part in zip(*areas))
    )


def directly(pairs: list[tuple[np.ndarray, np.ndarray]]) -> tuple[float, float, float]:
    """mIoU, aAcc, mAcc in percent by looking at one pixel after another, in exact fractions."""
    pixels = [(int(p), int(g)) for P, G in pairs for p, g in zip(P.flat, G.flat) if g != IGNORE]
    ious, accuracies = [], []
    for k in range(K):
        both = sum(p == k and g == k for p, g in pixels)
        either = sum(p == k or g == k for p, g in pixels)
        labelled = sum(g == k for _, g in pixels)
        if either:
            ious.append(Fraction(both, either))
        if labelled:
            accuracies.append(Fraction(both, labelled))
    right = Fraction(sum(p == g for p, g in pixels), max(len(pixels), 1))
    mean = [sum(values, Fraction(0)) / len(values) for values in (ious, accuracies)]
    return float(100 * mean[0]), float(100 * right), float(100 * mean[1])


@given(st.lists(image_pairs(), min_size=1, max_size=4))
def test_scores_are_a_direct_count_of_pixels(pairs: list[tuple[np.ndarray, np.ndarray]]) -> None:
    if all((label == IGNORE).all() for _, label in pairs):
        return  # nothing is labelled: there is no score (below)
    found = scores(collect(pairs))
    assert (found.miou, found.aacc, found.macc) == pytest.approx(directly(pairs), abs=1e-9)


@given(image_pairs(), st.randoms(use_true_random=False))
def test_ignored_pixels_count_nowhere(pair, random) -> None:  # type: ignore[no-untyped-def]
    prediction, label = pair
    other = prediction.copy()
    other[label == IGNORE] = random.randrange(K)
    for one, two in zip(
        image_areas(prediction, label, K, IGNORE), image_areas(other, label, K, IGNORE)
    ):
        assert np.array_equal(one, two)


@given(st.lists(image_pairs(), min_size=2, max_size=4))
def test_the_order_of_images_does_not_matter(pairs: list[tuple[np.ndarray, np.ndarray]]) -> None:
    if all((label == IGNORE).all() for _, label in pairs):
        return
    assert scores(collect(pairs)) == scores(collect(pairs[::-1]))


def test_a_class_that_never_occurs_is_no_class_of_the_mean() -> None:
    prediction = np.array([[0, 0, 1, 1]])
    label = np.array([[0, 0, 0, 1]])
    areas = collect([(prediction, label)])
    assert per_class_iou(areas)[:2].tolist() == pytest.approx([200 / 3, 50.0])
    assert np.isnan(per_class_iou(areas)[2:]).all()
    assert scores(areas).miou == pytest.approx((200 / 3 + 50) / 2)


def test_a_class_that_is_only_predicted_counts_as_0() -> None:
    areas = collect([(np.array([[0, 3]]), np.array([[0, 0]]))])
    assert per_class_iou(areas)[3] == 0.0
    assert scores(areas).miou == pytest.approx(25.0)


def test_a_label_that_is_no_class_is_refused() -> None:
    with pytest.raises(ValueError, match="label 7 in a data set of 4 classes"):
        image_areas(np.zeros((2, 2), int), np.full((2, 2), 7), K, IGNORE)


def test_counts_are_exact_beyond_what_a_float_holds() -> None:
    """Adding areas as float32 would lose single pixels of a large split."""
    many = np.full((3, 1), 2**24 + 1, dtype=np.int64)
    areas = ImageAreas(("a", "b", "c"), many, many, many)
    assert int(areas.union.sum()) == 3 * (2**24 + 1)
    assert scores(areas).miou == 100.0


def test_areas_survive_their_file(tmp_path: Path) -> None:
    areas = make_areas(0)
    (tmp_path / "per_image.npz").write_bytes(areas.to_bytes())
    again = ImageAreas.load(tmp_path / "per_image.npz")
    assert again.digest() == areas.digest()
    assert again.to_bytes() == areas.to_bytes()
    assert scores(again) == scores(areas)
