"""AFFormer: a pixel branch beside prototypes that learn in the frequency domain.

Source of the architecture's facts: Dong et al., "Head-Free Lightweight Semantic Segmentation with
Linear Transformer", AAAI 2023, and its public repository dongbo811/AFFormer. The code here is
written anew; ``ssa.released.conversion`` maps the released parameter names.

Every stage has two embeddings. The first feeds a convolutional residual (the pixel branch), the
second, coarser one feeds linear attention whose relative positions are frequency filters (the
prototype branch); their sum goes on. Stage 0 has no attention. The released code registers the
filters once per block and once per attention, all one and the same module; here they live once per
stage.
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
    conv_norm,
    depthwise,
    drop_path,
    drop_path_schedule,
    init_convolutions,
)

HARDSWISH: Config = {"type": "HSwish"}
#: kernel sizes of the high-pass filters; heads are shared out among them
FILTER_KERNELS = (3, 5, 7)
#: output sizes of the pooled low-pass filters, one a quarter of the channels
LOW_PASS_SIZES = (1, 2, 3, 6)


class SeparableEmbedding(nn.Module):
    """Depthwise 3×3 (perhaps strided), pointwise, normalisation, hard swish; no biases."""

    def __init__(self, channels: int, stride: int, norm_cfg: Config) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(
            channels, channels, 3, stride=stride, padding=1, groups=channels, bias=False
        )
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm = build_norm(norm_cfg, channels)
        self.activation = nn.Hardswish()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H/stride, W/stride)."""
        return self.activation(self.norm(self.pointwise(self.depthwise(x))))


class PixelBranch(nn.Module):
    """A convolutional bottleneck of half the width with a residual."""

    def __init__(self, channels: int, norm_cfg: Config) -> None:
        super().__init__()
        hidden = channels // 2
        self.reduce = conv_norm(channels, hidden, norm_cfg=norm_cfg, activation=HARDSWISH)
        self.spatial = conv_norm(
            hidden, hidden, 3, groups=hidden, norm_cfg=norm_cfg, activation=HARDSWISH
        )
        self.expand = conv_norm(hidden, channels, norm_cfg=norm_cfg)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        return x + self.expand(self.spatial(self.reduce(x)))


class FrequencyFilters(nn.Module):
    """Low-pass plus query-gated high-pass views of the values.

    Args:
        head_channels: channels per head.
        heads_per_kernel: how many heads each kernel of ``FILTER_KERNELS`` serves.
    """

    def __init__(self, head_channels: int, heads_per_kernel: Sequence[int]) -> None:
        super().__init__()
        self.splits = [heads * head_channels for heads in heads_per_kernel]
        self.high_pass = nn.ModuleList(
            depthwise(channels, kernel) for channels, kernel in zip(self.splits, FILTER_KERNELS)
        )
        self.low_pass = nn.ModuleList(nn.AdaptiveAvgPool2d(size) for size in LOW_PASS_SIZES)
        self.activation = nn.ReLU()

    def forward(self, query: Tensor, value: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, heads, N, C) queries and values, N = H·W in ``size``, to the same shape."""
        heads = value.shape[1]
        image = value.transpose(2, 3).flatten(1, 2).unflatten(2, size)  # (B, heads·C, H, W)
        quarters = image.chunk(len(LOW_PASS_SIZES), dim=1)
        low = torch.cat(
            [
                F.interpolate(pool(part), size=size, mode="bilinear", align_corners=False)
                for pool, part in zip(self.low_pass, quarters, strict=True)
            ],
            dim=1,
        )
        parts = image.split(self.splits, dim=1)
        high = torch.cat(
            [convolution(part) for convolution, part in zip(self.high_pass, parts)], dim=1
        )
        low, high = (
            view.flatten(2).unflatten(1, (heads, -1)).transpose(2, 3)
            for view in (self.activation(low), high)
        )
        return query * high + low


class LinearAttention(nn.Module):
    """Factorised attention, softmax over positions, plus the frequency filters' view."""

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.scale = (channels // num_heads) ** -0.5
        self.qkv = nn.Linear(channels, 3 * channels)
        self.project = nn.Linear(channels, channels)

    def forward(self, x: Tensor, size: tuple[int, int], filters: FrequencyFilters) -> Tensor:
        """Tokens (B, N, C) to the same shape; ``filters`` are the stage's shared ones."""
        qkv = self.qkv(x).unflatten(2, (3, self.num_heads, -1))
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, N, C/heads)
        context = key.softmax(dim=2).transpose(2, 3) @ value
        attended = self.scale * (query @ context) + filters(query, value, size)
        return self.project(attended.transpose(1, 2).flatten(2))


class TokenMlp(nn.Module):
    """Two linear layers; a depthwise 3×3 is added before the activation."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.expand = nn.Linear(channels, hidden)
        self.spatial = depthwise(hidden, 3)
        self.activation = nn.GELU()
        self.project = nn.Linear(hidden, channels)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Tokens (B, N, C) to the same shape."""
        x = self.expand(x)
        local = self.spatial(x.transpose(1, 2).unflatten(2, size)).flatten(2).transpose(1, 2)
        return self.project(self.activation(x + local))


