"""Mask classifiers: one mask and one class for every query, for Table 3."""

from ssa.mask_classifiers.criterion import MaskCriterion
from ssa.mask_classifiers.from_transformers import (
    TransformersMask2FormerHead,
    TransformersMaskFormerHead,
)
from ssa.mask_classifiers.head import MaskHead, PaddedResNet, PemHead, YosoHead
from ssa.mask_classifiers.predictions import MaskPrediction, semantic_scores

__all__ = [
    "MaskCriterion",
    "MaskHead",
    "MaskPrediction",
    "PaddedResNet",
    "PemHead",
    "TransformersMask2FormerHead",
    "TransformersMaskFormerHead",
    "YosoHead",
    "semantic_scores",
]
