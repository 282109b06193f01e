"""Masks and labels at sampled points, so that no full-size mask is ever made."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def sample_maps(maps: Tensor, points: Tensor) -> Tensor:
    """Maps at points, bilinearly, zero outside.

    Args:
        maps: (N, C, h, w).
        points: (N, P, 2) as (x, y) in [0, 1], pixel centres at (i + ½) / size.

    Returns:
        (N, C, P).
    """
    return F.grid_sample(maps, 2 * points[:, None] - 1, align_corners=False)[:, :, 0]


def sample_class_masks(labels: Tensor, images: Tensor, points: Tensor, classes: Tensor) -> Tensor:
    """The binary masks "label = class" at points, bilinearly between pixels, zero outside.

    Equal to sampling the one-hot maps, which would need K times the memory.

    Args:
        labels: (B, H, W), long; ids that are no class belong to no mask.
        images: (N,) which image each row of ``points`` is about.
        points: (N, P, 2) as (x, y) in [0, 1].
        classes: (N, T) the classes wanted of each row; -1 is a mask of zeros.

    Returns:
        (N, T, P).
    """
    height, width = labels.shape[1:]
    x, y = points[..., 0] * width - 0.5, points[..., 1] * height - 0.5
    left, top = x.floor(), y.floor()
    total = points.new_zeros(*classes.shape, points.shape[1])
    for right in (0, 1):
        for below in (0, 1):
            column, row = left + right, top + below
            weight = (1 - (x - column).abs()) * (1 - (y - row).abs())
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            at = row.clamp(0, height - 1).long() * width + column.clamp(0, width - 1).long()
            found = labels.flatten(1)[images[:, None], at]  # (N, P)
            hit = (found[:, None] == classes[..., None]) & inside[:, None]
            total = total + weight[:, None] * hit
    return total


@torch.no_grad()
def uncertain_points(
    masks: Tensor, count: int, *, oversampling: float = 3.0, important: float = 0.75
) -> Tensor:
    """Points of every mask where its prediction is least certain, and some anywhere.

    Of ``oversampling · count`` random points the ``important · count`` with the smallest |logit|
    are kept; the rest are new random points (Kirillov et al., PointRend).

    Args:
        masks: (N, h, w) mask logits.
        count: P.
        oversampling, important: see above.

    Returns:
        (N, P, 2) as (x, y) in [0, 1].
    """
    number = masks.shape[0]
    candidates = torch.rand(number, int(oversampling * count), 2, device=masks.device)
    certainty = sample_maps(masks[:, None].float(), candidates)[:, 0].abs()
    kept = certainty.topk(int(important * count), largest=False).indices
    best = candidates.gather(1, kept[..., None].expand(-1, -1, 2))
    anywhere = torch.rand(number, count - kept.shape[1], 2, device=masks.device)
    return torch.cat([best, anywhere], dim=1)
