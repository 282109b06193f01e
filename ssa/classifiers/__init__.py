"""Pixel classifiers behind one interface."""

from ssa.classifiers.base import CLASSIFIERS, ClassifierConfig, Inspection, PixelClassifier
from ssa.classifiers.build import build_classifier
from ssa.classifiers.cac import CacClassifier
from ssa.classifiers.dnc import DncClassifier
from ssa.classifiers.gmmseg import GmmSegClassifier
from ssa.classifiers.protoseg import ProtoSegClassifier
from ssa.classifiers.softmax import SoftmaxClassifier, SoftmaxConfig
from ssa.classifiers.ssa import SSAClassifier
from ssa.classifiers.ssa_config import SSAConfig

__all__ = [
    "CLASSIFIERS",
    "CacClassifier",
    "ClassifierConfig",
    "DncClassifier",
    "GmmSegClassifier",
    "Inspection",
    "PixelClassifier",
    "ProtoSegClassifier",
    "SSAClassifier",
    "SSAConfig",
    "SoftmaxClassifier",
    "SoftmaxConfig",
    "build_classifier",
]
