"""Decode heads: the one that composes, and those that mmsegmentation lacks."""

from ssa.heads.classifier_head import ClassifierHead
from ssa.heads.light_head import LightHead

__all__ = ["ClassifierHead", "LightHead"]
