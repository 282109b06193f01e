"""The switches of DNC; importing them needs no torch."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from ssa.classifiers.catalogue import CONFIGS
from ssa.classifiers.config import ClassifierConfig


@CONFIGS.register("dnc")
class DncConfig(ClassifierConfig):
    """Switches of DNC; the defaults are its paper's balanced clustering as a segmentation head."""

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {},
        "released": {"clustering": "bank", "centroids_per_class": 4},
    }
    default_preset: ClassVar[str] = "paper"

    #: P, sub-centroids of a class: 10 for segmentation (Table 2's cost of +2.8 G on FCN is nine
    #: more products of that size); 4 in the released image classifier
    centroids_per_class: int = Field(10, ge=1)
    #: γ, momentum of the sub-centroids
    momentum: float = Field(0.999, ge=0, le=1)
    #: "memory": every step, Sinkhorn over a per-class memory; "bank": the released clustering,
    #: once per full bank of batches
    clustering: Literal["memory", "bank"] = "memory"
    #: "memory": M, features remembered of every class
    memory_size: int = Field(500, ge=1)
    #: "memory": features of a class that one step may add
    samples_per_step: int = Field(20, ge=1)
    #: "memory": Sinkhorn iterations
    sinkhorn_iterations: int = Field(3, ge=1)
    #: ε of both clusterings; exp(2/ε) between the unlike must fit in float32
    epsilon: float = Field(0.05, ge=0.03)
    #: "bank": batches that fill the bank, the current one included
    bank_steps: int = Field(1000, ge=1)
    #: "bank": labelled pixels kept of a batch (the release has 256 images in a batch)
    bank_pixels: int = Field(256, ge=1)
    #: "bank": weight of the cross-entropy of all K·P cosines on a bank step; 0 as released
    contrast_weight: float = Field(0.0, ge=0)
    #: "bank": temperature of that term
    contrast_temperature: float = Field(0.1, gt=0)
    #: "bank": target index that the contrast takes for "ignored" although it is a sub-centroid
    lost_target: int | None = 255

    @model_validator(mode="after")
    def _memory_holds_a_step(self) -> Self:
        if self.samples_per_step > self.memory_size:
            raise ValueError(
                f"samples_per_step ({self.samples_per_step}) must not exceed memory_size "
                f"({self.memory_size}); lower it in the overrides."
            )
        return self
