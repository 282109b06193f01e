"""The switches of ProtoSeg; importing them needs no torch."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from ssa.classifiers.catalogue import CONFIGS
from ssa.classifiers.config import ClassifierConfig


@CONFIGS.register("protoseg")
class ProtoSegConfig(ClassifierConfig):
    """Switches of ProtoSeg; the defaults are what its authors' code computes."""

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "released": {},
        "paper": {
            "projection": "channel_norm",
            "assignment": "plan",
            "contrast_temperature": 0.1,
        },
    }
    default_preset: ClassVar[str] = "released"

    #: P, prototypes of a class
    prototypes_per_class: int = Field(10, ge=1)
    #: γ, momentum of the prototypes
    momentum: float = Field(0.999, ge=0, le=1)
    #: two 1×1 convolutions before the embedding and what follows them: L2 norm over the image
    #: width (as released), over the channels (as written), or no projection at all
    projection: Literal["width_norm", "channel_norm", "none"] = "width_norm"
    #: which prototype a pixel moves: argmax of plan + Gumbel noise (as released) or of the plan
    assignment: Literal["gumbel", "plan"] = "gumbel"
    #: only pixels that are classified correctly move prototypes
    only_correct: bool = True
    #: weight of the pixel–prototype contrast (PPC)
    contrast_weight: float = Field(0.01, ge=0)
    #: temperature of PPC; the paper has 0.1, the released code none
    contrast_temperature: float = Field(1.0, gt=0)
    #: weight of the pixel–prototype distance (PPD)
    distance_weight: float = Field(0.001, ge=0)
    #: Sinkhorn iterations
    sinkhorn_iterations: int = Field(3, ge=1)
    #: ε of Sinkhorn; exp(2/ε) between the unlike must fit in float32
    sinkhorn_epsilon: float = Field(0.05, ge=0.03)
    #: weights of the classes in the cross-entropy, None for 1
    class_weights: tuple[float, ...] | None = None
