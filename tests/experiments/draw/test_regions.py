"""Counts near borders and by object size, against loops over single pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from experiments.draw.regions import (
    BAND_WIDTHS,
    OBJECT_BOUNDS,
    RegionAreas,
    border_rings,
    object_areas,
    ring_areas,
)
from experiments.store.areas import image_areas

K, IGNORED = 3, 255
Labels = NDArray[np.uint8]


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Labels, Labels]:
    """A prediction and its label: patches of few classes, some of them unlabelled."""
    height, width = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    patch = draw(st.integers(1, 4))
    seed = draw(st.integers(0, 2**32 - 1))
    generator = np.random.default_rng(seed)

    def picture(values: list[int]) -> Labels:
        shape = (-(-height // patch), -(-width // patch))
        coarse = generator.choice(values, size=shape).astype(np.uint8)
        return np.kron(coarse, np.ones((patch, patch), np.uint8))[:height, :width]

    return picture([0, 1, 2]), picture([0, 1, 2, IGNORED])


def slow_rings(label: Labels) -> NDArray[np.int64]:
    """Pixel by pixel: distance to every pixel that touches another class."""
    height, width = label.shape
    border = []
    for y in range(height):
        for x in range(width):
            for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if not (0 <= v < height and 0 <= u < width):
                    continue
                here, there = int(label[y, x]), int(label[v, u])
                if IGNORED not in (here, there) and here != there:
                    border.append((y, x))
    rings = np.full(label.shape, BAND_WIDTHS + 1, dtype=np.int64)
    for y in range(height):
        for x in range(width):
            if border:
                square = min((y - v) ** 2 + (x - u) ** 2 for v, u in border)
                for ring in range(1, BAND_WIDTHS + 1):
                    if square <= (ring - 1) ** 2:  # less than `ring` pixels from a border pixel
                        rings[y, x] = ring
                        break
    return rings


def slow_parts(classes: Labels) -> list[set[tuple[int, int]]]:
    """Connected parts of one class by flooding, in the order of class and first pixel."""
    height, width = classes.shape
    parts = []
    for k in sorted(set(classes.reshape(-1).tolist()) - {IGNORED}):
        left = {(y, x) for y in range(height) for x in range(width) if classes[y, x] == k}
        while left:
            start = min(left)
            part, todo = set(), [start]
            left.discard(start)
            while todo:
                y, x = todo.pop()
                part.add((y, x))
                for v in (y - 1, y, y + 1):
                    for u in (x - 1, x, x + 1):
                        if (v, u) in left:
                            left.discard((v, u))
                            todo.append((v, u))
            parts.append(part)
    return parts


def slow_bin(area: int, image_area: int) -> int:
    return sum(area / image_area >= bound for bound in OBJECT_BOUNDS)


def counted(pixels: list[tuple[int, int, int, int]], parts: int) -> list[list[list[int]]]:
    """(part of label, label, part of prediction, prediction) → [intersection, predicted, …]."""
    tables = [[[0] * K for _ in range(parts)] for _ in range(3)]
    for label_part, label, predicted_part, predicted in pixels:
        tables[2][label_part][label] += 1
        tables[1][predicted_part][predicted] += 1
        if label == predicted:
            assert label_part == predicted_part
            tables[0][label_part][label] += 1
    return tables


def as_lists(areas: RegionAreas) -> list[list[list[int]]]:
    return [areas.intersection.tolist(), areas.predicted.tolist(), areas.labelled.tolist()]


@settings(deadline=None, max_examples=60)
@given(pairs())
def test_rings_around_borders_are_those_of_single_pixels(pair: tuple[Labels, Labels]) -> None:
    prediction, label = pair
    rings = slow_rings(label)
    assert border_rings(label, IGNORED).tolist() == rings.tolist()
    pixels = [
        (int(r) - 1, int(t), int(r) - 1, int(p))
        for r, t, p in zip(rings.flat, label.flat, prediction.flat)
        if t != IGNORED
    ]
    areas = ring_areas(prediction, label, K, IGNORED)
    assert as_lists(areas) == counted(pixels, BAND_WIDTHS + 1)


@settings(deadline=None, max_examples=60)
@given(pairs())
def test_objects_by_size_are_those_of_single_pixels(pair: tuple[Labels, Labels]) -> None:
    prediction, label = pair
    shown = np.where(label == IGNORED, IGNORED, prediction).astype(np.uint8)
    truth, guesses = slow_parts(label), slow_parts(shown)
    bins = {pixel: slow_bin(len(part), label.size) for part in truth for pixel in part}
    pixels = []
    for guess in guesses:
        overlaps = []
        for part in truth:
            right = sum(label[p] == shown[p] for p in guess & part)
            if right:
                overlaps.append((-int(right), bins[min(part)]))
        # the object that is overlapped most, of equals the smaller; without any, its own size
        assigned = min(overlaps)[1] if overlaps else slow_bin(len(guess), label.size)
        for pixel in guess:
            is_right = label[pixel] == shown[pixel]
            part = bins[pixel] if is_right else assigned
            pixels.append((bins[pixel], int(label[pixel]), part, int(shown[pixel])))
    objects = object_areas(prediction, label, K, IGNORED)
    assert as_lists(objects.areas) == counted(pixels, len(OBJECT_BOUNDS) + 1)
    numbers = [[0] * K for _ in range(len(OBJECT_BOUNDS) + 1)]
    for part in truth:
        numbers[slow_bin(len(part), label.size)][int(label[min(part)])] += 1
    assert objects.objects.tolist() == numbers


@settings(deadline=None, max_examples=40)
@given(pairs())
def test_all_parts_together_are_the_whole_image(pair: tuple[Labels, Labels]) -> None:
    prediction, label = pair
    whole = image_areas(prediction, label, K, IGNORED)
    for areas in (
        ring_areas(prediction, label, K, IGNORED),
        object_areas(prediction, label, K, IGNORED).areas,
    ):
        parts = (areas.intersection, areas.predicted, areas.labelled)
        assert [part.sum(0).tolist() for part in parts] == [part.tolist() for part in whole]


def test_a_straight_border_has_bands_of_straight_rows() -> None:
    label = np.zeros((40, 7), dtype=np.uint8)
    label[20:] = 1
    rings = border_rings(label, IGNORED)
    expected = [min(max(19 - y, y - 20) + 1, BAND_WIDTHS + 1) for y in range(40)]
    assert rings[:, 3].tolist() == expected
    within = ring_areas(label, label, K, IGNORED).within()
    assert within.labelled[:, 0].tolist() == [7 * w for w in range(1, 16)] + [140]
    assert within.iou()[0].tolist()[:2] == [100.0, 100.0]
    assert math.isnan(within.iou()[0, 2])


def test_unlabelled_pixels_make_no_border() -> None:
    label = np.zeros((9, 9), dtype=np.uint8)
    label[:, 4] = IGNORED
    label[:, 5:] = 1
    assert (border_rings(label, IGNORED) == BAND_WIDTHS + 1).all()


@pytest.mark.parametrize(("side", "size"), [(1, 0), (2, 1), (4, 2), (8, 3), (12, 4), (40, 5)])
def test_an_object_is_counted_by_its_share_of_the_image(side: int, size: int) -> None:
    label = np.zeros((50, 50), dtype=np.uint8)  # 1/1000 of it are 2.5 pixels
    label[5 : 5 + side, 5 : 5 + side] = 1
    objects = object_areas(label, label, K, IGNORED)
    assert objects.objects[:, 1].tolist() == [int(b == size) for b in range(6)]
    assert objects.areas.labelled[size, 1] == side * side


def test_a_false_alarm_belongs_to_the_object_it_touches_or_to_its_own_size() -> None:
    label = np.zeros((50, 50), dtype=np.uint8)
    label[5:9, 5:9] = 1  # 16 pixels: bin 2
    prediction = label.copy()
    prediction[5:9, 9:30] = 1  # spills over by 84 pixels; alone it would be bin 4
    prediction[40, 40] = 1  # alone: 1 pixel, bin 0
    areas = object_areas(prediction, label, K, IGNORED).areas
    assert areas.predicted[:, 1].tolist() == [1, 0, 100, 0, 0, 0]
    assert areas.intersection[:, 1].tolist() == [0, 0, 16, 0, 0, 0]
    assert areas.iou()[2, 1] == pytest.approx(16.0)
