"""A light decode head: maps of several strides, brought to one width and size and added."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmcv.cnn import ConvModule
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS
from torch import Tensor, nn

from ssa.backbones.layers import ResizeTo, conv_norm


@MODELS.register_module()
class FusingHead(BaseDecodeHead):
    """1×1 convolutions to one width, summed at the first map's size, then a separable 3×3.

    Args:
        extra_convs: dense 1×1 convolutions after it (SSA-Seg's Table 10, "Baseline + Conv").
        settings: of mmsegmentation's ``BaseDecodeHead``; ``in_channels`` starts with the finest
            map's.
    """

    def __init__(self, extra_convs: int = 0, **settings: Any) -> None:
        super().__init__(input_transform="multiple_select", **settings)
        self.laterals = nn.ModuleList(
            conv_norm(width, self.channels, norm_cfg=self.norm_cfg) for width in self.in_channels
        )
        self.resize = ResizeTo()
        self.activation = nn.ReLU()
        self.spatial = conv_norm(
            self.channels, self.channels, 3, groups=self.channels, norm_cfg=self.norm_cfg
        )
        self.fuse = conv_norm(
            self.channels, self.channels, norm_cfg=self.norm_cfg, activation=self.act_cfg
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
        """The backbone's maps, the finest first, to logits (B, K, H, W) of its size."""
        finest, *coarser = (
            lateral(each) for lateral, each in zip(self.laterals, self._transform_inputs(inputs))
        )
        size = (finest.shape[2], finest.shape[3])
        for each in coarser:
            finest = finest + self.resize(each, size)
        return self.cls_seg(self.extra(self.fuse(self.spatial(self.activation(finest)))))
