"""SeaFormer: mobile convolutions down to 1/64 with squeeze-enhanced axial attention.

Source of the architecture's facts: Wan et al., "SeaFormer: Squeeze-enhanced Axial Transformer for
Mobile Semantic Segmentation", ICLR 2023, and its public repository fudan-zvg/SeaFormer. The
code here is written anew; ``ssa.released.conversion`` maps the released parameter names.

Stages (docs/models.md has the table with sizes): a strided 3×3 stem, then five stacks of inverted
residuals. The last ``len(depths)`` stacks are each followed by a stack of attention blocks. The
outputs are stack 2 (stride 8, the detail branch) and the output of every attention stack.
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
    conv_norm,
    depthwise,
    drop_path,
    drop_path_schedule,
    init_convolutions,
)

#: index of the stack whose output feeds the head's detail branch
DETAIL_STACK = 1


def round_channels(channels: float, divisor: int = 8) -> int:
    """The nearest multiple of ``divisor`` that loses no more than a tenth of ``channels``."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


class InvertedResidual(nn.Module):
    """Expand (1×1), depthwise (k×k) and project (1×1), with a residual where shapes allow.

    Args:
        in_channels, out_channels: channels before and after.
        kernel_size: of the depthwise convolution.
        expand_ratio: width of the middle; at 1 the expansion is left out.
        stride: of the depthwise convolution.
        norm_cfg: normalisation of all three.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        expand_ratio: float,
        stride: int,
        norm_cfg: Config,
    ) -> None:
        super().__init__()
        hidden = round(in_channels * expand_ratio)
        relu = {"type": "ReLU"}
        layers = []
        if expand_ratio != 1:
            layers.append(conv_norm(in_channels, hidden, norm_cfg=norm_cfg, activation=relu))
        layers += [
            conv_norm(
                hidden,
                hidden,
                kernel_size,
                stride=stride,
                groups=hidden,
                norm_cfg=norm_cfg,
                activation=relu,
            ),
            conv_norm(hidden, out_channels, norm_cfg=norm_cfg),
        ]
        self.layers = nn.Sequential(*layers)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H/stride, W/stride)."""
        return x + self.layers(x) if self.residual else self.layers(x)


