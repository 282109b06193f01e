"""Decode heads: the one that composes, and those that mmsegmentation lacks."""

from ssa.heads.cgr_head import CGRHead
from ssa.heads.classifier_head import ClassifierHead
from ssa.heads.fusing_head import FusingHead
from ssa.heads.guided_head import GuidedClassifierHead
from ssa.heads.light_head import LightHead
from ssa.heads.squeeze_head import SqueezeHead

__all__ = [
    "CGRHead",
    "ClassifierHead",
    "FusingHead",
    "GuidedClassifierHead",
    "LightHead",
    "SqueezeHead",
]
