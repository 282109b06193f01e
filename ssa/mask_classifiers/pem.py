"""PEM, Prototype-based Efficient MaskFormer (Cavagnero et al., CVPR 2024)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from torch import Tensor, nn

from ssa.backbones.layers import Config
from ssa.mask_classifiers.deformable_conv import DeformableUpsample
from ssa.mask_classifiers.predictions import MaskPrediction


class ProjectionBlock(nn.Module):
    """1×1 convolution without bias · norm · ReLU."""

    def __init__(self, in_channels: int, out_channels: int, norm_cfg: Config) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.bn = build_norm_layer(norm_cfg, out_channels)[1]

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, O, H, W)."""
        return F.relu(self.bn(self.conv(x)))


class GateBranch(nn.Module):
    """σ(1×1 · ReLU · norm · 1×1) of the global mean of a map."""

    def __init__(self, channels: int, norm_cfg: Config) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Conv2d(channels, channels // 2, 1, bias=False),
            build_norm_layer(norm_cfg, channels // 2)[1],
            nn.ReLU(),
            nn.Conv2d(channels // 2, channels, 1, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, 1, 1)."""
        return self.mlp(x.mean((2, 3), keepdim=True))


class ChannelGate(nn.Module):
    """x + x · σ(branch(x)); this second sigmoid is the released code's."""

    def __init__(self, channels: int, norm_cfg: Config) -> None:
        super().__init__()
        self.mlp = nn.ModuleList([GateBranch(channels, norm_cfg)])  # the released name

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        return x + x * self.mlp[0](x).sigmoid()


class PemPixelDecoder(nn.Module):
    """Context-gated, deformable top-down path.

    Args:
        in_channels: of the backbone's maps at strides 4, 8, 16, 32.
        channels: of the path.
        mask_channels: of the mask features.
        norm_cfg: normalisation in mmcv's form.
    """

    def __init__(
        self, in_channels: Sequence[int], channels: int, mask_channels: int, norm_cfg: Config
    ) -> None:
        super().__init__()
        self.in_projections = nn.ModuleList(
            ProjectionBlock(width, channels, norm_cfg) for width in in_channels
        )
        self.conv_avg = ProjectionBlock(in_channels[-1], channels, norm_cfg)
        self.csm = nn.ModuleList(ChannelGate(channels, norm_cfg) for _ in in_channels)
        self.dcn = nn.ModuleList(
            DeformableUpsample(channels, channels, norm_cfg, plain_start=True)
            for _ in in_channels[1:]
        )
        self.out = ProjectionBlock(channels, mask_channels, norm_cfg)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Maps at strides 4 to 32 to mask features (stride 4) and maps at strides 32, 16, 8."""
        projected = [layer(x) for layer, x in zip(self.in_projections, features, strict=True)]
        gated = [gate(x) for gate, x in zip(self.csm, projected[::-1], strict=True)]
        x = gated[0] + self.conv_avg(features[-1].mean((2, 3), keepdim=True))
        levels = []
        for layer, finer in zip(self.dcn, gated[1:], strict=True):
            same, upsampled = layer(x)
            levels.append(same)
            x = finer + upsampled
        return self.out(x), levels


def sine_position(height: int, width: int, per_axis: int, like: Tensor) -> Tensor:
    """Sine position encoding (2·per_axis, H, W): y first; 1..n normalised to 2π, base 10000."""

    def axis(length: int) -> Tensor:
        place = torch.arange(1, length + 1, device=like.device, dtype=torch.float32)
        place = place / (length + 1e-6) * 2 * math.pi
        index = torch.arange(per_axis, device=like.device)
        angle = place[:, None] / 10000 ** (
            2 * torch.div(index, 2, rounding_mode="floor") / per_axis
        )
        return torch.where(index % 2 == 0, angle.sin(), angle.cos()).T  # (per_axis, length)

    y = axis(height)[:, :, None].expand(-1, height, width)
    x = axis(width)[:, None].expand(-1, height, width)
    return torch.cat([y, x]).to(like.dtype)


class MemoryProjection(nn.Module):
    """norm · depthwise 3×3 · linear of a map, as rows."""

    def __init__(self, channels: int, norm_cfg: Config) -> None:
        super().__init__()
        self.bn = build_norm_layer(norm_cfg, channels)[1]
        self.to_query_3x3 = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, memory: Tensor) -> Tensor:
        """(B, C, h, w) to (B, h·w, C)."""
        return self.out(self.to_query_3x3(self.bn(memory)).flatten(2).transpose(1, 2))


class PrototypeCrossAttention(nn.Module):
    """Each query takes ONE position per head, the most similar one inside its mask.

    q = u(Linear(LN(query + embedding))), m = u(Linear(DW(BN(memory + position)))), u over all
    channels. Per head, prototype = m at the arg-max of q · m over positions inside the mask.
    out = query + Linear(u_Q(Linear(prototype · q)) · α + prototype), u_Q over the queries.
    """

    def __init__(self, channels: int, num_heads: int, norm_cfg: Config) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.feature_proj = MemoryProjection(channels, norm_cfg)
        self.query_proj = nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, channels))
        self.proj = nn.Linear(channels, channels)
        self.final = nn.Linear(channels, channels)
        self.alpha = nn.Parameter(torch.ones(1, 1, channels))

    def forward(self, query: Tensor, embedding: Tensor, memory: Tensor, outside: Tensor) -> Tensor:
        """Attend.

        Args:
            query: (B, Q, C).
            embedding: (Q, C).
            memory: (B, C, h, w), position already added.
            outside: (B, Q, h·w) True where a query may not look; a query that may look nowhere
                takes position 0.

        Returns:
            (B, Q, C).
        """
        keys = F.normalize(self.feature_proj(memory), dim=-1)
        queries = F.normalize(self.query_proj(query + embedding), dim=-1)
        split_keys = keys.unflatten(2, (self.num_heads, -1)).transpose(1, 2)  # (B, heads, N, c)
        split_queries = queries.unflatten(2, (self.num_heads, -1)).transpose(1, 2)
        with torch.no_grad():
            similarity = split_queries @ split_keys.transpose(2, 3)
            best = similarity.masked_fill(outside[:, None], -math.inf).argmax(3)  # (B, heads, Q)
        index = best[..., None].expand(-1, -1, -1, split_keys.shape[-1])
        prototypes = split_keys.gather(2, index).transpose(1, 2).flatten(2)
        mixed = F.normalize(self.proj(prototypes * queries), dim=1) * self.alpha + prototypes
        return query + self.final(mixed)


class PreNormSelfAttention(nn.Module):
    """x + MHA(LN(x) + e, LN(x) + e, LN(x))."""

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(channels, num_heads, batch_first=True)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """(B, Q, C) and (Q, C) to (B, Q, C)."""
        values = self.norm(x)
        keys = values + embedding
        return x + self.self_attn(keys, keys, values, need_weights=False)[0]


class PreNormFeedForward(nn.Module):
    """x + Linear(ReLU(Linear(LN(x))))."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(channels, hidden)
        self.linear2 = nn.Linear(hidden, channels)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, Q, C) to the same."""
        return x + self.linear2(F.relu(self.linear1(self.norm(x))))


class MaskEmbedding(nn.Module):
    """Three linear layers with ReLU between them."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        widths = [channels, channels, channels, out_channels]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        """(B, Q, C) to (B, Q, O)."""
        return self.layers[2](F.relu(self.layers[1](F.relu(self.layers[0](x)))))


class PemDecoder(nn.Module):
    """Queries refined by prototype cross-attention, self-attention and feed-forward layers.

    Args:
        in_channels: of the pixel decoder's levels.
        channels: C of the queries and of the mask features.
        num_classes: K.
        queries: Q.
        layers: L; layer i reads the level of stride 32, 16, 8, 32, ...
        hidden: width of the feed-forward layers.
        num_heads: of both attentions.
        norm_cfg: normalisation in mmcv's form.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        num_classes: int,
        norm_cfg: Config,
        queries: int = 100,
        layers: int = 6,
        hidden: int = 2048,
        num_heads: int = 8,
    ) -> None:
        super().__init__()
        self.num_levels = 3
        self.transformer_cross_attention_layers = nn.ModuleList(
            PrototypeCrossAttention(channels, num_heads, norm_cfg) for _ in range(layers)
        )
        self.transformer_self_attention_layers = nn.ModuleList(
            PreNormSelfAttention(channels, num_heads) for _ in range(layers)
        )
        self.transformer_ffn_layers = nn.ModuleList(
            PreNormFeedForward(channels, hidden) for _ in range(layers)
        )
        self.decoder_norm = nn.LayerNorm(channels)
        self.query_feat = nn.Embedding(queries, channels)
        self.query_embed = nn.Embedding(queries, channels)
        self.level_embed = nn.Embedding(self.num_levels, channels)
        self.input_proj = nn.ModuleList(
            nn.Conv2d(in_channels, channels, 1) for _ in range(self.num_levels)
        )
        self.class_embed = nn.Linear(channels, num_classes + 1)
        self.mask_embed = MaskEmbedding(channels, channels)
        attentions = (
            *self.transformer_self_attention_layers,
            *self.transformer_ffn_layers,
            *self.input_proj,
        )
        for module in attentions:
            for parameter in module.parameters():
                if parameter.ndim > 1:
                    nn.init.xavier_uniform_(parameter)

    def forward(self, mask_features: Tensor, levels: Sequence[Tensor]) -> list[MaskPrediction]:
        """Mask features (B, C, h, w) and levels to L + 1 predictions."""
        memories = []
        for number, (projection, level) in enumerate(zip(self.input_proj, levels, strict=True)):
            projected = projection(level) + self.level_embed.weight[number][:, None, None]
            size = (projected.shape[2], projected.shape[3])
            memories.append(projected + sine_position(*size, projected.shape[1] // 2, projected))
        query = self.query_feat.weight.expand(mask_features.shape[0], -1, -1)
        embedding = self.query_embed.weight
        predictions = [self._predict(query, mask_features)]
        for number, (cross, attend, feed) in enumerate(
            zip(
                self.transformer_cross_attention_layers,
                self.transformer_self_attention_layers,
                self.transformer_ffn_layers,
                strict=True,
            )
        ):
            memory = memories[number % self.num_levels]
            outside = self._outside(predictions[-1].masks, memory)
            query = feed(attend(cross(query, embedding, memory, outside), embedding))
            predictions.append(self._predict(query, mask_features))
        return predictions

    def _predict(self, query: Tensor, mask_features: Tensor) -> MaskPrediction:
        normed = self.decoder_norm(query)
        masks = torch.einsum("bqc,bchw->bqhw", self.mask_embed(normed), mask_features)
        return MaskPrediction(masks, self.class_embed(normed))

    @staticmethod
    @torch.no_grad()
    def _outside(masks: Tensor, memory: Tensor) -> Tensor:
        """Where queries may not look (B, Q, h·w); nowhere forbidden if all queries are blind."""
        size = (memory.shape[2], memory.shape[3])
        resized = F.interpolate(masks, size=size, mode="bilinear", align_corners=False)
        outside = (resized < 0).flatten(2)
        return outside & ~outside.all(dim=(1, 2), keepdim=True)
