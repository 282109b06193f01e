"""EfficientFormerV2: convolutional MLPs with attention in the last blocks of the last two stages.

Source of the architecture's facts: Li et al., "Rethinking Vision Transformers for MobileNet Size
and Speed", ICCV 2023 (snap-research/EfficientFormer), in the variant of CGRSeg
(nizhenliang/CGRSeg), whose attention biases are sized for 512×512 and resized to the input. The
code here is written anew; ``ssa.released.conversion`` maps the released parameter names.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor, nn

from ssa.backbones.layers import Config, ResizeTo, build_norm, depthwise, drop_path

#: channels of one query or key head, and of one value head over them
KEY_DIM, VALUE_RATIO = 32, 4
#: the same for the attention that halves the resolution
DOWNSAMPLE_KEY_DIM = 16
NUM_HEADS = 8
#: the first stage that has attention
FIRST_ATTENTION_STAGE = 2


def _conv_norm(convolution: nn.Conv2d, norm_cfg: Config) -> nn.Sequential:
    """A convolution (with its bias) and a normalisation: the layout of the released files."""
    return nn.Sequential(convolution, build_norm(norm_cfg, convolution.out_channels))


def _named_conv_norm(convolution: nn.Conv2d, norm_cfg: Config) -> nn.Sequential:
    """The same with the normalisation called ``norm``, where released settings do not decay it."""
    norm = build_norm(norm_cfg, convolution.out_channels)
    return nn.Sequential(OrderedDict(conv=convolution, norm=norm))


def relative_position_index(queries: int, keys: int) -> Tensor:
    """Which bias belongs to each pair of grid positions, by distance along both axes.

    Args:
        queries, keys: side lengths of the square query and key grids; the query grid is ``keys /
            queries`` times coarser.

    Returns:
        (queries², keys²) integers below keys².
    """
    step = math.ceil(keys / queries)
    distance = (torch.arange(queries)[:, None] * step - torch.arange(keys)[None]).abs()
    # (qy, ky) and (qx, kx) distances to a (qy, qx, ky, kx) index
    index = distance[:, None, :, None] * keys + distance[None, :, None, :]
    return index.reshape(queries**2, keys**2)


class PositionBias(nn.Module):
    """Learned biases by relative position on a reference grid, resized to the actual attention.

    The resizing treats the (queries × keys) matrix as an image (bicubic), as released.
    """

    index: Tensor

    def __init__(self, queries: int, keys: int) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.zeros(NUM_HEADS, keys**2))
        self.register_buffer("index", relative_position_index(queries, keys), persistent=False)

    def forward(self, queries: int, keys: int) -> Tensor:
        """(1, heads, queries, keys)."""
        bias = self.values[:, self.index][None]
        return F.interpolate(bias, size=(queries, keys), mode="bicubic", align_corners=False)


class GridAttention(nn.Module):
    """Attention over all positions with talking heads, perhaps on a halved grid.

    Args:
        channels: in and out.
        resolution: side of the grid for which the position biases are declared.
        halved: attend on a strided copy and resize back.
        norm_cfg: normalisation.
    """

    def __init__(self, channels: int, resolution: int, halved: bool, norm_cfg: Config) -> None:
        super().__init__()
        key_channels = KEY_DIM * NUM_HEADS
        value_channels = VALUE_RATIO * key_channels
        grid = math.ceil(resolution / 2) if halved else resolution
        self.scale = KEY_DIM**-0.5
        self.halve = _conv_norm(depthwise(channels, 3, stride=2), norm_cfg) if halved else None
        self.resize = ResizeTo() if halved else None
        self.query = _conv_norm(nn.Conv2d(channels, key_channels, 1), norm_cfg)
        self.key = _conv_norm(nn.Conv2d(channels, key_channels, 1), norm_cfg)
        self.value = _conv_norm(nn.Conv2d(channels, value_channels, 1), norm_cfg)
        self.local = _conv_norm(depthwise(value_channels, 3), norm_cfg)
        self.bias = PositionBias(grid, grid)
        self.talking_head_before = nn.Conv2d(NUM_HEADS, NUM_HEADS, 1)
        self.talking_head_after = nn.Conv2d(NUM_HEADS, NUM_HEADS, 1)
        self.activation = nn.GELU()
        self.project = _conv_norm(nn.Conv2d(value_channels, channels, 1), norm_cfg)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        size = x.shape[2:]
        if self.halve is not None:
            x = self.halve(x)
        value_map = self.value(x)
        query, key, value = (
            part.flatten(2).unflatten(1, (NUM_HEADS, -1))
            for part in (self.query(x), self.key(x), value_map)
        )  # (B, heads, C/heads, N)
        weights = query.transpose(2, 3) @ key * self.scale
        weights = self.talking_head_before(weights + self.bias(*weights.shape[2:])).softmax(dim=-1)
        context = self.talking_head_after(weights) @ value.transpose(2, 3)
        out = context.transpose(2, 3).flatten(1, 2).unflatten(2, x.shape[2:]) + self.local(
            value_map
        )
        if self.resize is not None:
            out = self.resize(out, size)
        return self.project(self.activation(out))


class SubsamplingQuery(nn.Module):
    """Queries for half the resolution: a strided depthwise view plus every second position."""

    def __init__(self, channels: int, out_channels: int, norm_cfg: Config) -> None:
        super().__init__()
        self.skip = nn.AvgPool2d(1, 2)
        self.local = depthwise(channels, 3, stride=2)
        self.project = _conv_norm(nn.Conv2d(channels, out_channels, 1), norm_cfg)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H/2, W/2)."""
        return self.project(self.local(x) + self.skip(x))


