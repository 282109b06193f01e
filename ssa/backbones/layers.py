"""Small layers that several of the backbones and heads here share."""

from __future__ import annotations

import math
from typing import Any

import torch.nn.functional as F
from mmcv.cnn import ConvModule, build_norm_layer
from mmcv.cnn.bricks import DropPath
from mmengine.registry import MODELS
from torch import Tensor, nn

#: configuration dictionaries in mmengine's sense
Config = dict[str, Any]


@MODELS.register_module()
class PerChannelConv2d(nn.Conv2d):
    """A depthwise 1×1 convolution, in training as the product that it is.

    On one thread of a CPU PyTorch takes it apart into a convolution a channel. Evaluation keeps the
    convolution, so that it is counted as one.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        if not self.training:
            return super().forward(input)
        scaled = input * self.weight.view(1, -1, 1, 1)
        return scaled if self.bias is None else scaled + self.bias.view(1, -1, 1, 1)


def conv_norm(
    in_channels: int,
    out_channels: int,
    kernel_size: int = 1,
    *,
    norm_cfg: Config,
    stride: int = 1,
    groups: int = 1,
    activation: Config | None = None,
) -> ConvModule:
    """A "same"-padded convolution without bias, a normalisation and perhaps an activation."""
    per_channel = kernel_size == 1 and 1 < groups == in_channels == out_channels
    return ConvModule(
        in_channels,
        out_channels,
        kernel_size,
        conv_cfg={"type": "PerChannelConv2d"} if per_channel else None,
        stride=stride,
        padding=kernel_size // 2,
        groups=groups,
        norm_cfg=norm_cfg,
        act_cfg=activation,
    )


def depthwise(channels: int, kernel_size: int | tuple[int, int], stride: int = 1) -> nn.Conv2d:
    """A "same"-padded depthwise convolution with bias."""
    sides = kernel_size if isinstance(kernel_size, tuple) else (kernel_size, kernel_size)
    padding = (sides[0] // 2, sides[1] // 2)
    return nn.Conv2d(channels, channels, sides, stride=stride, padding=padding, groups=channels)


def build_norm(norm_cfg: Config, channels: int) -> nn.Module:
    """The normalisation layer of ``norm_cfg``, without mmcv's generated name."""
    return build_norm_layer(norm_cfg, channels)[1]


class ResizeTo(nn.Module):
    """Bilinear resizing to a given size; a module so that it is counted among the operations."""

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, C, H, W) to (B, C, *size)."""
        return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def drop_path(probability: float) -> nn.Module:
    """Stochastic depth for one residual branch; an identity at probability 0."""
    return DropPath(probability) if probability > 0 else nn.Identity()


def drop_path_schedule(rate: float, depth: int) -> list[float]:
    """Stochastic-depth probabilities rising linearly from 0 to ``rate`` over ``depth`` blocks."""
    return [rate * index / max(depth - 1, 1) for index in range(depth)]


def init_convolutions(module: nn.Module) -> None:
    """Normal initialisation with variance 2 / (k·k·out / groups) for every convolution.

    Dividing by the groups matters from scratch: without it a depthwise layer would start so small
    that everything behind it has to learn its scale first.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            fan_out = math.prod(layer.kernel_size) * layer.out_channels // layer.groups
            nn.init.normal_(layer.weight, std=math.sqrt(2.0 / fan_out))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
