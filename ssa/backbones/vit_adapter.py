"""ViT-Adapter: a plain vision transformer exchanging features with a convolutional pyramid.

Source of the architecture's facts: Chen et al., "Vision Transformer Adapter for Dense
Predictions", ICLR 2023, and its public repository czczup/ViT-Adapter. The code here is written
anew; ``ssa.released.conversion`` maps the released parameter names.

The transformer's blocks are cut into four groups. Before each group an injector adds the pyramid
to the transformer's tokens, after it an extractor updates the pyramid from them, both by deformable
attention. The outputs are the pyramid plus the tokens after each group.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ssa.backbones.deformable import DeformableAttention, Size, grid_centres
from ssa.backbones.layers import (
    Config,
    build_norm,
    conv_norm,
    depthwise,
    drop_path,
    drop_path_schedule,
    init_convolutions,
)

PATCH = 16
#: the coarsest stride; images are padded to a multiple of it
COARSEST = 32
#: how much finer or coarser each output is than the transformer's stride of 16
OUTPUT_SCALES = (4.0, 2.0, 1.0, 0.5)
EPS = 1e-6


class SelfAttention(nn.Module):
    """Global multi-head self-attention."""

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.project = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, N, C) to the same shape."""
        qkv = self.qkv(x).unflatten(2, (3, self.num_heads, -1))
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value)
        return self.project(attended.transpose(1, 2).flatten(2))


class TransformerBlock(nn.Module):
    """Pre-norm attention and MLP with layer scale and stochastic depth."""

    def __init__(
        self, channels: int, num_heads: int, mlp_ratio: float, drop_path_rate: float
    ) -> None:
        super().__init__()
        hidden = int(channels * mlp_ratio)
        self.attention_norm = nn.LayerNorm(channels, eps=EPS)
        self.attention = SelfAttention(channels, num_heads)
        self.attention_scale = nn.Parameter(torch.ones(channels))
        self.mlp_norm = nn.LayerNorm(channels, eps=EPS)
        self.mlp = nn.Sequential(
            nn.Linear(channels, hidden), nn.GELU(), nn.Linear(hidden, channels)
        )
        self.mlp_scale = nn.Parameter(torch.ones(channels))
        self.drop_path = drop_path(drop_path_rate)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, N, C) to the same shape."""
        x = x + self.drop_path(self.attention_scale * self.attention(self.attention_norm(x)))
        return x + self.drop_path(self.mlp_scale * self.mlp(self.mlp_norm(x)))


class PyramidMlp(nn.Module):
    """Two linear layers with a depthwise 3×3 between, applied to each pyramid level apart."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.expand = nn.Linear(channels, hidden)
        self.spatial = depthwise(hidden, 3)
        self.activation = nn.GELU()
        self.project = nn.Linear(hidden, channels)

    def forward(self, x: Tensor, sizes: Sequence[Size]) -> Tensor:
        """Tokens of all levels (B, N, C) to the same shape."""
        levels = split_levels(self.expand(x), sizes)
        x = torch.cat([self.spatial(level).flatten(2) for level in levels], dim=2)
        return self.project(self.activation(x.transpose(1, 2)))


def split_levels(tokens: Tensor, sizes: Sequence[Size]) -> list[Tensor]:
    """Tokens (B, N, C) of several levels to one map (B, C, height, width) a level."""
    parts = tokens.split([height * width for height, width in sizes], dim=1)
    return [part.transpose(1, 2).unflatten(2, size) for part, size in zip(parts, sizes)]


class CrossAttention(nn.Module):
    """Deformable attention from normed queries to normed tokens."""

    def __init__(
        self, channels: int, levels: int, num_heads: int, points: int, value_ratio: float
    ) -> None:
        super().__init__()
        self.query_norm = nn.LayerNorm(channels, eps=EPS)
        self.token_norm = nn.LayerNorm(channels, eps=EPS)
        self.attention = DeformableAttention(channels, levels, num_heads, points, value_ratio)

    def forward(
        self, query: Tensor, references: Tensor, tokens: Tensor, sizes: Sequence[Size]
    ) -> Tensor:
        """As :class:`~ssa.backbones.deformable.DeformableAttention`."""
        return self.attention(self.query_norm(query), references, self.token_norm(tokens), sizes)


