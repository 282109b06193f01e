"""What a run's config names: our own components, registered with mmengine by being imported."""

from __future__ import annotations

import importlib

#: modules whose import registers what a config names
COMPONENTS = (
    "mmseg.models",
    "experiments.train.hooks",
    "experiments.train.loops",
    "experiments.train.metric",
    "experiments.train.optimizer",
    "experiments.train.pretrained",
    "ssa.backbones",
    "ssa.datasets.segmentation",
    "ssa.heads",
    "ssa.mask_classifiers",
)


def register_components() -> None:
    """Make every component that a config may name known to mmengine."""
    for name in COMPONENTS:
        importlib.import_module(name)
