"""Cross-entropy and dice of bilinearly upsampled logits."""

from __future__ import annotations

from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor

from ssa.losses.fused_losses import upsampled_loss_sums
from ssa.losses.inputs import check_average


def segmentation_losses(
    logits: Tensor,
    labels: Tensor,
    *,
    ignore_index: int = 255,
    align_corners: bool = False,
    average: Literal["all", "valid"] = "all",
    cross_entropy: bool = True,
    dice: bool = False,
    over_processes: bool = True,
) -> tuple[Tensor, Tensor]:
    """Cross-entropy and dice of logits upsampled to the labels' size (fused_losses.py).

    Both are float32 (float64 for float64 logits) whatever autocast says.

    Args:
        logits: (B, K, h, w).
        labels: (B, H, W) or (B, 1, H, W) class ids of any integer type.
        ignore_index: label value that takes no part; for dice such pixels are negatives.
        align_corners: of the upsampling.
        average: divisor of the cross-entropy: every pixel, ignored ones too, as mmsegmentation's
            default, or the valid ones.
        cross_entropy: whether the first term is wanted; if not, it is 0 without a gradient.
        dice: whether the second term is wanted, likewise.
        over_processes: average the number of masks over the processes of a distributed training.
            It waits for all of them, so it is done only where a gradient of dice is taken: one
            process alone may validate.

    Returns:
        The two terms: Σ CE / pixels, and the mean over the (image, class) masks present of
        ``1 − (2·inter + 1) / (Σp + Σg + 1)`` with p the sigmoid. The number of masks is averaged
        over devices. Without any valid pixel both are 0.

    Raises:
        LossInputError: logits and labels do not belong together
            (:func:`ssa.losses.inputs.checked_labels`), or ``average`` is neither of the two.
        LabelRangeError: a label is neither a class nor the ignore value.
        SecondDerivativeError: in a backward pass with ``create_graph=True``.
    """
    check_average(average)
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    ce_sum, dice_sum, valid, masks = upsampled_loss_sums(
        logits,
        labels,
        ignore_index=ignore_index,
        align_corners=align_corners,
        cross_entropy=cross_entropy,
        dice=dice,
    )
    pixels = labels.numel() if average == "all" else valid.clamp_min(1)
    if dice and over_processes and torch.is_grad_enabled() and logits.requires_grad:
        masks = _masks_per_device(masks)
    return ce_sum / pixels, dice_sum / masks.to(torch.float32).clamp_min(1)


def _masks_per_device(masks: Tensor) -> Tensor:
    """The number of masks, averaged over devices as released."""
    masks = masks.to(torch.float32)
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(masks)
        masks = masks / dist.get_world_size()
    return masks