class DownsamplingAttention(nn.Module):
    """Attention whose queries have half the resolution of keys and values."""

    def __init__(self, channels: int, out_channels: int, resolution: int, norm_cfg: Config) -> None:
        super().__init__()
        key_channels = DOWNSAMPLE_KEY_DIM * NUM_HEADS
        value_channels = VALUE_RATIO * key_channels
        self.scale = DOWNSAMPLE_KEY_DIM**-0.5
        self.query = SubsamplingQuery(channels, key_channels, norm_cfg)
        self.key = _conv_norm(nn.Conv2d(channels, key_channels, 1), norm_cfg)
        self.value = _conv_norm(nn.Conv2d(channels, value_channels, 1), norm_cfg)
        self.local = _conv_norm(depthwise(value_channels, 3, stride=2), norm_cfg)
        self.bias = PositionBias(math.ceil(resolution / 2), resolution)
        self.activation = nn.GELU()
        self.project = _conv_norm(nn.Conv2d(value_channels, out_channels, 1), norm_cfg)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H/2, W/2)."""
        query_map, value_map = self.query(x), self.value(x)
        query, key, value = (
            part.flatten(2).unflatten(1, (NUM_HEADS, -1))
            for part in (query_map, self.key(x), value_map)
        )
        weights = query.transpose(2, 3) @ key * self.scale
        weights = (weights + self.bias(*weights.shape[2:])).softmax(dim=-1)
        context = (weights @ value.transpose(2, 3)).transpose(2, 3).flatten(1, 2)
        out = context.unflatten(2, query_map.shape[2:]) + self.local(value_map)
        return self.project(self.activation(out))


class ConvolutionalMlp(nn.Module):
    """1×1 expansion, depthwise 3×3, 1×1 projection, each with bias and normalisation."""

    def __init__(self, channels: int, hidden: int, norm_cfg: Config) -> None:
        super().__init__()
        self.expand = _named_conv_norm(nn.Conv2d(channels, hidden, 1), norm_cfg)
        self.spatial = _named_conv_norm(depthwise(hidden, 3), norm_cfg)
        self.project = _named_conv_norm(nn.Conv2d(hidden, channels, 1), norm_cfg)
        self.activation = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        x = self.activation(self.spatial(self.activation(self.expand(x))))
        return self.project(x)


class EfficientBlock(nn.Module):
    """An optional attention and an MLP, each a residual branch with layer scale.

    Args:
        channels: in and out.
        mlp_ratio: MLP width over channels.
        attention: the token mixer, or None.
        drop_path_rate: stochastic depth.
        norm_cfg: normalisation.
        scale: where the layer scales start.
    """

    def __init__(
        self,
        channels: int,
        mlp_ratio: float,
        attention: GridAttention | None,
        drop_path_rate: float,
        norm_cfg: Config,
        scale: float = 1e-5,
    ) -> None:
        super().__init__()
        self.attention = attention
        if attention is not None:
            self.attention_scale = nn.Parameter(torch.full((channels, 1, 1), scale))
        self.mlp = ConvolutionalMlp(channels, int(channels * mlp_ratio), norm_cfg)
        self.mlp_scale = nn.Parameter(torch.full((channels, 1, 1), scale))
        self.drop_path = drop_path(drop_path_rate)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        if self.attention is not None:
            x = x + self.drop_path(self.attention_scale * self.attention(x))
        return x + self.drop_path(self.mlp_scale * self.mlp(x))


class Downsampling(nn.Module):
    """A strided 3×3 convolution; into the last stage, attention is added to it."""

    def __init__(
        self, channels: int, out_channels: int, resolution: int | None, norm_cfg: Config
    ) -> None:
        super().__init__()
        convolution = nn.Conv2d(channels, out_channels, 3, stride=2, padding=1)
        self.attention: DownsamplingAttention | None = None
        if resolution is None:
            self.convolution = _named_conv_norm(convolution, norm_cfg)
        else:
            self.convolution = _conv_norm(convolution, norm_cfg)
            self.attention = DownsamplingAttention(channels, out_channels, resolution, norm_cfg)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H/2, W/2)."""
        out = self.convolution(x)
        return out if self.attention is None else out + self.attention(x)