class PrototypeBlock(nn.Module):
    """Pre-norm attention and MLP with residuals."""

    def __init__(
        self, channels: int, num_heads: int, mlp_ratio: int, drop_path_rate: float
    ) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(channels, eps=1e-6)
        self.attention = LinearAttention(channels, num_heads)
        self.mlp_norm = nn.LayerNorm(channels, eps=1e-6)
        self.mlp = TokenMlp(channels, channels * mlp_ratio)
        self.drop_path = drop_path(drop_path_rate)

    def forward(self, x: Tensor, size: tuple[int, int], filters: FrequencyFilters) -> Tensor:
        """Tokens (B, N, C) to the same shape."""
        x = x + self.drop_path(self.attention(self.attention_norm(x), size, filters))
        return x + self.drop_path(self.mlp(self.mlp_norm(x), size))


class PrototypeBranch(nn.Module):
    """Blocks that share one position encoding and one set of frequency filters."""

    def __init__(
        self,
        channels: int,
        heads_per_kernel: Sequence[int],
        mlp_ratio: int,
        drop_path_rates: Sequence[float],
    ) -> None:
        super().__init__()
        num_heads = sum(heads_per_kernel)
        self.position = depthwise(channels, 3)
        self.filters = FrequencyFilters(channels // num_heads, heads_per_kernel)
        self.blocks = nn.ModuleList(
            PrototypeBlock(channels, num_heads, mlp_ratio, rate) for rate in drop_path_rates
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        size = (x.shape[2], x.shape[3])
        for block in self.blocks:
            tokens = (x + self.position(x)).flatten(2).transpose(1, 2)
            x = block(tokens, size, self.filters).transpose(1, 2).unflatten(2, size)
        return x


class AffStage(nn.Module):
    """One stage: two embeddings in a row, the two branches, an aggregating 1×1 convolution.

    Args:
        channels, out_channels: before and after.
        strides: of the two embeddings.
        branch: the prototype branch; None adds the embeddings and has the pixel branch alone.
        norm_cfg: normalisation.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        strides: tuple[int, int],
        branch: PrototypeBranch | None,
        norm_cfg: Config,
    ) -> None:
        super().__init__()
        self.embeddings = nn.ModuleList(
            SeparableEmbedding(channels, stride, norm_cfg) for stride in strides
        )
        self.pixels = PixelBranch(channels, norm_cfg)
        self.prototypes = branch
        self.aggregate = conv_norm(channels, out_channels, norm_cfg=norm_cfg, activation=HARDSWISH)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H/s, W/s), s the first embedding's stride."""
        fine = self.embeddings[0](x)
        coarse = self.embeddings[1](fine)
        if self.prototypes is None:
            return self.aggregate(self.pixels(fine + coarse))
        pixels, prototypes = self.pixels(fine), self.prototypes(coarse)
        if prototypes.shape[2:] != pixels.shape[2:]:
            prototypes = F.interpolate(
                prototypes, size=pixels.shape[2:], mode="bilinear", align_corners=True
            )
        return self.aggregate(pixels + prototypes)


@MODELS.register_module()
class AFFormer(BaseModule):
    """The AFFormer backbone.

    Args:
        channels: channels of the four stages (before aggregation).
        depths: attention blocks of stages 1 to 3; stage 0 has none.
        heads_per_kernel: heads for each kernel of ``FILTER_KERNELS``; their sum is the number of
            heads, which divides every stage's channels.
        mlp_ratio: MLP width over channels.
        drop_path_rate: stochastic depth of the last block, rising linearly from 0.
        norm_cfg: normalisation of the convolutions.
        init_cfg: mmengine's initialisation; None is a normal initialisation by fan-out.
    """

    #: strides of the two embeddings of each stage; the whole is stride 8, prototypes 16 and 32
    STRIDES = ((1, 1), (2, 1), (1, 2), (1, 4))

    def __init__(
        self,
        channels: Sequence[int] = (32, 96, 176, 216),
        depths: Sequence[int] = (2, 6, 2),
        heads_per_kernel: Sequence[int] = (2, 3, 3),
        mlp_ratio: int = 2,
        drop_path_rate: float = 0.0,
        norm_cfg: Config | None = None,
        init_cfg: Config | None = None,
    ) -> None:
        super().__init__(init_cfg)
        norm_cfg = norm_cfg or {"type": "BN"}
        self.stem = nn.Sequential(
            *(
                conv_norm(inner, outer, 3, stride=2, norm_cfg=norm_cfg, activation=HARDSWISH)
                for inner, outer in ((3, channels[0] // 2), (channels[0] // 2, channels[0]))
            )
        )
        # the released schedule counts stage 0's one (absent) block as well
        rates = drop_path_schedule(drop_path_rate, 1 + sum(depths))[1:]
        branches: list[PrototypeBranch | None] = [None]
        for width, depth in zip(channels[1:], depths, strict=True):
            branches.append(PrototypeBranch(width, heads_per_kernel, mlp_ratio, rates[:depth]))
            rates = rates[depth:]
        after = [*channels[1:], channels[-1]]
        self.stages = nn.ModuleList(
            AffStage(width, wider, strides, branch, norm_cfg)
            for width, wider, strides, branch in zip(
                channels, after, self.STRIDES, branches, strict=True
            )
        )

    def init_weights(self) -> None:
        """Follow ``init_cfg`` where it is given, else normal by fan-out and truncated normal."""
        super().init_weights()
        if self.init_cfg is None:
            init_convolutions(self)
            for layer in self.modules():
                if isinstance(layer, nn.Linear):
                    nn.init.trunc_normal_(layer.weight, std=0.02)
                    nn.init.zeros_(layer.bias)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images (B, 3, H, W) to four maps, strides 4, 8, 8, 8."""
        outputs = []
        x = self.stem(images)
        for stage in self.stages:
            x = stage(x)
            outputs.append(x)
        return tuple(outputs)
