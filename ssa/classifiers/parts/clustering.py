"""Online clustering of pixels inside their own classes, for classifiers with several prototypes.

Pixels are rows, in (image, row, column) order. ``classes`` holds the class of every row, with
``num_classes`` (K) for rows that take no part, so that every function is one batched operation
over segments: no loop over classes, no boolean indexing, nothing that the host waits for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Autocast switched off, on devices that know it (the meta device does not)."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def pixel_embeddings(features: Tensor, norm: nn.LayerNorm) -> Tensor:
    """Rows e = u(LayerNorm_D(x)) of features (B, D, h, w): (B·h·w, D), unit length, float32.

    Always float32, inside autocast too: densities and transport plans need it.
    """
    return row_embeddings(features.permute(0, 2, 3, 1).flatten(0, 2), norm)


def row_embeddings(rows: Tensor, norm: nn.LayerNorm) -> Tensor:
    """What :func:`pixel_embeddings` makes of rows (n, D)."""
    with full_precision(rows.device):
        rows = rows.float()
        weight, bias = norm.weight.float(), norm.bias.float()
        return F.normalize(F.layer_norm(rows, norm.normalized_shape, weight, bias, norm.eps))


#: rows of one chunk of :func:`scores_by_chunks`: their products with 1500 prototypes fill 1.5 MB
_CHUNK_ROWS = 256


def inference_by_chunks(features: Tensor) -> bool:
    """Whether rows are worth deciding chunk by chunk: on a CPU, outside of gradients and traces."""
    return (
        features.device.type == "cpu"
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
    )


def scores_by_chunks(
    scores: Callable[[Tensor], Tensor], features: Tensor, num_classes: int
) -> Tensor:
    """A decision (B, K, h, w) of features (B, C, h, w) that looks at every pixel alone.

    The products with all components of all classes would be a map of K·P channels; a chunk of
    rows goes through all steps while it is in the cache, and only class scores are kept.

    Args:
        scores: rows (n, C) to class scores (n, K), float32.
        features: (B, C, h, w).
        num_classes: K.
    """
    maps = features.flatten(2)
    rows = features.new_empty(len(maps) * maps.shape[2], num_classes, dtype=torch.float32)
    for image, decided in zip(maps, rows.split(maps.shape[2])):
        for start in range(0, maps.shape[2], _CHUNK_ROWS):
            chunk = slice(start, start + _CHUNK_ROWS)
            decided[chunk] = scores(image[:, chunk].t())
    return as_map(rows, features)


def best_of_components(scores: Tensor, components: int) -> Tensor:
    """max over p of scores (n, P·K), components first (that order is the fast one): (n, K)."""
    return scores.unflatten(1, (components, -1)).amax(1)


def nearest_by_chunks(
    features: Tensor, prototypes: Tensor, feat_norm: nn.LayerNorm, mask_norm: nn.LayerNorm
) -> Tensor:
    """Decision (B, K, h, w) by each class's prototype of the largest cosine, chunk by chunk.

    Args:
        features: (B, D, h, w).
        prototypes: (K, P, D), of any length.
        feat_norm: of the embeddings.
        mask_norm: of the class scores.
    """
    unit = F.normalize(prototypes.float(), dim=-1).transpose(0, 1)
    components = unit.flatten(0, 1).t()

    def scores(rows: Tensor) -> Tensor:
        with full_precision(rows.device):
            cosines = row_embeddings(rows, feat_norm) @ components
        return class_layer_norm(best_of_components(cosines, len(unit)), mask_norm)

    return scores_by_chunks(scores, features, len(prototypes))


class PrototypeProduct(nn.Module):
    """Rows (n, D) times prototypes (C, D) transposed: (n, C).

    A module, so that what decides is counted where the paper's Table 2 counted it.
    """

    def forward(self, rows: Tensor, prototypes: Tensor) -> Tensor:
        """Inner products of every row with every prototype."""
        return rows @ prototypes.T


def class_layer_norm(scores: Tensor, norm: nn.LayerNorm) -> Tensor:
    """LayerNorm over the classes of scores (n, K), in float32 whatever the module's type."""
    weight, bias = norm.weight.float(), norm.bias.float()
    return F.layer_norm(scores.float(), norm.normalized_shape, weight, bias, norm.eps)


def as_map(rows: Tensor, features: Tensor) -> Tensor:
    """Rows (B·h·w, C) back to a map (B, C, h, w) of the size of ``features``."""
    batch, _, height, width = features.shape
    return rows.view(batch, height, width, rows.shape[1]).permute(0, 3, 1, 2)


def pixel_classes(
    labels: Tensor, size: tuple[int, int], num_classes: int, ignore_index: int
) -> Tensor:
    """Classes (B·h·w,) of labels (B, H, W) or (B, 1, H, W) resized by nearest to ``size``.

    Ignored pixels, and ids that are no class, become ``num_classes``.
    """
    maps = labels.reshape(labels.shape[0], 1, *labels.shape[-2:])
    rows = F.interpolate(maps.float(), size=size, mode="nearest").long().flatten()
    valid = (rows != ignore_index) & (rows >= 0) & (rows < num_classes)
    return torch.where(valid, rows, num_classes)


