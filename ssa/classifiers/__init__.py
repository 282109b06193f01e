"""Pixel classifiers behind one interface."""

from ssa.classifiers.base import (
    CLASSIFIERS,
    ClassifierConfig,
    Inspection,
    PixelClassifier,
    build_classifier,
)

__all__ = ["CLASSIFIERS", "ClassifierConfig", "Inspection", "PixelClassifier", "build_classifier"]
