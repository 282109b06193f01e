"""Cross-entropy and dice of bilinearly upsampled logits."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor


class LossSums(NamedTuple):
    """Sums over pixels and masks, before any division."""

    #: Σ over valid pixels of −log softmax(x)_label
    cross_entropy: Tensor
    #: Σ over the classes present in each image of 1 − (2·inter + 1) / (Σp + Σg + 1)
    dice: Tensor
    #: number of valid pixels
    valid: Tensor
    #: number of (image, class) masks
    masks: Tensor


def plain_loss_sums(
    logits: Tensor, labels: Tensor, *, ignore_index: int, align_corners: bool, dice: bool
) -> LossSums:
    """The textbook formulation: upsample all, then take the losses (what the fused one equals)."""
    logits = F.interpolate(
        logits, size=labels.shape[-2:], mode="bilinear", align_corners=align_corners
    )
    labels = labels.long()
    valid = labels != ignore_index
    ce = F.cross_entropy(logits, labels, ignore_index=ignore_index, reduction="sum")
    one_hot = F.one_hot(labels.where(valid, 0), logits.shape[1]).permute(0, 3, 1, 2)
    one_hot = (one_hot * valid[:, None]).to(logits.dtype)
    area = one_hot.sum(dim=(2, 3))
    present = area > 0
    dice_sum = ce.new_zeros(())
    if dice:
        probability = logits.sigmoid()
        inter = (probability * one_hot).sum(dim=(2, 3))
        dices = 1 - (2 * inter + 1) / (probability.sum(dim=(2, 3)) + area + 1)
        dice_sum = (dices * present).sum()
    return LossSums(ce, dice_sum, valid.sum(), present.sum())


def segmentation_losses(
    logits: Tensor,
    labels: Tensor,
    *,
    ignore_index: int = 255,
    align_corners: bool = False,
    average: Literal["all", "valid"] = "all",
    dice: bool = False,
) -> tuple[Tensor, Tensor]:
    """Cross-entropy and dice."""
    labels = labels.reshape(labels.shape[0], *labels.shape[-2:])
    sums = plain_loss_sums(
        logits.float(), labels, ignore_index=ignore_index, align_corners=align_corners, dice=dice
    )
    pixels = labels.numel() if average == "all" else sums.valid.clamp_min(1)
    return sums.cross_entropy / pixels, sums.dice / _masks_per_device(sums.masks)


def _masks_per_device(masks: Tensor) -> Tensor:
    """The number of masks, averaged over devices as released, at least 1."""
    masks = masks.to(torch.float32)
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(masks)
        masks = masks / dist.get_world_size()
    return masks.clamp_min(1)
