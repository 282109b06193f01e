"""A network as it is declared: mmsegmentation's config and its smaller sizes."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from experiments.declare.base import Declared


class ModelCard(Declared):
    """A network: mmsegmentation's config at the paper's size and the same, smaller."""

    name: str
    title: str  # as the paper writes it
    backbone: str
    source: str
    segmentor: dict[str, Any]
    adapted: dict[str, Any] = Field(default_factory=dict)  # merged where it is not softmax
    sizes: dict[str, dict[str, Any]] = Field(default_factory=dict)  # merged for that size
    weights: str | None = None  # entry of ssa/weights.yaml
    pixel_classifier: bool = True  # False: a mask classifier, which takes none
