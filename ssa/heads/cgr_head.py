"""CGRSeg's decode head: rectangular calibration of a pooled pyramid, gated fusion top-down.

Source of the facts: Ni et al., "Context-Guided Spatial Feature Reconstruction for Efficient
Semantic Segmentation", ECCV 2024, and nizhenliang/CGRSeg; written anew here. The head of the
CGRSeg baseline lets its own first prediction guide a second one
(:class:`~ssa.heads.guided_head.GuidedClassifierHead`); SSA-Seg leaves that out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS
from torch import Tensor, nn

from ssa.backbones.layers import conv_norm, depthwise
from ssa.heads.light_head import GatedFusion


class RectangularAttention(nn.Module):
    """A depthwise view gated by attention from strip-pooled rows and columns.

    Args:
        channels: in and out.
        band: length of the two strip convolutions.
        square: side of the depthwise view's kernel.
    """

    def __init__(self, channels: int, band: int, square: int) -> None:
        super().__init__()
        self.local = depthwise(channels, square)
        self.pool_columns = nn.AdaptiveAvgPool2d((None, 1))
        self.pool_rows = nn.AdaptiveAvgPool2d((1, None))
        self.gate = nn.Sequential(
            depthwise(channels, (1, band)),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            depthwise(channels, (band, 1)),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        return self.gate(self.pool_columns(x) + self.pool_rows(x)) * self.local(x)


class CalibrationBlock(nn.Module):
    """Rectangular attention, normalisation and a 1×1 MLP in one scaled residual branch."""

    def __init__(
        self, channels: int, band: int, square: int, mlp_ratio: float, scale: float = 1e-6
    ) -> None:
        super().__init__()
        hidden = int(mlp_ratio * channels)
        self.attention = RectangularAttention(channels, band, square)
        self.norm = nn.BatchNorm2d(channels)
        self.expand = nn.Conv2d(channels, hidden, 1)
        self.activation = nn.GELU()
        self.project = nn.Conv2d(hidden, channels, 1)
        self.scale = nn.Parameter(torch.full((channels,), scale))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        out = self.project(self.activation(self.expand(self.norm(self.attention(x)))))
        return x + out * self.scale[:, None, None]


@MODELS.register_module()
class CGRHead(BaseDecodeHead):
    """CGRSeg's decode head up to the features of its classifier.

    The block norms are plain BatchNorm whatever ``norm_cfg`` says, as released.

    Args:
        depth: calibration blocks on the pooled pyramid.
        neck_band: strip length of those.
        band: strip length of the blocks on the single levels.
        square: side of the depthwise kernels.
        mlp_ratio: MLP width over channels.
        layer_scale: where the residual branches' scales start.
        settings: of mmsegmentation's ``BaseDecodeHead``.
    """

    def __init__(
        self,
        depth: int,
        neck_band: int,
        band: int,
        square: int = 3,
        mlp_ratio: float = 2,
        layer_scale: float = 1e-6,
        **settings: Any,
    ) -> None:
        super().__init__(input_transform="multiple_select", **settings)
        widths = list(self.in_channels)
        block: dict[str, Any] = {"square": square, "mlp_ratio": mlp_ratio, "scale": layer_scale}
        self.context = nn.Sequential(
            *(CalibrationBlock(sum(widths), neck_band, **block) for _ in range(depth))
        )
        self.calibrations = nn.ModuleList(
            CalibrationBlock(width, band, **block) for width in widths
        )
        self.fusions = nn.ModuleList(
            GatedFusion(width, width, self.channels, self.norm_cfg) for width in widths
        )
        self.laterals = nn.ModuleList(nn.Conv2d(self.channels, width, 1) for width in widths[:-1])
        self.fuse = conv_norm(
            self.channels,
            self.channels,
            groups=self.channels,
            norm_cfg=self.norm_cfg,
            activation=self.act_cfg,
        )

    def reconstruct(self, inputs: Sequence[Tensor]) -> Tensor:
        """The backbone's maps to (B, D, H/8, W/8), before the closing convolution."""
        maps = self._transform_inputs(inputs)
        height, width = maps[-1].shape[2:]
        pooled_size = ((height + 1) // 2, (width + 1) // 2)
        pooled = torch.cat([F.adaptive_avg_pool2d(level, pooled_size) for level in maps], dim=1)
        contexts = self.context(pooled).split(self.in_channels, dim=1)
        out: Tensor = self.fusions[-1](self.calibrations[-1](maps[-1]), contexts[-1])
        for level in reversed(range(len(maps) - 1)):
            size = maps[level].shape[2:]
            out = F.interpolate(out, size=size, mode="bilinear", align_corners=False)
            local = maps[level] + self.laterals[level](out)
            out = self.fusions[level](self.calibrations[level](local), contexts[level])
        return out

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """The backbone's maps to logits (B, K, H/8, W/8)."""
        return self.cls_seg(self.fuse(self.reconstruct(inputs)))