class SqueezedAxis(nn.Module):
    """Attention along one image axis, on maps averaged over the other one.

    Args:
        key_channels: channels of queries and keys over all heads.
        value_channels: channels of values over all heads.
        num_heads: number of heads.
        norm_cfg: normalisation of the closing 1×1 convolution.
        positions: length of the learned position embeddings, interpolated to the axis's length.
    """

    def __init__(
        self,
        key_channels: int,
        value_channels: int,
        num_heads: int,
        norm_cfg: Config,
        positions: int = 16,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.scale = (key_channels // num_heads) ** -0.5
        # "pos_emb" in the name: the released optimiser settings find these by it
        self.query_pos_emb = nn.Parameter(torch.randn(1, key_channels, positions))
        self.key_pos_emb = nn.Parameter(torch.randn(1, key_channels, positions))
        self.activation = nn.ReLU6()
        self.project = conv_norm(value_channels, value_channels, norm_cfg=norm_cfg)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, squeezed: int) -> Tensor:
        """Context along one axis.

        Args:
            query, key: (B, C_k, H, W).
            value: (B, C_v, H, W).
            squeezed: the dimension averaged away, 2 or 3.

        Returns:
            (B, C_v, H, W) with size 1 in the squeezed dimension.
        """
        query, key, value = (part.mean(squeezed) for part in (query, key, value))
        length = query.shape[-1]
        query = query + _stretch(self.query_pos_emb, length)
        key = key + _stretch(self.key_pos_emb, length)
        query, key, value = (
            part.unflatten(1, (self.num_heads, -1)) for part in (query, key, value)
        )  # (B, heads, C/heads, length)
        weights = (query.transpose(2, 3) @ key * self.scale).softmax(dim=-1)
        context = (value @ weights.transpose(2, 3)).flatten(1, 2).unsqueeze(squeezed)
        return self.project(self.activation(context))


def _stretch(position: Tensor, length: int) -> Tensor:
    return F.interpolate(position, size=length, mode="linear", align_corners=False)


class SeaAttention(nn.Module):
    """Squeeze-enhanced axial attention: both axes' context gates a convolutional detail branch.

    Args:
        channels: channels in and out.
        key_dim: channels of a query or key per head.
        num_heads: number of heads.
        value_ratio: a value has ``value_ratio · key_dim`` channels per head.
        norm_cfg: normalisation of all convolutions.
    """

    def __init__(
        self, channels: int, key_dim: int, num_heads: int, value_ratio: float, norm_cfg: Config
    ) -> None:
        super().__init__()
        key_channels = key_dim * num_heads
        value_channels = int(value_ratio * key_dim) * num_heads
        total = 2 * key_channels + value_channels
        self.query = conv_norm(channels, key_channels, norm_cfg=norm_cfg)
        self.key = conv_norm(channels, key_channels, norm_cfg=norm_cfg)
        self.value = conv_norm(channels, value_channels, norm_cfg=norm_cfg)
        self.detail = nn.Sequential(
            conv_norm(
                total, total, 3, groups=total, norm_cfg=norm_cfg, activation={"type": "ReLU6"}
            ),
            conv_norm(total, channels, norm_cfg=norm_cfg),
        )
        self.rows = SqueezedAxis(key_channels, value_channels, num_heads, norm_cfg)
        self.columns = SqueezedAxis(key_channels, value_channels, num_heads, norm_cfg)
        self.activation = nn.ReLU6()
        self.project = conv_norm(value_channels, channels, norm_cfg=norm_cfg)
        self.gate = nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        query, key, value = self.query(x), self.key(x), self.value(x)
        detail = self.detail(torch.cat([query, key, value], dim=1))
        context = self.rows(query, key, value, squeezed=3)
        context = value + (context + self.columns(query, key, value, squeezed=2))
        return self.gate(self.project(self.activation(context))) * detail


class ConvMlp(nn.Module):
    """1×1 expansion, depthwise 3×3 with bias, ReLU6, 1×1 projection."""

    def __init__(self, channels: int, hidden: int, norm_cfg: Config) -> None:
        super().__init__()
        self.expand = conv_norm(channels, hidden, norm_cfg=norm_cfg)
        self.depthwise = depthwise(hidden, 3)
        self.activation = nn.ReLU6()
        self.project = conv_norm(hidden, channels, norm_cfg=norm_cfg)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        return self.project(self.activation(self.depthwise(self.expand(x))))


class SeaBlock(nn.Module):
    """Attention and MLP, each in a residual branch with stochastic depth."""

    def __init__(
        self,
        channels: int,
        key_dim: int,
        num_heads: int,
        value_ratio: float,
        mlp_ratio: float,
        drop_path_rate: float,
        norm_cfg: Config,
    ) -> None:
        super().__init__()
        self.attention = SeaAttention(channels, key_dim, num_heads, value_ratio, norm_cfg)
        self.mlp = ConvMlp(channels, int(channels * mlp_ratio), norm_cfg)
        self.drop_path = drop_path(drop_path_rate)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        x = x + self.drop_path(self.attention(x))
        return x + self.drop_path(self.mlp(x))


@MODELS.register_module()
class SeaFormer(BaseModule):
    """The SeaFormer backbone.

    Args:
        stacks: one list a stack of ``(kernel, expansion, channels, stride)``, one tuple an inverted
            residual.
        stem_channels: channels after the strided 3×3 stem.
        depths: attention blocks after each of the last ``len(depths)`` stacks.
        key_dims: channels of a query per head, one a transformer stage.
        num_heads: attention heads.
        value_ratio: channels of a value over those of a key.
        mlp_ratios: MLP width over channels, one a transformer stage.
        drop_path_rate: stochastic depth of the last block of each transformer stage.
        norm_cfg: normalisation.
        init_cfg: mmengine's initialisation; None is a normal initialisation by fan-out.
    """

    def __init__(
        self,
        stacks: Sequence[Sequence[tuple[int, float, int, int]]],
        stem_channels: int,
        depths: Sequence[int],
        key_dims: Sequence[int],
        num_heads: int = 8,
        value_ratio: float = 2,
        mlp_ratios: Sequence[float] = (2, 4),
        drop_path_rate: float = 0.0,
        norm_cfg: Config | None = None,
        init_cfg: Config | None = None,
    ) -> None:
        super().__init__(init_cfg)
        norm_cfg = norm_cfg or {"type": "BN"}
        self.stem = conv_norm(
            3, stem_channels, 3, stride=2, norm_cfg=norm_cfg, activation={"type": "ReLU"}
        )
        self.stacks = nn.ModuleList()
        widths, channels = [], stem_channels
        for stack in stacks:
            blocks = []
            for kernel_size, expand_ratio, width, stride in stack:
                width = round_channels(width)
                blocks.append(
                    InvertedResidual(channels, width, kernel_size, expand_ratio, stride, norm_cfg)
                )
                channels = width
            self.stacks.append(nn.Sequential(*blocks))
            widths.append(channels)
        #: transformer stage i follows stack i + first_attention
        self.first_attention = len(stacks) - len(depths)
        self.attentions = nn.ModuleList(
            nn.Sequential(
                *(
                    SeaBlock(width, key_dim, num_heads, value_ratio, mlp_ratio, rate, norm_cfg)
                    for rate in drop_path_schedule(drop_path_rate, depth)
                )
            )
            for width, depth, key_dim, mlp_ratio in zip(
                widths[self.first_attention :], depths, key_dims, mlp_ratios, strict=True
            )
        )

    def init_weights(self) -> None:
        """Follow ``init_cfg`` where it is given, else initialise by fan-out."""
        super().init_weights()
        if self.init_cfg is None:
            init_convolutions(self)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images (B, 3, H, W) to the detail map (stride 8) and one map a transformer stage."""
        outputs = []
        x = self.stem(images)
        for index, stack in enumerate(self.stacks):
            x = stack(x)
            if index == DETAIL_STACK:
                outputs.append(x)
            if index >= self.first_attention:
                x = self.attentions[index - self.first_attention](x)
                outputs.append(x)
        return tuple(outputs)
