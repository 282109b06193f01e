"""Multi-scale deformable attention in plain PyTorch.

Source of the facts: Zhu et al., "Deformable DETR", ICLR 2021; written anew here on
``grid_sample``, so no compiled operator is needed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Size = tuple[int, int]


def grid_centres(sizes: Sequence[Size], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Centres of all cells of several grids, normalised to [0, 1], as (x, y).

    Args:
        sizes: (height, width) of each grid.

    Returns:
        (sum of height·width, 2), grids one after the other, row by row.
    """
    grids = []
    for height, width in sizes:
        y = (torch.arange(height, device=device, dtype=dtype) + 0.5) / height
        x = (torch.arange(width, device=device, dtype=dtype) + 0.5) / width
        grids.append(torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).flatten(0, 1))
    return torch.cat(grids)


def deformable_sampling(
    value: Tensor, sizes: Sequence[Size], locations: Tensor, weights: Tensor
) -> Tensor:
    """Weighted bilinear samples of a token pyramid at free locations.

    A location (x, y) in [0, 1] addresses the level's plane, cell centres at (i + ½)/size; outside
    it the values are zero.

    Args:
        value: (B, N, heads, C), the levels' tokens one after the other, N = Σ height·width.
        sizes: (height, width) of each level.
        locations: (B, Q, heads, levels, points, 2).
        weights: (B, Q, heads, levels, points).

    Returns:
        (B, Q, heads·C).
    """
    batch, _, heads, channels = value.shape
    queries = locations.shape[1]
    # (B·heads, levels, Q, points, ·): one grid_sample a level, heads in the batch dimension
    grids = (2 * locations - 1).permute(0, 2, 3, 1, 4, 5).flatten(0, 1)
    levels = value.split([height * width for height, width in sizes], dim=1)
    sampled = [
        F.grid_sample(
            level.permute(0, 2, 3, 1).reshape(batch * heads, channels, *size),
            grids[:, index],
            mode="bilinear",
            padding_mode="zeros",
            align_corners=False,
        )
        for index, (level, size) in enumerate(zip(levels, sizes, strict=True))
    ]  # each (B·heads, C, Q, points)
    weights = weights.transpose(1, 2).reshape(batch * heads, 1, queries, -1)
    summed = (torch.cat(sampled, dim=-1) * weights).sum(dim=-1)
    return summed.reshape(batch, heads * channels, queries).transpose(1, 2)


class DeformableAttention(nn.Module):
    """Each query looks at a few learned points around its reference on every level.

    Args:
        channels: of queries, of values and of the output.
        levels: how many levels the values have.
        num_heads: heads.
        points: points per head and level.
        value_ratio: inner width of the values over ``channels``.
    """

    def __init__(
        self, channels: int, levels: int, num_heads: int, points: int = 4, value_ratio: float = 1.0
    ) -> None:
        super().__init__()
        inner = int(channels * value_ratio)
        self.shape = (num_heads, levels, points)
        total = num_heads * levels * points
        self.offsets = nn.Linear(channels, 2 * total)
        self.weights = nn.Linear(channels, total)
        self.value = nn.Linear(channels, inner)
        self.project = nn.Linear(inner, channels)

    def init_weights(self) -> None:
        """Heads look in different directions, points at growing distances, all equally."""
        heads, levels, points = self.shape
        angles = torch.arange(heads) * (2 * math.pi / heads)
        directions = torch.stack([angles.cos(), angles.sin()], dim=-1)
        directions = directions / directions.abs().amax(dim=-1, keepdim=True)
        offsets = directions[:, None, None] * torch.arange(1, points + 1)[:, None]
        with torch.no_grad():
            self.offsets.bias.copy_(offsets.expand(-1, levels, -1, -1).flatten())
        nn.init.zeros_(self.offsets.weight)
        for layer in (self.weights,):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        for layer in (self.value, self.project):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self, query: Tensor, references: Tensor, tokens: Tensor, sizes: Sequence[Size]
    ) -> Tensor:
        """What the queries see.

        Args:
            query: (B, Q, C).
            references: (Q, 2) normalised (x, y), the same for every level.
            tokens: (B, N, C), the levels' tokens one after the other.
            sizes: (height, width) of each level.

        Returns:
            (B, Q, C).
        """
        value = self.value(tokens).unflatten(2, (self.shape[0], -1))
        offsets = self.offsets(query).unflatten(2, (*self.shape, 2))
        scale = query.new_tensor([[width, height] for height, width in sizes])
        locations = references[:, None, None, None] + offsets / scale[:, None]
        weights = self.weights(query).unflatten(2, (self.shape[0], -1)).softmax(dim=-1)
        sampled = deformable_sampling(value, sizes, locations, weights.unflatten(3, self.shape[1:]))
        return self.project(sampled)
