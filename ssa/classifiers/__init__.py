"""Pixel classifiers behind one interface."""

from ssa.classifiers.base import (
    CLASSIFIERS,
    ClassifierConfig,
    Inspection,
    PixelClassifier,
    build_classifier,
)
from ssa.classifiers.softmax import SoftmaxClassifier, SoftmaxConfig
from ssa.classifiers.ssa import SSAClassifier
from ssa.classifiers.ssa_config import SSAConfig

__all__ = [
    "CLASSIFIERS",
    "ClassifierConfig",
    "Inspection",
    "PixelClassifier",
    "SSAClassifier",
    "SSAConfig",
    "SoftmaxClassifier",
    "SoftmaxConfig",
    "build_classifier",
]
