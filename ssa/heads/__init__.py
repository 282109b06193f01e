"""Decode heads: the one that composes, and those that mmsegmentation lacks."""

from ssa.heads.classifier_head import ClassifierHead

__all__ = ["ClassifierHead"]
