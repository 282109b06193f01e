"""The switches of the baseline; importing them needs no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ssa.classifiers.catalogue import CONFIGS
from ssa.classifiers.config import ClassifierConfig


@CONFIGS.register("softmax")
class SoftmaxConfig(ClassifierConfig):
    """What the control rows add to the plain classifier; the defaults are the plain one.

    A weight of 0 switches a term off, and its key disappears.
    """

    #: cross-entropy of the upsampled logits
    ce_weight: float = Field(default=1.0, gt=0)
    #: dice of the upsampled logits, as SSA-Seg's
    dice_weight: float = Field(default=0.0, ge=0)
    #: a second 1×1 convolution on the same features with its own cross-entropy (mean over valid
    #: pixels), as SSA-Seg's coarse mask but deciding nothing
    coarse_ce_weight: float = Field(default=0.0, ge=0)
    #: τ of a cosine decision without bias; None is the inner product
    cosine_scale: float | None = Field(default=None, gt=0)
    #: divisor of ``ce``: every pixel as mmsegmentation has it by default, or the valid ones
    ce_average: Literal["all", "valid"] = "all"
