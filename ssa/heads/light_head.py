"""SeaFormer's light decode head: the detail map gated by each context map in turn.

Source of the facts: Wan et al., ICLR 2023, and fudan-zvg/SeaFormer; written anew here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS
from torch import Tensor, nn

from ssa.backbones.layers import Config, conv_norm


class GatedFusion(nn.Module):
    """Detail times a hard sigmoid of the context, which is resized to the detail's size."""

    def __init__(
        self, detail_channels: int, context_channels: int, channels: int, norm_cfg: Config
    ) -> None:
        super().__init__()
        self.detail = conv_norm(detail_channels, channels, norm_cfg=norm_cfg)
        self.context = conv_norm(context_channels, channels, norm_cfg=norm_cfg)
        self.gate = nn.Hardsigmoid()

    def forward(self, detail: Tensor, context: Tensor) -> Tensor:
        """(B, C_d, H, W) and (B, C_c, h, w) to (B, C, H, W)."""
        gate = self.gate(self.context(context))
        size = detail.shape[2:]
        gate = F.interpolate(gate, size=size, mode="bilinear", align_corners=False)
        return self.detail(detail) * gate


@MODELS.register_module()
class LightHead(BaseDecodeHead):
    """SeaFormer's head: one gated fusion a context map, then a 1×1 (or per-channel) convolution.

    Args:
        embed_dims: channels after each fusion; the last equals ``channels``.
        is_dw: whether the closing convolution is depthwise.
        extra_convs: dense 1×1 convolutions after it (SSA-Seg's Table 10, "Baseline + Conv").
        settings: of mmsegmentation's ``BaseDecodeHead``; ``in_channels`` starts with the detail
            map's.
    """

    def __init__(
        self, embed_dims: Sequence[int], is_dw: bool = False, extra_convs: int = 0, **settings: Any
    ) -> None:
        super().__init__(input_transform="multiple_select", **settings)
        detail_channels = [self.in_channels[0], *embed_dims[:-1]]
        self.fusions = nn.ModuleList(
            GatedFusion(detail, context, width, self.norm_cfg)
            for detail, context, width in zip(
                detail_channels, self.in_channels[1:], embed_dims, strict=True
            )
        )
        self.fuse = conv_norm(
            self.channels,
            self.channels,
            groups=self.channels if is_dw else 1,
            norm_cfg=self.norm_cfg,
            activation=self.act_cfg,
        )
        self.extra = nn.Sequential(
            *(
                ConvModule(
                    self.channels, self.channels, 1, norm_cfg=self.norm_cfg, act_cfg=self.act_cfg
                )
                for _ in range(extra_convs)
            )
        )

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """The backbone's maps to logits (B, K, H/8, W/8)."""
        detail, *contexts = self._transform_inputs(inputs)
        for fusion, context in zip(self.fusions, contexts):
            detail = fusion(detail, context)
        return self.cls_seg(self.extra(self.fuse(detail)))
