"""Which query answers for which class of an image: targets, costs, the Hungarian method."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor


@dataclass(frozen=True)
class ClassTargets:
    """The classes present in every image of a batch; each is one mask to be found."""

    #: (B, T) class ids, ascending, padded with -1
    classes: Tensor
    #: number of classes of each image, on the host
    counts: list[int]

    @property
    def masks(self) -> int:
        """The number of masks in the batch."""
        return sum(self.counts)


@dataclass(frozen=True)
class Matches:
    """The matched pairs of a batch, flat: pair i is query ``queries[i]`` of ``images[i]``."""

    images: Tensor  # (N,)
    queries: Tensor  # (N,)
    classes: Tensor  # (N,)


def class_targets(labels: Tensor, num_classes: int) -> ClassTargets:
    """Find the classes present in labels (B, H, W); every other id is no class.

    The matching runs on the host anyway, so this is where it waits for the device.
    """
    valid = (labels >= 0) & (labels < num_classes)
    bins = torch.where(valid, labels, num_classes).long().flatten(1)
    present = torch.zeros(len(labels), num_classes + 1, dtype=torch.bool, device=labels.device)
    present.scatter_(1, bins, torch.ones_like(bins, dtype=torch.bool))
    host = present[:, :-1].cpu()
    counts = host.sum(1).tolist()
    order = host.to(torch.uint8).sort(dim=1, descending=True, stable=True).indices
    classes = order[:, : max(1, *counts)]
    padding = torch.arange(classes.shape[1])[None] >= torch.tensor(counts)[:, None]
    return ClassTargets(classes.masked_fill(padding, -1).to(labels.device), counts)


def class_cost(logits: Tensor, classes: Tensor) -> Tensor:
    """−probability of the wanted class: logits (B, Q, K + 1), classes (B, T) to (B, Q, T)."""
    index = classes.clamp(min=0)[:, None].expand(-1, logits.shape[1], -1)
    return -logits.float().softmax(-1).gather(2, index)


def binary_cost(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean binary cross-entropy of every pair: (B, Q, P) and (B, T, P) to (B, Q, T)."""
    # −t log σ(x) − (1 − t) log(1 − σ(x)) = softplus(x) − t x
    constant = F.softplus(logits).mean(-1, keepdim=True)
    return constant - logits @ targets.transpose(1, 2) / logits.shape[-1]


def focal_cost(
    logits: Tensor, targets: Tensor, *, alpha: float = 0.25, gamma: float = 2.0
) -> Tensor:
    """Mean focal loss of every pair: (B, Q, P) and (B, T, P) to (B, Q, T)."""
    probability = logits.sigmoid()
    positive = alpha * (1 - probability) ** gamma * F.softplus(-logits)
    negative = (1 - alpha) * probability**gamma * F.softplus(logits)
    flipped = targets.transpose(1, 2)
    return (positive @ flipped + negative @ (1 - flipped)) / logits.shape[-1]


def dice_cost(logits: Tensor, targets: Tensor) -> Tensor:
    """1 − (2 Σ σ t + 1) / (Σ σ + Σ t + 1) of every pair: (B, Q, P), (B, T, P) to (B, Q, T)."""
    share = logits.sigmoid()
    overlap = share @ targets.transpose(1, 2)
    return 1 - (2 * overlap + 1) / (share.sum(-1)[..., None] + targets.sum(-1)[:, None] + 1)


def match(costs: Tensor, targets: ClassTargets) -> list[Matches]:
    """The cheapest one-to-one assignment of classes to queries, for every stage and image.

    Args:
        costs: (L, B, Q, T) of L stages; one transfer to the host for all of them.
        targets: what T stands for.

    Returns:
        The pairs of each stage.
    """
    host = costs.nan_to_num(1e6, 1e6, -1e6).cpu().numpy()
    device, wanted = costs.device, targets.classes.cpu()
    stages = []
    for stage in host:
        images, queries, classes = [], [], []
        for image, (cost, count) in enumerate(zip(stage, targets.counts, strict=True)):
            rows, columns = linear_sum_assignment(cost[:, :count])
            images += [image] * len(rows)
            queries += rows.tolist()
            classes += wanted[image, columns].tolist()
        pairs = torch.tensor([images, queries, classes], dtype=torch.long, device=device)
        stages.append(Matches(*pairs))
    return stages
