"""Deformable attention against a direct evaluation, point by point."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssa.backbones.deformable import DeformableAttention, deformable_sampling, grid_centres
from ssa.backbones.vit_adapter import ViTAdapter


def at(level: torch.Tensor, x: float, y: float) -> torch.Tensor:
    """One bilinear sample of (height, width, C) at normalised (x, y); zero outside."""
    height, width, channels = level.shape
    column, row = x * width - 0.5, y * height - 0.5
    left, top = math.floor(column), math.floor(row)
    total = torch.zeros(channels, dtype=level.dtype)
    for j in (top, top + 1):
        for i in (left, left + 1):
            if 0 <= i < width and 0 <= j < height:
                weight = (1 - abs(column - i)) * (1 - abs(row - j))
                total += weight * level[j, i]
    return total


def directly(value, sizes, locations, weights):
    """The definition: for every image, query, head, level and point one sample."""
    batch, queries, heads, levels, points, _ = locations.shape
    channels = value.shape[-1]
    out = torch.zeros(batch, queries, heads, channels, dtype=value.dtype)
    starts = [0]
    for height, width in sizes:
        starts.append(starts[-1] + height * width)
    for b in range(batch):
        for q in range(queries):
            for h in range(heads):
                for level in range(levels):
                    tokens = value[b, starts[level] : starts[level + 1], h]
                    image = tokens.reshape(*sizes[level], channels)
                    for point in range(points):
                        x, y = locations[b, q, h, level, point].tolist()
                        out[b, q, h] += weights[b, q, h, level, point] * at(image, x, y)
    return out.flatten(2)


@settings(max_examples=25)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=3),
    heads=st.integers(1, 3),
    points=st.integers(1, 3),
    seed=st.integers(0, 10**6),
)
def test_sampling_equals_the_direct_evaluation(sizes, heads, points, seed):
    """Including locations outside the plane."""
    torch.manual_seed(seed)
    batch, queries, channels = 2, 3, 4
    tokens = sum(height * width for height, width in sizes)
    value = torch.randn(batch, tokens, heads, channels, dtype=torch.float64)
    shape = (batch, queries, heads, len(sizes), points)
    locations = torch.rand(*shape, 2, dtype=torch.float64) * 1.6 - 0.3
    weights = torch.rand(*shape, dtype=torch.float64)
    found = deformable_sampling(value, sizes, locations, weights)
    torch.testing.assert_close(found, directly(value, sizes, locations, weights))


def test_attention_divides_offsets_by_width_and_height():
    """The whole module against the direct evaluation, on levels that are not square."""
    torch.manual_seed(0)
    sizes, heads, points, channels = [(4, 6), (2, 3)], 2, 3, 8
    attention = DeformableAttention(channels, len(sizes), heads, points, value_ratio=0.5).double()
    query = torch.randn(2, 5, channels, dtype=torch.float64)
    tokens = torch.randn(2, 30, channels, dtype=torch.float64)
    references = torch.rand(5, 2, dtype=torch.float64)
    offsets = attention.offsets(query).reshape(2, 5, heads, len(sizes), points, 2)
    divisors = torch.tensor([[width, height] for height, width in sizes], dtype=torch.float64)
    locations = references[None, :, None, None, None] + offsets / divisors[:, None]
    weights = attention.weights(query).reshape(2, 5, heads, -1).softmax(-1)
    weights = weights.reshape(2, 5, heads, len(sizes), points)
    value = attention.value(tokens).reshape(2, 30, heads, -1)
    expected = attention.project(directly(value, sizes, locations.detach(), weights.detach()))
    torch.testing.assert_close(attention(query, references, tokens, sizes), expected)


def test_a_sample_at_a_cell_centre_is_the_cell():
    sizes = [(3, 4), (2, 2)]
    value = torch.randn(1, 16, 1, 5)
    centres = grid_centres(sizes, torch.device("cpu"), torch.float32)
    locations = centres[:12][None, :, None, None, None].expand(1, 12, 1, 2, 1, 2)
    only_first = torch.tensor([1.0, 0.0])[None, None, None, :, None].expand(1, 12, 1, 2, 1)
    found = deformable_sampling(value, sizes, locations, only_first)
    torch.testing.assert_close(found, value[:, :12, 0])


def test_centres_are_x_then_y_row_by_row():
    centres = grid_centres([(2, 3)], torch.device("cpu"), torch.float32)
    expected = [[x / 6, y / 4] for y in (1, 3) for x in (1, 3, 5)]
    torch.testing.assert_close(centres, torch.tensor(expected))


def test_heads_start_in_different_directions():
    attention = DeformableAttention(8, 2, 4, 3)
    attention.init_weights()
    offsets = attention.offsets.bias.detach().reshape(4, 2, 3, 2)
    # levels alike, points at distances 1, 2, 3, heads along the four axes
    torch.testing.assert_close(offsets[:, 0], offsets[:, 1])
    lengths = offsets[:, 0].abs().amax(-1)
    torch.testing.assert_close(lengths, torch.tensor([[1.0, 2.0, 3.0]]).expand(4, 3))
    torch.testing.assert_close(offsets[0, 0, 0], torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(offsets[1, 0, 0], torch.tensor([0.0, 1.0]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("side", [(33, 64), (50, 90)])
@torch.no_grad()
def test_an_image_off_the_grid_is_padded_and_cropped(side):
    torch.manual_seed(0)
    network = ViTAdapter(16, 4, 2, 2, 64, prior_width=4, adapter_heads=2, final_extractors=2).eval()
    image = torch.randn(1, 3, *side)
    padded = torch.zeros(1, 3, 64, -(-side[1] // 32) * 32)
    padded[:, :, : side[0], : side[1]] = image
    for found, whole in zip(network(image), network(padded)):
        height, width = found.shape[2:]
        torch.testing.assert_close(found, whole[:, :, :height, :width])


def test_checkpointing_changes_memory_not_gradients():
    torch.manual_seed(0)
    settings = {"prior_width": 4, "adapter_heads": 2, "final_extractors": 1, "drop_path_rate": 0.2}
    plain = ViTAdapter(16, 4, 2, 2, 64, **settings).train()
    saving = ViTAdapter(16, 4, 2, 2, 64, checkpointing=True, **settings).train()
    saving.load_state_dict(plain.state_dict())
    image = torch.randn(2, 3, 64, 64)
    for network in (plain, saving):
        torch.manual_seed(1)  # stochastic depth draws
        sum(out.square().sum() for out in network(image)).backward()
    for (key, one), other in zip(plain.named_parameters(), saving.parameters()):
        torch.testing.assert_close(one.grad, other.grad, msg=key)