class Extractor(nn.Module):
    """The pyramid looks at the transformer's tokens, then passes a convolutional MLP."""

    def __init__(
        self,
        channels: int,
        num_heads: int,
        points: int,
        value_ratio: float,
        mlp_ratio: float,
        drop_path_rate: float,
    ) -> None:
        super().__init__()
        self.cross = CrossAttention(channels, 1, num_heads, points, value_ratio)
        self.mlp_norm = nn.LayerNorm(channels, eps=EPS)
        self.mlp = PyramidMlp(channels, int(channels * mlp_ratio))
        self.drop_path = drop_path(drop_path_rate)

    def forward(self, pyramid: Tensor, tokens: Tensor, sizes: Sequence[Size]) -> Tensor:
        """Pyramid tokens (B, N, C) updated; ``sizes`` are the pyramid's, stride 16 the second."""
        references = grid_centres(sizes, pyramid.device, pyramid.dtype)
        pyramid = pyramid + self.cross(pyramid, references, tokens, sizes[1:2])
        return pyramid + self.drop_path(self.mlp(self.mlp_norm(pyramid), sizes))


class Interaction(nn.Module):
    """Inject the pyramid, run a group of transformer blocks, extract the pyramid (Fig. 4).

    Args:
        channels: of tokens and pyramid.
        num_heads, points, value_ratio: of the deformable attention.
        mlp_ratio: of the extractors' MLP.
        extractors: 1, or more where further ones follow (the last group has three).
        drop_path_rate: stochastic depth of the extractors' MLP.
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        points: int,
        value_ratio: float,
        mlp_ratio: float,
        extractors: int,
        drop_path_rate: float,
    ) -> None:
        super().__init__()
        self.injector = CrossAttention(channels, 3, num_heads, points, value_ratio)
        # starts at zero, so that a pretrained transformer starts undisturbed
        self.injector_scale = nn.Parameter(torch.zeros(channels))
        self.extractors = nn.ModuleList(
            Extractor(channels, num_heads, points, value_ratio, mlp_ratio, drop_path_rate)
            for _ in range(extractors)
        )

    def forward(
        self, tokens: Tensor, pyramid: Tensor, blocks: Sequence[nn.Module], sizes: Sequence[Size]
    ) -> tuple[Tensor, Tensor]:
        """Tokens and pyramid after the group of ``blocks``, both (B, ·, C)."""
        references = grid_centres(sizes[1:2], tokens.device, tokens.dtype)
        injected = self.injector(tokens, references, pyramid, sizes)
        tokens = tokens + self.injector_scale * injected
        for block in blocks:
            tokens = block(tokens)
        for extractor in self.extractors:
            pyramid = extractor(pyramid, tokens, sizes)
        return tokens, pyramid


class SpatialPrior(nn.Module):
    """A small convolutional pyramid of the image: strides 4, 8, 16 and 32, each projected."""

    def __init__(self, width: int, channels: int, norm_cfg: Config) -> None:
        super().__init__()
        relu = {"type": "ReLU"}
        stem = [
            conv_norm(inner, width, 3, stride=stride, norm_cfg=norm_cfg, activation=relu)
            for inner, stride in ((3, 2), (width, 1), (width, 1))
        ]
        self.stem = nn.Sequential(*stem, nn.MaxPool2d(3, stride=2, padding=1))
        widths = (width, 2 * width, 4 * width, 4 * width)
        self.reductions = nn.ModuleList(
            conv_norm(inner, outer, 3, stride=2, norm_cfg=norm_cfg, activation=relu)
            for inner, outer in pairwise(widths)
        )
        self.projections = nn.ModuleList(nn.Conv2d(inner, channels, 1) for inner in widths)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images (B, 3, H, W) to four maps (B, C, H/4…H/32, ·)."""
        maps = [self.stem(images)]
        for reduction in self.reductions:
            maps.append(reduction(maps[-1]))
        return [projection(level) for projection, level in zip(self.projections, maps)]