def class_counts(classes: Tensor, num_classes: int) -> Tensor:
    """Number of rows of every class and, last, of rows that take no part: (K + 1,), long."""
    counts = classes.new_zeros(num_classes + 1)
    return counts.index_add_(0, classes, torch.ones_like(classes))


def own_class_scores(scores: Tensor, classes: Tensor) -> Tensor:
    """Scores (n, P) of every row for the components of its own class, from scores (n, K, P).

    Rows that take no part get those of class 0, which nothing reads.
    """
    index = classes.where(classes < scores.shape[1], torch.zeros_like(classes))
    return scores.gather(1, index[:, None, None].expand(-1, 1, scores.shape[2])).squeeze(1)


@torch.no_grad()
def class_sinkhorn(
    scores: Tensor, classes: Tensor, num_classes: int, *, iterations: int = 3, epsilon: float = 0.05
) -> Tensor:
    """Balanced soft assignment of every pixel to the components of its class.

    For every class k, Sinkhorn–Knopp on exp(S/ε) of its n_k pixels: ``iterations`` times each
    component is scaled to mass 1/P and then each pixel to mass 1/n_k; the result times n_k.

    Args:
        scores: (n, P) similarity of each row to the components of its own class.
        classes: (n,) with K for rows that take no part.
        num_classes: K.
        iterations: number of column and row scalings.
        epsilon: ε, the entropic regularisation.

    Returns:
        The plan (n, P); each row sums to 1.
    """
    components = scores.shape[1]
    counts = class_counts(classes, num_classes).to(scores.dtype)
    plan = torch.exp(scores / epsilon)
    totals = plan.new_zeros(num_classes + 1).index_add_(0, classes, plan.sum(1))
    plan = plan / totals[classes, None]
    for _ in range(iterations):
        columns = plan.new_zeros(num_classes + 1, components).index_add_(0, classes, plan)
        plan = plan / columns[classes] / components
        plan = plan / plan.sum(1, keepdim=True) / counts[classes, None]
    return plan * counts[classes, None]


@torch.no_grad()
def class_softmin(
    scores: Tensor, classes: Tensor, num_classes: int, *, epsilon: float = 0.05
) -> Tensor:
    """The plan that DNC's released "AGD" iterations arrive at, in closed form and float64.

    X = exp(−S/g) / Σ over ALL entries of the class, g = ε / (3 ln n_k). Similarity acts as a cost
    and nothing is balanced. A class of one pixel, for which g is infinite (the release divides by
    zero there), gets the uniform plan. Computed in the log domain, so nothing overflows.

    Args:
        scores: (n, P); see :func:`class_sinkhorn`.
        classes: (n,) with K for rows that take no part.
        num_classes: K.
        epsilon: ε.

    Returns:
        The plan (n, P), float64; the entries of a class sum to 1.
    """
    counts = class_counts(classes, num_classes).double()
    rate = 3 * counts.clamp(min=1).log() / epsilon  # 1/g; 0 for a single pixel
    exponents = -scores.double() * rate[classes, None]
    peaks = exponents.new_full((num_classes + 1,), -math.inf)
    peaks = peaks.scatter_reduce(0, classes, exponents.amax(1), "amax")
    plan = torch.exp(exponents - peaks[classes, None])
    totals = plan.new_zeros(num_classes + 1).index_add_(0, classes, plan.sum(1))
    return plan / totals[classes, None]


def gumbel_noise(like: Tensor) -> Tensor:
    """Gumbel(0, 1) noise −log(Exp(1)) of the shape and type of ``like``, from the global generator.

    One draw for all pixels; the released codes draw class by class, which is the same in law.
    """
    return -torch.empty_like(like).exponential_().log()


@torch.no_grad()
def component_sums(embeddings: Tensor, slots: Tensor, num_slots: int) -> tuple[Tensor, Tensor]:
    """Sum and number of the embeddings in every slot.

    Args:
        embeddings: (n, D).
        slots: (n,) with ``num_slots`` for rows that take no part.
        num_slots: S.

    Returns:
        Sums (S, D) and counts (S,).
    """
    sums = embeddings.new_zeros(num_slots + 1, embeddings.shape[1])
    counts = embeddings.new_zeros(num_slots + 1)
    sums.index_add_(0, slots, embeddings.detach())
    counts.index_add_(0, slots, torch.ones_like(slots, dtype=embeddings.dtype))
    return sums[:-1], counts[:-1]


@torch.no_grad()
def moved_prototypes(prototypes: Tensor, sums: Tensor, counts: Tensor, momentum: float) -> Tensor:
    """Prototypes after p ← u(γ p + (1 − γ) u(Σ e)); those without a pixel only get unit length.

    Args:
        prototypes: (K, P, D).
        sums: (K·P, D), the sum of the embeddings assigned to each.
        counts: (K·P,).
        momentum: γ.
    """
    flat = prototypes.flatten(0, 1)
    moved = momentum * flat + (1 - momentum) * F.normalize(sums)
    return F.normalize(torch.where((counts > 0)[:, None], moved, flat)).view_as(prototypes)


def mean_where(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of ``values`` over ``mask``; 0, with a gradient of 0, where the mask is empty."""
    return (values * mask).sum() / mask.sum().clamp(min=1)
