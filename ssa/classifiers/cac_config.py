"""The switches of CAC; importing them needs no torch."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from ssa.classifiers.catalogue import CONFIGS
from ssa.classifiers.config import ClassifierConfig


@CONFIGS.register("cac")
class CacConfig(ClassifierConfig):
    """Switches of CAC, named as those of SSAConfig; the defaults are what its authors' code does.

    A weight of 0 switches a loss term off, and its key disappears.
    """

    presets: ClassVar[dict[str, dict[str, Any]]] = {"released": {}}
    default_preset: ClassVar[str] = "released"

    #: τ of the cosine decision
    cosine_scale: float = Field(15.0, gt=0)
    #: share of the one-hot label in the soft target of ``response``; 0 is the teacher alone
    soft_label_mix: float = Field(0.5, ge=0, le=1)
    #: cross-entropy of the decision
    ce_weight: float = Field(1.0, gt=0)
    #: cross-entropy of the coarse logits
    coarse_ce_weight: float = Field(1.0, ge=0)
    #: cross-entropy of the teacher's logits
    teacher_ce_weight: float = Field(1.0, ge=0)
    #: entropy-weighted response distillation
    response_weight: float = Field(1.0, ge=0)
