"""The switches of the SSA classifier: one frozen object, every ablation an override of it."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from ssa.classifiers.catalogue import CONFIGS
from ssa.classifiers.config import ClassifierConfig


@CONFIGS.register("ssa")
class SSAConfig(ClassifierConfig):
    """Every part of SSA-Seg that a table of the paper switches; the defaults are ``released``.

    Weights: 0 switches a loss term off, and its key disappears. A field that belongs to a part
    which is off is ignored (``edge_size`` without ``boundary_split``); a part that needs another
    part which is off is refused with a sentence (``spatial_weight`` without spatial prototypes).
    The letters A1 ... C23 are the items of the comparison of the paper's text with the released
    code (docs/method.md).
    """

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "released": {},
        "paper": {
            "coarse_ce_weight": 0.0,
            "semantic_weight": 1.0,
            "spatial_weight": 1.0,
            "soft_label_mix": 0.0,
            "edge_size": 4,
        },
        "full": {"edge_size": 4},
    }
    default_preset: ClassVar[str] = "full"

    # -- the primary classifier ---------------------------------------------------------------
    #: SEPA: semantic prototypes S_p = φ_s([S_c, W]) (else the fixed prototypes W)
    semantic_adaptation: bool = True
    #: SPPA: spatial features P_f and prototypes P_p (else semantics alone decide)
    spatial_adaptation: bool = True
    #: P_f: CPVT's depth-wise 3×3 convolution, a fixed sinusoid or a learned table (Table 7)
    position_encoding: Literal["conditional", "sinusoidal", "learnable"] = "conditional"
    #: cells of the learned table along each side; other sizes are interpolated bilinearly
    learnable_grid: int = Field(default=64, ge=1)
    #: the axis of the softmax behind the spatial centre P_c (Table 6)
    spatial_softmax: Literal["positions", "classes"] = "positions"
    #: spatial prototypes are the position basis itself: no P_c, no φ_p (Table 4)
    spatial_basis_only: bool = False
    #: layers of every φ: 2D→D/2→D as released (2) or 2D→D as the text says (1; A3)
    projection_layers: Literal[1, 2] = 2
    #: W_o, the bias-free D×D layer before the decision (A2)
    output_projection: bool = True
    #: τ of the cosine decision; None decides by the inner product (Eq. 2; A1)
    cosine_scale: float | None = Field(default=15.0, gt=0)
    #: whether the coarse mask M_c has a bias (A5)
    coarse_bias: bool = True

    # -- the teacher (training only) ----------------------------------------------------------
    #: the second classifier whose centres come from a mask that is given
    teacher: bool = True
    #: what guides it: the labels, or the primary classifier's own argmax (Table 12)
    teacher_guide: Literal["ground_truth", "prediction"] = "ground_truth"

    # -- loss weights; 0 is off ---------------------------------------------------------------
    #: cross-entropy of the decision O
    ce_weight: float = Field(default=1.0, ge=0)
    #: dice of the decision O
    dice_weight: float = Field(default=1.0, ge=0)
    #: cross-entropy of the coarse mask M_c (C13)
    coarse_ce_weight: float = Field(default=1.0, ge=0)
    #: cross-entropy of the teacher's decision Ô (L_g)
    teacher_ce_weight: float = Field(default=1.0, ge=0)
    #: dice of the teacher's decision Ô (L_g)
    teacher_dice_weight: float = Field(default=1.0, ge=0)
    #: L_rd, response distillation
    response_weight: float = Field(default=1.0, ge=0)
    #: L_sd, semantic (relation) distillation (C14)
    semantic_weight: float = Field(default=10.0, ge=0)
    #: L_pd, spatial distillation (C14)
    spatial_weight: float = Field(default=0.4, ge=0)
    #: λ_r of Table 13, a factor on ``response_weight``
    lambda_response: float = Field(default=1.0, gt=0)
    #: λ_s of Table 13, a factor on ``semantic_weight``
    lambda_semantic: float = Field(default=1.0, gt=0)
    #: λ_p of Table 13, a factor on ``spatial_weight``
    lambda_spatial: float = Field(default=1.0, gt=0)

    # -- how the terms are formed -------------------------------------------------------------
    #: share of the one-hot label in L_rd's soft label; 0 is the teacher alone (C15)
    soft_label_mix: float = Field(default=0.5, ge=0, le=1)
    #: H: weight L_rd's pixels by the teacher's entropy (Table 5, "−H" is False)
    entropy_weighting: bool = True
    #: B: separate means over boundary and interior pixels (Table 5, "−B" is False)
    boundary_split: bool = True
    #: E: separate means per class (Table 5, "−E" is False)
    class_split: bool = True
    #: side of the square that widens the boundary, in feature cells (Table 11; C18)
    edge_size: int = 3
    #: τ of L_sd's relation matrices; None takes the raw Gram matrix (Eq. 10; C19)
    relation_scale: float | None = Field(default=15.0, gt=0)
    #: divisor of ``ce``: every pixel as released, or the valid ones (C22)
    ce_average: Literal["all", "valid"] = "all"
    #: how logits are upsampled in training (C23)
    training_align_corners: bool = True

    @property
    def adapts(self) -> bool:
        """Whether any prototype is adapted; if not, the decision is a fixed classifier."""
        return self.semantic_adaptation or self.spatial_adaptation

    @property
    def has_spatial_centre(self) -> bool:
        """Whether P_c and φ_p exist."""
        return self.spatial_adaptation and not self.spatial_basis_only

    @property
    def has_coarse_mask(self) -> bool:
        """Whether something is read from M_c."""
        return self.semantic_adaptation or self.has_spatial_centre or self.coarse_ce_weight > 0

    @model_validator(mode="after")
    def _refuse_what_means_nothing(self) -> Self:
        if self.edge_size < 1:
            raise ValueError(
                f"edge_size is {self.edge_size}, but a boundary is at least 1 cell wide; "
                "to do without boundaries set boundary_split=False."
            )
        if self.teacher and not self.adapts:
            raise ValueError(
                "The teacher adapts prototypes, but semantic_adaptation and spatial_adaptation "
                "are both off; set teacher=False."
            )
        if self.teacher and self.teacher_ce_weight == 0 and self.teacher_dice_weight == 0:
            raise ValueError(
                "A teacher without teacher_ce_weight or teacher_dice_weight learns nothing; "
                "give one of them a weight or set teacher=False."
            )
        if not self.teacher:
            for name in ("response_weight", "semantic_weight", "spatial_weight"):
                if getattr(self, name) > 0:
                    raise ValueError(f"{name} distils from the teacher, which is off; set it to 0.")
        if self.semantic_weight > 0 and not self.semantic_adaptation:
            raise ValueError(
                "semantic_weight needs semantic prototypes, but semantic_adaptation is off; "
                "set it to 0."
            )
        if self.spatial_weight > 0 and not self.spatial_adaptation:
            raise ValueError(
                "spatial_weight needs spatial prototypes, but spatial_adaptation is off; "
                "set it to 0."
            )
        if self.spatial_basis_only and not self.spatial_adaptation:
            raise ValueError(
                "spatial_basis_only is a kind of spatial prototype, but spatial_adaptation is "
                "off; set it to False."
            )
        if self.spatial_weight > 0 and self.spatial_basis_only:
            raise ValueError(
                "With spatial_basis_only teacher and student share their spatial prototypes, "
                "so there is nothing to distil; set spatial_weight to 0."
            )
        if self.coarse_ce_weight > 0 and not self.adapts:
            raise ValueError(
                "Without adaptation there is no coarse mask beside the decision; set "
                "coarse_ce_weight to 0."
            )
        if self.ce_weight == 0 and self.dice_weight == 0:
            raise ValueError(
                "Nothing trains the decision; give ce_weight or dice_weight a value above 0."
            )
        return self
