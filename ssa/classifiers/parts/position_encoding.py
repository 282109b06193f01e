"""Position encodings: spatial features P_f (B or 1, D, h, w) of features (B, D, h, w)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ConditionalPositionEncoding(nn.Module):
    """A depth-wise 3×3 convolution with bias and no residual (CPVT; the released code's P_f)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)

    def forward(self, features: Tensor) -> Tensor:
        """P_f (B, D, h, w)."""
        return self.conv(features)


class SinusoidalPositionEncoding(nn.Module):
    """Fixed sines and cosines: half of the channels for the row, half for the column.

    Positions are scaled to [0, 2π] along each side, so that every feature size sees the same field,
    and channel 2i and 2i+1 of a half have the wavelength 10000^(2i / half) (as in DETR).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, features: Tensor) -> Tensor:
        """P_f (1, D, h, w); it depends on the size of ``features`` alone."""
        height, width = features.shape[-2:]
        rows = self._waves(height, (self.channels + 1) // 2, features)
        columns = self._waves(width, self.channels // 2, features)
        return torch.cat(
            [
                rows[:, :, None].expand(-1, height, width),
                columns[:, None, :].expand(-1, height, width),
            ]
        )[None]

    @staticmethod
    def _waves(length: int, channels: int, like: Tensor) -> Tensor:
        # a half precision counts exactly to 2048 (bfloat16 to 256) and turns angles into steps
        exact = torch.promote_types(like.dtype, torch.float32)
        position = (torch.arange(length, device=like.device, dtype=exact) + 1) / length
        channel = torch.arange(channels, device=like.device)
        wavelength = 10000 ** ((channel - channel % 2).to(exact) / max(channels, 1))
        angle = 2 * math.pi * position / wavelength[:, None]
        return torch.where(channel[:, None] % 2 == 0, angle.sin(), angle.cos()).to(like.dtype)


class LearnablePositionEncoding(nn.Module):
    """A learned table of D×g×g values, interpolated bilinearly to the feature size (ViT, PVT).

    Args:
        channels: D.
        grid: g; at that feature size the table is used as it is.
    """

    def __init__(self, channels: int, grid: int = 64) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(1, channels, grid, grid))
        nn.init.trunc_normal_(self.table, std=0.02)

    def forward(self, features: Tensor) -> Tensor:
        """P_f (1, D, h, w)."""
        if features.shape[-2:] == self.table.shape[-2:]:
            return self.table
        return F.interpolate(
            self.table, size=features.shape[-2:], mode="bilinear", align_corners=False
        )


def build_position_encoding(kind: str, channels: int, *, grid: int = 64) -> nn.Module:
    """The position encoding of that name (``SSAConfig.position_encoding``)."""
    if kind == "conditional":
        return ConditionalPositionEncoding(channels)
    if kind == "sinusoidal":
        return SinusoidalPositionEncoding(channels)
    return LearnablePositionEncoding(channels, grid)
