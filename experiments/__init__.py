"""The registry of experiments and its runs; results as pandas tables; gains of areas."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from experiments.ask.frames import load_curves, load_runs, load_table
    from experiments.judge.statistics import Gain, gain
    from experiments.store.areas import ImageAreas

__all__ = ["Gain", "ImageAreas", "gain", "load_curves", "load_runs", "load_table"]

#: name → module, imported when first asked for
_MODULES = {
    "Gain": "experiments.judge.statistics",
    "ImageAreas": "experiments.store.areas",
    "gain": "experiments.judge.statistics",
    "load_curves": "experiments.ask.frames",
    "load_runs": "experiments.ask.frames",
    "load_table": "experiments.ask.frames",
}


def __getattr__(name: str) -> Any:
    """Hand on what is listed above."""
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'experiments' has no attribute '{name}'")
