"""The three distillation losses between the teacher and the deployed classifier (Sec. 3.3).

Symbols: B images, K classes, D channels, N = h·w positions at feature resolution.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ssa.losses.precision import EPS, at_least_float32


def response_loss(
    logits: Tensor,
    teacher_logits: Tensor,
    one_hot: Tensor,
    boundary: Tensor | None,
    *,
    soft_label_mix: float = 0.5,
    entropy_weighting: bool = True,
    class_split: bool = True,
) -> Tensor:
    """L_rd: soft cross-entropy, weighted by the teacher's entropy, balanced (Eq. 7–9).

    Args:
        logits: O (B, K, N).
        teacher_logits: Ô (B, K, N); no gradient flows into it.
        one_hot: (B, K, N) of the resized labels, all zero on ignored pixels.
        boundary: (B, N) boolean; None makes one mean of the two over boundary and interior.
        soft_label_mix: share of the one-hot label in the target.
        entropy_weighting: weight pixels by the entropy H of the teacher's softmax (else 1).
        class_split: a mean per class and over the classes present (else all pixels together).

    Returns:
        Scalar; 0 if no pixel is valid.
    """
    one_hot = at_least_float32(one_hot)
    log_student = at_least_float32(logits).log_softmax(dim=1)
    log_teacher = at_least_float32(teacher_logits.detach()).log_softmax(dim=1)
    teacher = log_teacher.exp()
    target = torch.lerp(teacher, one_hot, soft_label_mix)
    pixel_loss = -(target * log_student).sum(dim=1)
    weight = one_hot.sum(dim=1)
    if entropy_weighting:
        weight = -weight * (teacher * log_teacher).sum(dim=1)
    split = [torch.ones_like(weight)] if boundary is None else [boundary, ~boundary]
    weights = torch.stack([weight * part for part in split], dim=1)
    sums = torch.stack([weights * pixel_loss[:, None], weights])
    if not class_split:
        weighted, mass = sums.sum(dim=(1, 3))
        return (weighted / (mass + EPS)).mean()
    weighted, mass = (sums @ one_hot.transpose(1, 2)).sum(dim=1)  # (parts, K)
    present = one_hot.sum(dim=(0, 2)) > 0
    per_class = (weighted / (mass + EPS)).mean(dim=0)
    return (per_class * present).sum() / present.sum().clamp_min(1)


def relation_matrix(prototypes: Tensor, against: Tensor, scale: float | None = 15.0) -> Tensor:
    """How classes relate: row softmax of τ·cos between all pairs of prototypes (Eq. 10).

    Args:
        prototypes: (B, K, D).
        against: (B, K, D), the second factor.
        scale: τ; None takes the raw Gram matrix.

    Returns:
        (B, K, K).
    """
    prototypes, against = at_least_float32(prototypes), at_least_float32(against)
    if scale is None:
        return (prototypes @ against.transpose(-1, -2)).softmax(dim=-1)
    left = F.normalize(prototypes, dim=-1, eps=EPS)
    right = F.normalize(against, dim=-1, eps=EPS)
    return (scale * left @ right.transpose(-1, -2)).softmax(dim=-1)


def semantic_loss(
    prototypes: Tensor, teacher_prototypes: Tensor, scale: float | None = 15.0
) -> Tensor:
    """L_sd: how much closer classes are than the teacher has them (Eq. 11–12).

    Args:
        prototypes: S_p (B, K, D).
        teacher_prototypes: Ŝ_p (B or 1, K, D); no gradient flows into it.
        scale: τ of the relation matrices.
    """
    teacher_prototypes = teacher_prototypes.detach()
    relation = relation_matrix(prototypes, prototypes.detach(), scale)
    goal = relation_matrix(teacher_prototypes, teacher_prototypes, scale)
    excess = (relation - goal).clamp_min(0)
    off_diagonal = excess.sum(dim=-1) - excess.diagonal(dim1=-2, dim2=-1)
    return off_diagonal.mean()


def spatial_loss(prototypes: Tensor, teacher_prototypes: Tensor) -> Tensor:
    """L_pd: cross-entropy over channels from teacher to student spatial prototypes (Eq. 13).

    Args:
        prototypes: P_p (B, K, D).
        teacher_prototypes: P̂_p (B, K, D); no gradient flows into it.
    """
    goal = at_least_float32(teacher_prototypes.detach()).softmax(dim=-1)
    return -(goal * at_least_float32(prototypes).log_softmax(dim=-1)).sum(dim=-1).mean()
