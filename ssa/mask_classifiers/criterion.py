"""The training objective of mask classifiers: match, then classify and segment the matched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ssa.mask_classifiers.matching import (
    ClassTargets,
    Matches,
    binary_cost,
    class_cost,
    class_targets,
    dice_cost,
    focal_cost,
    match,
)
from ssa.mask_classifiers.points import sample_class_masks, sample_maps, uncertain_points
from ssa.mask_classifiers.predictions import MaskPrediction
from ssa.processes import mean_of_processes


@dataclass(frozen=True)
class MaskCriterion:
    """Losses of every stage's prediction against the classes present in each image.

    Each stage is matched on its own: cost = w_c · (−probability) + w_m · mask + w_d · dice. Then
    ``ce`` over all queries, unmatched ones being "no object" with weight ``no_object`` (weighted
    mean), ``mask`` and ``dice`` of the matched pairs, summed and divided by the mean number of
    targets per process (at least 1).

    ``mask="bce"`` (Mask2Former, YOSO, PEM) looks at ``points`` random points when matching and at
    uncertain points in the losses; ``mask="focal"`` (MaskFormer) at every pixel: targets resized by
    nearest to the prediction for matching, prediction upsampled to the targets for the losses.

    Sources: Cheng et al., MaskFormer (NeurIPS 2021) section 3 and Mask2Former (CVPR 2022) section
    3.4; weights for YOSO and PEM from golden/models/README.md.
    """

    num_classes: int
    class_weight: float = 2.0
    mask_weight: float = 5.0
    dice_weight: float = 5.0
    no_object: float = 0.1
    mask: Literal["bce", "focal"] = "bce"
    points: int = 12544
    ignore_index: int = 255

    def __call__(self, predictions: Sequence[MaskPrediction], labels: Tensor) -> dict[str, Tensor]:
        """Weighted terms ``ce_<stage>``, ``mask_<stage>``, ``dice_<stage>``.

        Args:
            predictions: one a stage.
            labels: (B, H, W) class ids.
        """
        labels = labels.long().masked_fill(labels == self.ignore_index, -2)  # -1 pads targets
        targets = class_targets(labels, self.num_classes)
        costs = torch.stack([self.costs(stage, labels, targets) for stage in predictions])
        number = torch.tensor(float(targets.masks), device=labels.device)
        number = mean_of_processes(number).clamp(min=1)
        terms = {}
        for i, (stage, pairs) in enumerate(zip(predictions, match(costs, targets), strict=True)):
            if stage.classes is not None:
                terms[f"ce_{i}"] = self.class_weight * self._classes(stage.classes, pairs)
            mask, dice = self._masks(stage.masks, labels, pairs)
            terms[f"mask_{i}"] = self.mask_weight * mask / number
            terms[f"dice_{i}"] = self.dice_weight * dice / number
        return terms

    @torch.no_grad()
    def costs(self, stage: MaskPrediction, labels: Tensor, targets: ClassTargets) -> Tensor:
        """Cost (B, Q, T) of giving each query each class present."""
        masks = stage.masks.float()
        if self.mask == "focal":
            logits = masks.flatten(2)
            low = F.interpolate(labels[:, None].float(), size=masks.shape[2:], mode="nearest")
            wanted = (low.flatten(1)[:, None] == targets.classes[..., None]).float()
            mask_cost = focal_cost(logits, wanted)
        else:
            points = torch.rand(len(labels), self.points, 2, device=labels.device)
            logits = sample_maps(masks, points)
            images = torch.arange(len(labels), device=labels.device)
            wanted = sample_class_masks(labels, images, points, targets.classes)
            mask_cost = binary_cost(logits, wanted)
        cost = self.mask_weight * mask_cost + self.dice_weight * dice_cost(logits, wanted)
        if stage.classes is not None:
            cost = cost + self.class_weight * class_cost(stage.classes, targets.classes)
        return cost

    def _classes(self, logits: Tensor, pairs: Matches) -> Tensor:
        wanted = logits.new_full(logits.shape[:2], self.num_classes, dtype=torch.long)
        wanted[pairs.images, pairs.queries] = pairs.classes
        weight = torch.ones(self.num_classes + 1, device=logits.device)
        weight[-1] = self.no_object
        return F.cross_entropy(logits.float().flatten(0, 1), wanted.flatten(), weight)

    def _masks(self, masks: Tensor, labels: Tensor, pairs: Matches) -> tuple[Tensor, Tensor]:
        if len(pairs.images) == 0:  # known on the host; keeps every parameter in the graph
            return 0 * masks.float().sum(), 0 * masks.float().sum()
        chosen = masks[pairs.images, pairs.queries].float()  # (N, h, w)
        if self.mask == "focal":
            size = (labels.shape[1], labels.shape[2])
            full = F.interpolate(chosen[:, None], size=size, mode="bilinear", align_corners=False)
            logits = full.flatten(1)
            wanted = (labels[pairs.images] == pairs.classes[:, None, None]).flatten(1).float()
            pixel = focal_loss(logits, wanted)
        else:
            points = uncertain_points(chosen, self.points)
            logits = sample_maps(chosen[:, None], points)[:, 0]
            wanted = sample_class_masks(labels, pairs.images, points, pairs.classes[:, None])[:, 0]
            pixel = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
        share = logits.sigmoid()
        overlap = 2 * (share * wanted).sum(1) + 1
        dice = 1 - overlap / (share.sum(1) + wanted.sum(1) + 1)
        return pixel.mean(1).sum(), dice.sum()


def focal_loss(
    logits: Tensor, targets: Tensor, *, alpha: float = 0.25, gamma: float = 2.0
) -> Tensor:
    """Focal loss of every element (Lin et al., 2017)."""
    probability = logits.sigmoid()
    plain = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    missed = probability * (1 - targets) + (1 - probability) * targets
    return (alpha * targets + (1 - alpha) * (1 - targets)) * plain * missed**gamma