@MODELS.register_module()
class EfficientFormerV2(BaseModule):
    """The EfficientFormerV2 backbone of CGRSeg.

    Args:
        channels: of the four stages.
        mlp_ratios: one list a stage, one entry a block; its length is the stage's depth.
        attention_blocks: how many of the last blocks of stages 2 and 3 have attention.
        resolution: input side for which the position biases are declared.
        drop_path_rate: stochastic depth of the last block, rising linearly from 0.
        layer_scale: where the layer scales start.
        norm_cfg: normalisation.
        init_cfg: mmengine's initialisation.
    """

    def __init__(
        self,
        channels: Sequence[int],
        mlp_ratios: Sequence[Sequence[float]],
        attention_blocks: int,
        resolution: int = 512,
        drop_path_rate: float = 0.0,
        layer_scale: float = 1e-5,
        norm_cfg: Config | None = None,
        init_cfg: Config | None = None,
    ) -> None:
        super().__init__(init_cfg)
        norm_cfg = norm_cfg or {"type": "BN"}
        layers: list[nn.Module] = []
        for inner, outer in ((3, channels[0] // 2), (channels[0] // 2, channels[0])):
            convolution = nn.Conv2d(inner, outer, 3, stride=2, padding=1)
            layers += [_conv_norm(convolution, norm_cfg), nn.GELU()]
        self.stem = nn.Sequential(*layers)
        depths = [len(ratios) for ratios in mlp_ratios]
        last_block = sum(depths) - 1
        self.stages, self.downsamplings = nn.ModuleList(), nn.ModuleList()
        for stage, (width, ratios) in enumerate(zip(channels, mlp_ratios, strict=True)):
            grid = math.ceil(resolution / 2 ** (stage + 2))
            blocks = []
            for index, ratio in enumerate(ratios):
                attends = stage >= FIRST_ATTENTION_STAGE and index >= len(ratios) - attention_blocks
                # only stage 2 is fine enough to need the halved grid
                halved = stage == FIRST_ATTENTION_STAGE
                blocks.append(
                    EfficientBlock(
                        width,
                        ratio,
                        GridAttention(width, grid, halved, norm_cfg) if attends else None,
                        drop_path_rate * (index + sum(depths[:stage])) / last_block,
                        norm_cfg,
                        layer_scale,
                    )
                )
            self.stages.append(nn.Sequential(*blocks))
            if stage + 1 < len(channels):
                attends = stage >= FIRST_ATTENTION_STAGE
                self.downsamplings.append(
                    Downsampling(width, channels[stage + 1], grid if attends else None, norm_cfg)
                )

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images (B, 3, H, W) to four maps, strides 4, 8, 16, 32."""
        outputs = []
        x = self.stem(images)
        for index, stage in enumerate(self.stages):
            if index > 0:
                x = self.downsamplings[index - 1](x)
            x = stage(x)
            outputs.append(x)
        return tuple(outputs)
