"""Cross-entropy of logits against labels of a higher resolution."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from ssa.losses.inputs import LossInputError, check_average, check_range, checked_labels
from ssa.losses.precision import at_least_float32
from ssa.losses.segmentation import segmentation_losses


def upsampled_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    ignore_index: int,
    *,
    align_corners: bool,
    average: Literal["all", "valid"],
    class_weights: Tensor | None = None,
) -> Tensor:
    """Cross-entropy of bilinearly upsampled logits; 0 where no pixel is labelled.

    Args:
        logits: (B, K, h, w).
        labels: (B, H, W) or (B, 1, H, W).
        ignore_index: label that takes no part.
        align_corners: how the logits are upsampled to (H, W).
        average: divide by the number of ``all`` pixels, ignored ones included, or by the weight of
            the ``valid`` ones.
        class_weights: (K,) weight of each class, None for 1.

    Raises:
        LossInputError: logits and labels do not belong together, there is not one weight a
            class, or ``average`` is neither of the two.
        LabelRangeError: a label is neither a class nor the ignore value.
    """
    if class_weights is None:
        return segmentation_losses(
            logits, labels, ignore_index=ignore_index, align_corners=align_corners, average=average
        )[0]
    check_average(average)
    num_classes = logits.shape[1] if logits.dim() > 1 else 0
    ids = checked_labels(logits, labels, channels=None, ignore_index=ignore_index, name="logits")
    check_range(ids, num_classes, ignore_index)
    if class_weights.shape != (num_classes,):
        raise LossInputError(
            f"There are {class_weights.numel()} class weights for {num_classes} classes; give one "
            "a class."
        )
    labels = ids.long()
    size = (labels.shape[1], labels.shape[2])
    logits = at_least_float32(logits)
    class_weights = class_weights.to(logits)
    logits = F.interpolate(logits, size=size, mode="bilinear", align_corners=align_corners)
    total = F.cross_entropy(
        logits, labels, class_weights, ignore_index=ignore_index, reduction="sum"
    )
    if average == "all":
        return total / labels.numel()
    valid = labels != ignore_index
    weights = class_weights[labels.where(valid, labels.new_zeros(()))] * valid
    return total / weights.sum().clamp(min=1e-12)
