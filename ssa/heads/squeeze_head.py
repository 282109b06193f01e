"""AFFormer's decode head: one 1×1 convolution, "head-free" as its paper says.

Source of the facts: Dong et al., AAAI 2023, and dongbo811/AFFormer; written anew here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmcv.cnn import ConvModule
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS
from torch import Tensor


@MODELS.register_module()
class SqueezeHead(BaseDecodeHead):
    """A 1×1 convolution of the last map, then the classifier (released as ``CLS``).

    The released head declares a second convolution, ``align``, that nothing calls. It is part of
    its checkpoints and of the paper's parameter count, so it is here too, frozen: nothing can give
    it a gradient.

    Args:
        align_channels: input channels of the unused convolution.
        settings: of mmsegmentation's ``BaseDecodeHead``; one input.
    """

    def __init__(self, align_channels: int, **settings: Any) -> None:
        super().__init__(input_transform="multiple_select", **settings)
        shared = {"norm_cfg": self.norm_cfg, "act_cfg": self.act_cfg}
        self.squeeze = ConvModule(sum(self.in_channels), self.channels, 1, **shared)
        self.align = ConvModule(align_channels, self.channels, 1, **shared)
        self.align.requires_grad_(False)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """The backbone's maps to logits (B, K, H/8, W/8)."""
        return self.cls_seg(self.squeeze(self._transform_inputs(inputs)[0]))
