"""The switches of GMMSeg; importing them needs no torch."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from ssa.classifiers.catalogue import CONFIGS
from ssa.classifiers.config import ClassifierConfig


@CONFIGS.register("gmmseg")
class GmmSegConfig(ClassifierConfig):
    """Switches of GMMSeg; the defaults are what its authors' code computes."""

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "released": {},
        "paper": {
            "density": "mixture",
            "random_memory": False,
            "lost_target": None,
        },
    }
    default_preset: ClassVar[str] = "released"

    #: P, components of a class (5; the released ADE20K config has 8)
    components: int = Field(5, ge=1)
    #: d, width that a 1×1 convolution · BN · ReLU reduces the features to; None keeps D
    embedding_channels: int | None = Field(64, ge=1)
    #: class score: the best component's log density (released) or that of the whole mixture
    density: Literal["best_component", "mixture"] = "best_component"
    #: M, embeddings remembered for every component
    memory_size: int = Field(32000, ge=1)
    #: embeddings that one step may add to a component's memory
    samples_per_step: int = Field(20, ge=1)
    #: the memory starts full of random unit vectors, which count (released), or empty
    random_memory: bool = True
    #: steps between two updates of means and standard deviations; the first step updates
    update_interval: int = Field(5, ge=1)
    #: momentum of the means
    mean_momentum: float = Field(0.999, ge=0, le=1)
    #: momentum of the standard deviations
    deviation_momentum: float = Field(0.0, ge=0, le=1)
    #: added to every variance; below 1e-6 a component of equal embeddings has a density of 0/0
    variance_floor: float = Field(0.01, ge=1e-6)
    #: weight of the component contrast
    contrast_weight: float = Field(0.01, ge=0)
    #: index k·P + p that the contrast takes for "ignored" although it is a component; None: none
    lost_target: int | None = 255
    #: Sinkhorn iterations of the E step
    sinkhorn_iterations: int = Field(3, ge=1)
    #: ε of Sinkhorn; exp(2/ε) between the unlike must fit in float32
    sinkhorn_epsilon: float = Field(0.05, ge=0.03)

    @model_validator(mode="after")
    def _memory_holds_a_step(self) -> Self:
        if self.samples_per_step > self.memory_size:
            raise ValueError(
                f"samples_per_step ({self.samples_per_step}) must not exceed memory_size "
                f"({self.memory_size}); lower it in the overrides."
            )
        return self
