"""Pixel classifiers behind one interface; importing this room imports none of them, nor torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ssa.classifiers.base import (
        CLASSIFIERS,
        Inspection,
        PixelClassifier,
    )
    from ssa.classifiers.build import build_classifier
    from ssa.classifiers.cac import CacClassifier
    from ssa.classifiers.catalogue import config_class
    from ssa.classifiers.config import ClassifierConfig
    from ssa.classifiers.dnc import DncClassifier
    from ssa.classifiers.gmmseg import GmmSegClassifier
    from ssa.classifiers.protoseg import ProtoSegClassifier
    from ssa.classifiers.softmax import SoftmaxClassifier
    from ssa.classifiers.softmax_config import SoftmaxConfig
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
    "config_class",
]

#: name → module of this package that it is taken from when first asked for
_PLACES = {
    "CLASSIFIERS": "catalogue",
    "CacClassifier": "cac",
    "ClassifierConfig": "config",
    "DncClassifier": "dnc",
    "GmmSegClassifier": "gmmseg",
    "Inspection": "base",
    "PixelClassifier": "base",
    "ProtoSegClassifier": "protoseg",
    "SSAClassifier": "ssa",
    "SSAConfig": "ssa_config",
    "SoftmaxClassifier": "softmax",
    "SoftmaxConfig": "softmax_config",
    "build_classifier": "build",
    "config_class": "catalogue",
}


def __getattr__(name: str) -> object:
    """A public name on its first use: torch takes a second or two to import."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
