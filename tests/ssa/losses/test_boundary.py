"""The tensor boundary equals OpenCV's Canny and dilation, cell by cell."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from references import golden_files

from ssa.losses.boundary import boundary_mask, canny_edges, dilate


def opencv_boundary(labels: np.ndarray, edge_size: int) -> np.ndarray:
    edges = cv2.Canny(labels, 0.1, 0.2)
    edges[:6] = edges[-6:] = 0
    edges[:, :6] = edges[:, -6:] = 0
    return cv2.dilate(edges, np.ones((edge_size, edge_size), np.uint8)) > 0


def structured_map(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Blocks, discs, half planes at random angles, thin lines and void borders, ids 0..255."""
    label = np.full((height, width), rng.integers(256), np.uint8)
    rows, columns = np.mgrid[:height, :width]
    for _ in range(rng.integers(1, 12)):
        value, kind = int(rng.integers(256)), rng.integers(4)
        if kind == 0:
            top, left = rng.integers(height), rng.integers(width)
            label[
                top : top + rng.integers(1, height + 1), left : left + rng.integers(1, width + 1)
            ] = value
        elif kind == 1:
            centre = rng.integers(height), rng.integers(width)
            radius = rng.integers(1, max(height, width) + 1)
            label[(rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < radius**2] = value
        elif kind == 2:
            angle = rng.uniform(0, 2 * np.pi)
            label[rows * np.sin(angle) + columns * np.cos(angle) > rng.uniform(0, width)] = value
        else:
            label[rng.integers(height)] = value
    if rng.random() < 0.3:
        label[:3] = label[-3:] = label[:, :3] = label[:, -3:] = 255
    return label


@pytest.mark.parametrize("seed", range(8))
def test_equals_opencv_on_noise(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ids = int(rng.choice([2, 5, 150, 256]))
    maps = rng.integers(0, ids, (40, int(rng.integers(1, 60)), int(rng.integers(1, 60))))
    maps = maps.astype(np.uint8)
    edges = canny_edges(torch.from_numpy(maps)).numpy()
    assert np.array_equal(edges, np.stack([cv2.Canny(label, 0.1, 0.2) > 0 for label in maps]))


@settings(max_examples=150)
@given(
    seed=st.integers(0, 2**32 - 1),
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    edge_size=st.integers(1, 9),
)
def test_equals_opencv_on_structured_maps(
    seed: int, height: int, width: int, edge_size: int
) -> None:
    rng = np.random.default_rng(seed)
    maps = np.stack([structured_map(rng, height, width) for _ in range(4)])
    mine = boundary_mask(torch.from_numpy(maps), edge_size).numpy()
    assert np.array_equal(mine, np.stack([opencv_boundary(label, edge_size) for label in maps]))


@pytest.mark.parametrize("edge_size", [1, 2, 3, 4, 5, 8])
def test_dilation_has_opencvs_anchor(edge_size: int) -> None:
    point = np.zeros((15, 17), np.uint8)
    point[7, 8] = 1
    expected = cv2.dilate(point, np.ones((edge_size, edge_size), np.uint8)) > 0
    assert np.array_equal(dilate(torch.from_numpy(point)[None] > 0, edge_size)[0].numpy(), expected)


def test_golden_boundaries_are_not_trivial() -> None:
    """Equality is in test_classifier_parity; here: those maps do have edges and interior."""
    for path in golden_files("ssa/*.npz"):
        with np.load(path) as file:
            assert 0 < file["out/boundary"].mean() < 1


def test_one_class_has_no_boundary() -> None:
    assert not boundary_mask(torch.full((2, 32, 32), 7), 4).any()


@pytest.mark.parametrize("void", [8192, 65535, 2**31 - 1, -(2**31), -100])
def test_a_void_value_of_any_size_is_like_255(void: int) -> None:
    """The same edges as with 255 wherever one class borders on void; in 32 bits they were lost."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        small = (structured_map(rng, 40, 40) % 2).astype(np.int64)
        labels = torch.from_numpy(small)[None]
        masked = torch.where(labels == 1, 255, 0)
        moved = torch.where(labels == 1, void, 0)
        assert torch.equal(canny_edges(moved), canny_edges(masked)) or void < 0
        if void < 0:  # the other side of the step is brighter
            assert torch.equal(canny_edges(moved), canny_edges(torch.where(labels == 1, 0, 255)))
