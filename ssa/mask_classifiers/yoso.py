"""YOSO, You Only Segment Once (Hu et al., CVPR 2023): neck and mask head."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssa.backbones.layers import Config
from ssa.mask_classifiers.deformable_conv import DeformableUpsample
from ssa.mask_classifiers.predictions import MaskPrediction


class YosoNeck(nn.Module):
    """Feature pyramid aggregation: one map of stride 4 from the four of a backbone.

    Top-down: lateral 1×1 convolutions, and deformable layers that double the resolution between
    them. The four sums are projected to ``aggregated`` channels, upsampled, added, convolved,
    given two coordinate channels and projected to ``channels``.

    Args:
        in_channels: of the backbone's maps at strides 4, 8, 16, 32.
        widths: of the top-down path at strides 32, 16, 8, 4.
        aggregated: width of the sum.
        channels: width of the output.
        norm_cfg: normalisation in mmcv's form.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        widths: Sequence[int],
        aggregated: int,
        channels: int,
        norm_cfg: Config,
    ) -> None:
        super().__init__()
        self.deconv = YosoTopDown(in_channels, widths, aggregated, norm_cfg)
        self.loc_conv = nn.Conv2d(aggregated + 2, channels, 1)
        for parameter in self.parameters():  # last, so the offsets do not start at zero
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Maps at strides 4 to 32 to (B, channels, H/4, W/4)."""
        summed = self.deconv(features)
        batch, _, height, width = summed.shape
        y = torch.linspace(-1, 1, height, device=summed.device, dtype=summed.dtype)
        x = torch.linspace(-1, 1, width, device=summed.device, dtype=summed.dtype)
        place = torch.stack([x.expand(height, width), y[:, None].expand(height, width)])
        return self.loc_conv(torch.cat([summed, place.expand(batch, -1, -1, -1)], dim=1))


class YosoTopDown(nn.Module):
    """The deformable top-down path and the sum of its levels; see :class:`YosoNeck`."""

    def __init__(
        self, in_channels: Sequence[int], widths: Sequence[int], aggregated: int, norm_cfg: Config
    ) -> None:
        super().__init__()
        for level, (narrow, wide) in enumerate(zip(in_channels[::-1], widths, strict=True)):
            self.add_module(f"lateral_conv{level}", nn.Conv2d(narrow, wide, 1))
            side = nn.Conv2d(wide, aggregated, 1, bias=False)
            self.add_module(f"conv_a{5 - level}", side)
            if level:
                step = DeformableUpsample(widths[level - 1], wide, norm_cfg, plain_start=False)
                self.add_module(f"deform_conv{level}", step)
        self.bias = nn.Parameter(torch.zeros(1, aggregated, 1, 1))
        self.output_conv = nn.Conv2d(aggregated, aggregated, 3, padding=1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Maps at strides 4 to 32 to (B, aggregated, H/4, W/4)."""
        top_down, x = [], None
        for level, feature in enumerate(reversed(features)):
            lateral = getattr(self, f"lateral_conv{level}")(feature)
            if x is not None:
                lateral = lateral + getattr(self, f"deform_conv{level}")(x)[1]
            x = lateral
            top_down.append(x)
        total = self.bias
        for level, level_map in enumerate(top_down):
            side = getattr(self, f"conv_a{5 - level}")(level_map)
            if level < 3:
                factor = 2 ** (3 - level)
                side = F.interpolate(
                    side, scale_factor=factor, mode="bilinear", align_corners=False
                )
            total = total + side
        return self.output_conv(total)


class DynamicSeparableAttention(nn.Module):
    """Attention whose weights are kernels read off the queries: depthwise, then across queries.

    From W k: ``taps`` columns are a 1-D kernel along the channels for each query, Q columns mix the
    queries. out = LN(mix · ReLU(kernel * values)).
    """

    def __init__(self, channels: int, queries: int, taps: int = 3) -> None:
        super().__init__()
        self.taps = taps
        self.weight_linear = nn.Linear(channels, queries + taps)
        self.norm = nn.LayerNorm(channels)

    def forward(self, query: Tensor, values: Tensor) -> Tensor:
        """Queries (B, Q, C) and values (B, Q, C) to (B, Q, C)."""
        weights = self.weight_linear(query)
        kernel, mix = weights.split([self.taps, weights.shape[-1] - self.taps], dim=-1)
        side = self.taps // 2
        windows = F.pad(values, (side, side)).unfold(2, self.taps, 1)  # (B, Q, C, taps)
        depthwise = F.relu((windows * kernel[:, :, None]).sum(-1))
        return self.norm(mix @ depthwise)


