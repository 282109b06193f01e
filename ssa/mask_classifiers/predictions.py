"""What every mask classifier predicts, and how masks become a semantic map."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class MaskPrediction:
    """One stage's set of Q masks with their classes.

    Shapes: B images, Q queries, K classes, (h, w) a quarter of the image.
    """

    #: (B, Q, h, w) mask logits
    masks: Tensor
    #: (B, Q, K + 1) class logits, "no object" last; None where a stage predicts masks only
    classes: Tensor | None


def semantic_scores(prediction: MaskPrediction, size: tuple[int, int] | None = None) -> Tensor:
    """Score of every class at every position: Σ_q softmax(classes)[q, k] · sigmoid(masks)[q].

    "No object" is left out after the softmax (Cheng et al., MaskFormer, section 3.4, semantic
    inference).

    Args:
        prediction: a stage with classes.
        size: (H, W) to which the mask logits are upsampled first; None keeps (h, w).

    Returns:
        (B, K, H, W), at least 0; no logits, but arg-max and resizing treat them alike.
    """
    if prediction.classes is None:
        raise ValueError("This stage predicts no classes; take the last one.")
    masks = prediction.masks
    if size is not None:
        masks = F.interpolate(masks, size=size, mode="bilinear", align_corners=False)
    share = prediction.classes.softmax(-1)[..., :-1]
    return torch.einsum("bqk,bqhw->bkhw", share, masks.sigmoid())
