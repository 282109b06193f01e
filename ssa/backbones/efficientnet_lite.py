"""EfficientNet-Lite: inverted residuals with ReLU6 and without squeeze-and-excitation.

Source of the facts: Tan and Le, ICML 2019, and the Lite variants that Google published for mobile
devices in 2020 (tensorflow/tpu, models/official/efficientnet/lite); written anew here.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor, nn

from ssa.backbones.layers import (
    Config,
    build_norm,
    drop_path,
    drop_path_schedule,
    init_convolutions,
)


class SamePadding(nn.Module):
    """TensorFlow's "same" padding before a strided convolution: an odd pixel goes right and below.

    How much is added hangs on the map's size, unlike mmcv's fixed ``kernel // 2`` on each side,
    which would shift the grid of every strided layer by half a stride.
    """

    def __init__(self, kernel_size: int, stride: int) -> None:
        super().__init__()
        self.kernel_size, self.stride = kernel_size, stride

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) so that a convolution without padding gives (B, ·, ⌈H/s⌉, ⌈W/s⌉)."""
        rows, columns = (self._lacking(side) for side in x.shape[-2:])
        left, above = columns // 2, rows // 2
        return F.pad(x, (left, columns - left, above, rows - above))

    def _lacking(self, side: int) -> int:
        outputs = -(-side // self.stride)
        return max((outputs - 1) * self.stride + self.kernel_size - side, 0)


class SameConv(nn.Module):
    """A "same"-padded convolution without bias, its normalisation and perhaps ReLU6."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        *,
        norm_cfg: Config,
        stride: int = 1,
        groups: int = 1,
        activated: bool = True,
    ) -> None:
        super().__init__()
        strided = stride > 1
        self.pad = SamePadding(kernel_size, stride) if strided else nn.Identity()
        self.conv = nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=0 if strided else kernel_size // 2,
            groups=groups,
            bias=False,
        )
        self.bn = build_norm(norm_cfg, out_channels)
        self.activation = nn.ReLU6(inplace=True) if activated else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', ⌈H/s⌉, ⌈W/s⌉)."""
        return self.activation(self.bn(self.conv(self.pad(x))))


class LiteBlock(nn.Module):
    """An inverted residual: expand, depthwise, project; added to its input where shapes allow."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        expansion: int,
        stride: int,
        drop_path_rate: float,
        norm_cfg: Config,
    ) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.expand = (
            SameConv(in_channels, hidden, norm_cfg=norm_cfg) if expansion > 1 else nn.Identity()
        )
        self.depthwise = SameConv(
            hidden, hidden, kernel_size, stride=stride, groups=hidden, norm_cfg=norm_cfg
        )
        self.project = SameConv(hidden, out_channels, norm_cfg=norm_cfg, activated=False)
        self.residual = stride == 1 and in_channels == out_channels
        self.drop_path = drop_path(drop_path_rate if self.residual else 0.0)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', ⌈H/s⌉, ⌈W/s⌉)."""
        out = self.project(self.depthwise(self.expand(x)))
        return x + self.drop_path(out) if self.residual else out


@MODELS.register_module()
class EfficientNetLite(BaseModule):
    """The EfficientNet-Lite backbone, built as far as its last output needs.

    Its published weights expect images normalised in their own way, while every run's preprocessor
    normalises by ImageNet's statistics; the first step here turns one into the other, before any
    padding, so that padded pixels are zero as they were in pretraining.

    Args:
        stages: one row a stage: kernel, expansion, channels, stride of its first block, blocks.
        out_stages: indices of the stages whose maps are handed on, ascending.
        stem_channels: channels after the strided 3×3 stem.
        given_mean, given_std: how the preprocessor normalised, RGB, 0 … 255.
        own_mean, own_std: how the weights want it.
        drop_path_rate: stochastic depth of the last block; rises linearly from 0.
        norm_cfg: normalisation; TensorFlow's BatchNorm has an eps of 1e-3.
        init_cfg: mmengine's initialisation; None is a normal initialisation by fan-out.
    """

    def __init__(
        self,
        stages: Sequence[Sequence[int]],
        out_stages: Sequence[int],
        stem_channels: int = 32,
        given_mean: Sequence[float] = (123.675, 116.28, 103.53),
        given_std: Sequence[float] = (58.395, 57.12, 57.375),
        own_mean: float = 127.0,
        own_std: float = 128.0,
        drop_path_rate: float = 0.0,
        norm_cfg: Config | None = None,
        init_cfg: Config | None = None,
    ) -> None:
        super().__init__(init_cfg)
        norm_cfg = norm_cfg or {"type": "BN", "eps": 1e-3}
        mean, std = (torch.tensor(given).view(1, 3, 1, 1) for given in (given_mean, given_std))
        # constants of the network's description, not of what it learns: no part of its state
        self.register_buffer("scale", std / own_std, persistent=False)
        self.register_buffer("shift", (mean - own_mean) / own_std, persistent=False)
        self.stem = SameConv(3, stem_channels, 3, stride=2, norm_cfg=norm_cfg)
        built = stages[: out_stages[-1] + 1]
        rates = iter(drop_path_schedule(drop_path_rate, sum(row[4] for row in built)))
        #: indices of the blocks whose outputs are handed on
        self.out_blocks: list[int] = []
        blocks: list[nn.Module] = []
        channels = stem_channels
        for index, (kernel_size, expansion, width, stride, depth) in enumerate(built):
            for step in (stride, *[1] * (depth - 1)):
                blocks.append(
                    LiteBlock(channels, width, kernel_size, expansion, step, next(rates), norm_cfg)
                )
                channels = width
            if index in out_stages:
                self.out_blocks.append(len(blocks) - 1)
        self.blocks = nn.ModuleList(blocks)

    def init_weights(self) -> None:
        """Follow ``init_cfg`` where it is given, else initialise by fan-out."""
        super().init_weights()
        if self.init_cfg is None:
            init_convolutions(self)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Normalised images (B, 3, H, W) to one map a stage of ``out_stages``."""
        outputs = []
        x = self.stem(images * self.scale + self.shift)
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.out_blocks:
                outputs.append(x)
        return tuple(outputs)