class YosoFeedForward(nn.Module):
    """x + Linear(ReLU(Linear(x)))."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        first = nn.Sequential(nn.Linear(channels, hidden))
        self.layers = nn.ModuleList([first, nn.Linear(hidden, channels)])

    def forward(self, x: Tensor) -> Tensor:
        """(B, Q, C) to (B, Q, C)."""
        return x + self.layers[1](F.relu(self.layers[0](x)))


class YosoStage(nn.Module):
    """One refinement: pool features under the masks, mix them into the kernels, predict anew."""

    def __init__(
        self, channels: int, queries: int, hidden: int, num_heads: int, num_classes: int
    ) -> None:
        super().__init__()
        self.f_atten = DynamicSeparableAttention(channels, queries)
        self.f_atten_norm = nn.LayerNorm(channels)
        self.k_atten = DynamicSeparableAttention(channels, queries)
        self.k_atten_norm = nn.LayerNorm(channels)
        self.s_atten = nn.MultiheadAttention(channels, num_heads, batch_first=True)
        self.s_atten_norm = nn.LayerNorm(channels)
        self.ffn = YosoFeedForward(channels, hidden)
        self.ffn_norm = nn.LayerNorm(channels)
        self.cls_fcs = _linear_norm(channels)
        self.fc_cls = nn.Linear(channels, num_classes + 1)
        self.mask_fcs = _linear_norm(channels)
        self.fc_mask = nn.Linear(channels, channels)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.constant_(self.fc_cls.bias, -math.log(99))

    def forward(
        self, features: Tensor, kernels: Tensor, masks: Tensor, *, with_classes: bool
    ) -> tuple[Tensor | None, Tensor, Tensor]:
        """Refine.

        Args:
            features: (B, C, h, w).
            kernels: (B, Q, C).
            masks: (B, Q, h, w) logits of the stage before.
            with_classes: whether classes are wanted.

        Returns:
            Class logits (B, Q, K + 1) or None, mask logits (B, Q, h, w), kernels (B, Q, C).
        """
        hard = (masks.sigmoid() > 0.5).to(features.dtype)
        pooled = torch.einsum("bqhw,bchw->bqc", hard, features)
        pooled = self.f_atten_norm(pooled + self.f_atten(kernels, pooled))
        # the pooled features, not the kernels, are the residual
        kernels = self.k_atten_norm(pooled + self.k_atten(kernels, pooled))
        attended = self.s_atten(kernels, kernels, kernels, need_weights=False)[0]
        kernels = self.s_atten_norm(kernels + attended)
        kernels = self.ffn_norm(self.ffn(kernels))
        classes = self.fc_cls(self.cls_fcs(kernels)) if with_classes else None
        embedding = self.fc_mask(self.mask_fcs(kernels))
        return classes, torch.einsum("bqc,bchw->bqhw", embedding, features), kernels


def _linear_norm(channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(channels, channels, bias=False), nn.LayerNorm(channels), nn.ReLU()
    )


class YosoDecoder(nn.Module):
    """Proposal kernels and their refinement.

    Args:
        channels: C of the features.
        num_classes: K.
        queries: Q.
        stages: refinements after the proposals.
        hidden: width of the feed-forward layers.
        num_heads: of the self-attention.
        temperature: the class logits are divided by it (0.5 in the ADE20K config).
    """

    def __init__(
        self,
        channels: int,
        num_classes: int,
        queries: int = 100,
        stages: int = 2,
        hidden: int = 2048,
        num_heads: int = 8,
        temperature: float = 0.5,
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.kernels = nn.Conv2d(channels, queries, 1)
        self.mask_heads = nn.ModuleList(
            YosoStage(channels, queries, hidden, num_heads, num_classes) for _ in range(stages)
        )

    def forward(self, features: Tensor) -> list[MaskPrediction]:
        """Features (B, C, h, w) to the proposals and every stage; in eval classes only last."""
        masks = self.kernels(features)
        kernels = self.kernels.weight.flatten(1).expand(features.shape[0], -1, -1)
        predictions = [MaskPrediction(masks, None)]
        for number, stage in enumerate(self.mask_heads, start=1):
            wanted = self.training or number == len(self.mask_heads)
            classes, masks, kernels = stage(features, kernels, masks, with_classes=wanted)
            if classes is not None:
                classes = classes / self.temperature
            predictions.append(MaskPrediction(masks, classes))
        return predictions
