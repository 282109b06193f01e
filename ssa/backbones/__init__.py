"""Backbones that mmsegmentation lacks; importing this registers them there."""

from ssa.backbones.afformer import AFFormer
from ssa.backbones.efficientformer_v2 import EfficientFormerV2
from ssa.backbones.efficientnet_lite import EfficientNetLite
from ssa.backbones.frozen import FrozenEfficientNetLite
from ssa.backbones.layer_decay import LayerDecay
from ssa.backbones.seaformer import SeaFormer
from ssa.backbones.vit_adapter import ViTAdapter

__all__ = [
    "AFFormer",
    "EfficientFormerV2",
    "EfficientNetLite",
    "FrozenEfficientNetLite",
    "LayerDecay",
    "SeaFormer",
    "ViTAdapter",
]