@MODELS.register_module()
class ViTAdapter(BaseModule):
    """The ViT-Adapter backbone.

    An image whose sides are not multiples of 32 is padded with zeros at the right and the bottom
    and the outputs are cropped again; the released code refuses such images.

    Args:
        channels: of the transformer and of every output.
        depth: transformer blocks, a multiple of the number of groups.
        num_heads: of the transformer.
        mlp_ratio: of the transformer.
        pretrain_size: image side for which the position embedding is declared.
        prior_width: channels of the convolutional prior's stem.
        adapter_heads, adapter_points, adapter_value_ratio, adapter_mlp_ratio: of the interactions.
        final_extractors: extractors of the last interaction.
        drop_path_rate: stochastic depth: rising linearly to this over the blocks, and this for
            every extractor's MLP.
        checkpointing: keep no activations inside the interactions while training and compute them
            again: less memory, more time, the same gradients.
        norm_cfg: normalisation of the prior and the outputs.
        init_cfg: mmengine's initialisation.
    """

    def __init__(
        self,
        channels: int = 1024,
        depth: int = 24,
        num_heads: int = 16,
        mlp_ratio: float = 4.0,
        pretrain_size: int = 384,
        prior_width: int = 64,
        adapter_heads: int = 16,
        adapter_points: int = 4,
        adapter_value_ratio: float = 0.5,
        adapter_mlp_ratio: float = 0.25,
        final_extractors: int = 3,
        drop_path_rate: float = 0.0,
        checkpointing: bool = False,
        norm_cfg: Config | None = None,
        init_cfg: Config | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.checkpointing = checkpointing
        norm_cfg = norm_cfg or {"type": "BN"}
        groups = len(OUTPUT_SCALES)
        self.grid = pretrain_size // PATCH
        self.patch_embedding = nn.Conv2d(3, channels, PATCH, stride=PATCH)
        # entry 0 was the class token's in the pretrained transformer; it is never used
        self.position = nn.Parameter(torch.zeros(1, self.grid**2 + 1, channels))
        self.blocks = nn.ModuleList(
            TransformerBlock(channels, num_heads, mlp_ratio, rate)
            for rate in drop_path_schedule(drop_path_rate, depth)
        )
        self.blocks_per_group = depth // groups
        self.prior = SpatialPrior(prior_width, channels, norm_cfg)
        self.level_embedding = nn.Parameter(torch.zeros(3, channels))
        self.interactions = nn.ModuleList(
            Interaction(
                channels,
                adapter_heads,
                adapter_points,
                adapter_value_ratio,
                adapter_mlp_ratio,
                final_extractors if group == groups - 1 else 1,
                drop_path_rate,
            )
            for group in range(groups)
        )
        self.upsample = nn.ConvTranspose2d(channels, channels, 2, stride=2)
        self.norms = nn.ModuleList(build_norm(norm_cfg, channels) for _ in range(groups))

    def init_weights(self) -> None:
        """Follow ``init_cfg`` where it is given, else the usual initialisation of each part."""
        super().init_weights()
        if self.init_cfg is not None:
            return
        init_convolutions(self)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        for layer in self.modules():
            if isinstance(layer, DeformableAttention):
                layer.init_weights()
        nn.init.normal_(self.level_embedding)
        nn.init.trunc_normal_(self.position, std=0.02)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images (B, 3, H, W) to four maps (B, C, ·, ·), strides 4, 8, 16, 32."""
        height, width = images.shape[2:]
        images = F.pad(images, (0, -width % COARSEST, 0, -height % COARSEST))
        finest, *levels = self.prior(images)
        sizes = [(level.shape[2], level.shape[3]) for level in levels]
        pyramid = torch.cat(
            [
                level.flatten(2).transpose(1, 2) + embedding
                for level, embedding in zip(levels, self.level_embedding)
            ],
            dim=1,
        )
        tokens = self._embed(images)
        after_groups = []
        for group, interaction in enumerate(self.interactions):
            start = group * self.blocks_per_group
            blocks = self.blocks[start : start + self.blocks_per_group]
            arguments = (tokens, pyramid, blocks, sizes)
            if self.checkpointing and self.training:
                tokens, pyramid = checkpoint(interaction, *arguments, use_reentrant=False)
            else:
                tokens, pyramid = interaction(*arguments)
            after_groups.append(tokens.transpose(1, 2).unflatten(2, sizes[1]))
        levels = split_levels(pyramid, sizes)
        maps = [finest + self.upsample(levels[0]), *levels]
        outputs = []
        for level, seen, norm, scale in zip(maps, after_groups, self.norms, OUTPUT_SCALES):
            if scale != 1:
                seen = F.interpolate(seen, scale_factor=scale, mode="bilinear", align_corners=False)
            stride = int(PATCH / scale)
            rows, columns = -(-height // stride), -(-width // stride)
            outputs.append(norm(level + seen)[:, :, :rows, :columns])
        return tuple(outputs)

    def _embed(self, images: Tensor) -> Tensor:
        patches = self.patch_embedding(images)
        size = patches.shape[2:]
        position = self.position[:, 1:].transpose(1, 2).unflatten(2, (self.grid, self.grid))
        position = F.interpolate(position, size=size, mode="bicubic", align_corners=False)
        return (patches + position).flatten(2).transpose(1, 2)
