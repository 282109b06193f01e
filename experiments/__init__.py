"""The registry of experiments and its runs; results as pandas tables."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from experiments.ask.frames import load_curves, load_runs, load_table

__all__ = ["load_curves", "load_runs", "load_table"]


def __getattr__(name: str) -> Any:
    """Hand on the functions of :mod:`experiments.ask.frames`, imported when first asked for."""
    if name in __all__:
        return getattr(importlib.import_module("experiments.ask.frames"), name)
    raise AttributeError(f"module 'experiments' has no attribute '{name}'")
