"""The kinds of figures by the name that a declared figure gives."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

import pandas as pd
from matplotlib.figure import Figure

from analysis.reading import Material
from experiments.declare.figure import Kind
from experiments.errors import SsaError


class NothingToDrawError(SsaError):
    """Runs that do not have what a kind of figure shows."""


@dataclass(frozen=True)
class Drawn:
    """A finished figure."""

    figure: Figure
    frame: pd.DataFrame  # the numbers behind it, one line a drawn thing
    note: str  # what its caption says


def draw(material: Material) -> Drawn:
    """Draw one figure: ``analysis.<kind>.draw`` under the papers' style."""
    from analysis.style import paper_style

    kind = material.drawing.figure.kind
    module = importlib.import_module(f"analysis.{kind}")
    make: Callable[[Material], Drawn] = module.draw
    with paper_style():
        return make(material)


KINDS: tuple[str, ...] = get_args(Kind)
