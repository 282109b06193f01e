"""The switches of CAC; importing them needs no torch."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from ssa.classifiers.catalogue import CONFIGS
from ssa.classifiers.config import ClassifierConfig


@CONFIGS.register("cac")
class CacConfig(ClassifierConfig):
    """Switches of CAC; the defaults are what its authors' code computes."""

    presets: ClassVar[dict[str, dict[str, Any]]] = {"released": {}}
    default_preset: ClassVar[str] = "released"

    #: τ, the scale of the cosine
    scale: float = Field(15.0, gt=0)
    #: hidden width of both projectors as a fraction of D
    hidden_ratio: float = Field(0.5, gt=0)
    #: share of the one-hot label in the soft target of the distillation; the rest is the teacher's
    label_share: float = Field(0.5, ge=0, le=1)
    #: weight of the cross-entropy of the final logits
    main_weight: float = Field(1.0, ge=0)
    #: weight of the cross-entropy of the coarse logits
    coarse_weight: float = Field(1.0, ge=0)
    #: weight of the cross-entropy of the teacher's logits
    teacher_weight: float = Field(1.0, ge=0)
    #: weight of the entropy-weighted distillation
    distill_weight: float = Field(1.0, ge=0)
