"""A network as it is declared: mmsegmentation's config and its smaller sizes."""

from __future__ import annotations

from pydantic import Field

from experiments.declare.base import Declared, PlainName
from experiments.declare.network import NetworkConfig


class ModelCard(Declared):
    """A network: mmsegmentation's config at the paper's size and the same, smaller."""

    name: PlainName
    title: str  # as the paper writes it
    backbone: str
    source: str
    segmentor: NetworkConfig
    adapted: NetworkConfig = Field(default_factory=dict)  # merged where it is not softmax
    sizes: dict[str, NetworkConfig] = Field(default_factory=dict)  # merged for that size
    weights: str | None = None  # entry of ssa/weights.yaml
    pixel_classifier: bool = True  # False: a mask classifier, which takes none
