"""Modulated deformable convolution (DCNv2) in plain PyTorch, and the layer YOSO and PEM share."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from torch import Tensor, nn

from ssa.backbones.layers import Config


def modulated_deformable_conv(
    features: Tensor, offsets: Tensor, modulation: Tensor, weight: Tensor
) -> Tensor:
    """A 3×3 convolution (stride 1, "same") whose taps are displaced and weighted.

    out(p) = Σ_k w_k · m_k(p) · x(p + r_k + Δ_k(p)), x sampled bilinearly with zeros outside
    (Zhu et al., "Deformable ConvNets v2", Eq. 1).

    Args:
        features: x (B, C, H, W).
        offsets: Δ (B, 2·k², H, W), per tap in row-major order (dy, dx).
        modulation: m (B, k², H, W).
        weight: w (O, C, k, k).

    Returns:
        (B, O, H, W).
    """
    batch, channels, height, width = features.shape
    side = weight.shape[-1]
    taps = side * side
    steps = torch.arange(side, device=features.device) - side // 2
    tap_y, tap_x = steps.repeat_interleave(side), steps.repeat(side)
    moved = offsets.float().unflatten(1, (taps, 2))
    rows = torch.arange(height, device=features.device)[:, None]
    columns = torch.arange(width, device=features.device)
    y = moved[:, :, 0] + tap_y[:, None, None] + rows  # (B, k², H, W) in pixels
    x = moved[:, :, 1] + tap_x[:, None, None] + columns
    grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], dim=-1)
    # coordinates in half precision would be off by a tenth of a pixel
    sampled = F.grid_sample(features.float(), grid.flatten(1, 2), align_corners=False)
    sampled = sampled.view(batch, channels, taps, height * width)
    sampled = (sampled * modulation.flatten(2)[:, None]).to(features.dtype)
    flat = weight.flatten(1).to(features.dtype) @ sampled.flatten(1, 2)
    return flat.view(batch, -1, height, width)


class ModulatedDeformableConv(nn.Module):
    """Holds the weight of :func:`modulated_deformable_conv`; no bias."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, kernel_size, kernel_size))
        bound = 1 / math.sqrt(in_channels * kernel_size**2)
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, features: Tensor, offsets: Tensor, modulation: Tensor) -> Tensor:
        """See :func:`modulated_deformable_conv`."""
        return modulated_deformable_conv(features, offsets, modulation, self.weight)


class DeformableUpsample(nn.Module):
    """Deformable 3×3 · norm · ReLU, then transposed 4×4 with stride 2 · norm · ReLU.

    Args:
        in_channels, out_channels: of the first convolution; the second keeps ``out_channels``.
        norm_cfg: normalisation in mmcv's form.
        plain_start: start as a plain convolution (offsets 0) and, in the first output channel only,
            as bilinear upsampling, as PEM is released; YOSO initialises all parts alike.
    """

    def __init__(
        self, in_channels: int, out_channels: int, norm_cfg: Config, *, plain_start: bool
    ) -> None:
        super().__init__()
        self.dcn_offset = nn.Conv2d(in_channels, 27, 3, padding=1)
        self.dcn = ModulatedDeformableConv(in_channels, out_channels)
        self.dcn_bn = build_norm_layer(norm_cfg, out_channels)[1]
        self.up_sample = nn.ConvTranspose2d(
            out_channels, out_channels, 4, stride=2, padding=1, bias=False
        )
        self.up_bn = build_norm_layer(norm_cfg, out_channels)[1]
        if plain_start:
            nn.init.zeros_(self.dcn_offset.weight)
            nn.init.zeros_(self.dcn_offset.bias)  # type: ignore[arg-type]
            with torch.no_grad():
                self.up_sample.weight[:, 0] = bilinear_kernel(4)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, C, H, W) to (B, O, H, W) and, upsampled, (B, O, 2H, 2W)."""
        offsets, modulation = self.dcn_offset(features).split([18, 9], dim=1)
        same = F.relu(self.dcn_bn(self.dcn(features, offsets, modulation.sigmoid())))
        return same, F.relu(self.up_bn(self.up_sample(same)))


def bilinear_kernel(side: int) -> Tensor:
    """The kernel (side, side) of a transposed convolution that upsamples bilinearly by side/2."""
    factor = (side + 1) // 2
    centre = factor - 1 if side % 2 else factor - 0.5
    line = 1 - (torch.arange(side) - centre).abs() / factor
    return line[:, None] * line
