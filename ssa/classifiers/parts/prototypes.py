"""Class prototypes: where their centres come from, how they are adapted, how they decide.

Symbols: B images, K classes, D channels, N = h·w positions.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ssa.classifiers.parts.clustering import full_precision
from ssa.losses.precision import EPS, at_least_float32


class PrototypeAdapter(nn.Module):
    """φ: a centre and the fixed prototype of its class to the adapted prototype (Eq. 4 and 6).

    Two layers, 2D → D/2 (no bias) → ReLU → D, or one layer 2D → D with bias. The input is a
    concatenation, so the first layer is a sum of two products; the one with the fixed prototype is
    the same for every image and is computed once.

    Args:
        channels: D.
        layers: 1 or 2.
        fixed_first: order of the concatenation; it only says which columns belong to which input.
    """

    def __init__(self, channels: int, layers: int = 2, *, fixed_first: bool = False) -> None:
        super().__init__()
        self.channels = channels
        self.fixed_first = fixed_first
        self.hidden = nn.Linear(2 * channels, channels // 2, bias=False) if layers == 2 else None
        self.output = nn.Linear(channels // 2 if layers == 2 else 2 * channels, channels)

    def split(self) -> tuple[Tensor, Tensor]:
        """The first layer's columns for the centre and for the fixed prototype, each (·, D)."""
        first = self.output if self.hidden is None else self.hidden
        left, right = first.weight.split(self.channels, dim=1)
        return (right, left) if self.fixed_first else (left, right)

    def folded(self, fixed: Tensor) -> FoldedAdapter:
        """The same function of the centre alone, for fixed prototypes (K, D) that stay."""
        return FoldedAdapter(self, fixed)

    def forward(self, centre: Tensor, fixed: Tensor) -> Tensor:
        """Adapted prototypes (..., K, D) of centres (..., K, D) and fixed prototypes (K, D)."""
        for_centre, for_fixed = self.split()
        centre = centre.to(for_centre.dtype)
        if self.hidden is None:
            return F.linear(centre, for_centre) + F.linear(fixed, for_fixed, self.output.bias)
        return self.output(F.relu(F.linear(centre, for_centre) + F.linear(fixed, for_fixed)))


class FoldedAdapter(nn.Module):
    """φ with its constant half precomputed: the form that is deployed.

    Args:
        adapter: the φ to fold.
        fixed: (K, D), the constant half's input.
    """

    def __init__(self, adapter: PrototypeAdapter, fixed: Tensor) -> None:
        super().__init__()
        for_centre, for_fixed = (part.detach().clone() for part in adapter.split())
        self.two_layers = adapter.hidden is not None
        self.centre_weight = nn.Parameter(for_centre, requires_grad=False)
        bias = None if self.two_layers else adapter.output.bias
        offset = F.linear(fixed, for_fixed, bias).detach()
        self.offset = nn.Parameter(offset, requires_grad=False)
        self.output = adapter.output if self.two_layers else None

    def forward(self, centre: Tensor, fixed: Tensor | None = None) -> Tensor:
        """Adapted prototypes (..., K, D); ``fixed`` is ignored, it is folded in."""
        first = F.linear(centre.to(self.offset.dtype), self.centre_weight) + self.offset
        return first if self.output is None else self.output(F.relu(first))


def class_softmax_centre(coarse: Tensor, features: Tensor) -> Tensor:
    """Mean of the features under each class's probability: S_c, weighted and mass-normalised.

    Args:
        coarse: M_c (B, K, N).
        features: (B, D, N).

    Returns:
        (B, K, D), float32 (float64 for float64 features).
    """
    # Always float32: in half precision a class that is improbable everywhere has no mass left
    # (0/0), and sums over a large map overflow.
    with full_precision(features.device):
        weights = at_least_float32(coarse).softmax(dim=1)
        mass = weights.sum(dim=2, keepdim=True) + EPS
        return weights @ at_least_float32(features).transpose(1, 2) / mass


def position_softmax_centre(coarse: Tensor, features: Tensor) -> Tensor:
    """Mean of the features under each class's softmax over positions: P_c, (B, K, D)."""
    with full_precision(features.device):
        weights = at_least_float32(coarse).softmax(dim=2)
        return weights @ at_least_float32(features).transpose(1, 2)


def cosine_factor(features: Tensor, scale: float | None) -> Tensor | None:
    """τ / ‖f‖ of every position, (B, 1, N); None for the inner product.

    Dividing the logits by the norm instead of the features saves a pass over (B, D, N), and student
    and teacher share it.
    """
    if scale is None:
        return None
    # 1 / max(‖f‖, eps); a sum of squares is several times faster than a norm across channels.
    return (
        scale
        * at_least_float32(features).square().sum(dim=1, keepdim=True).clamp_min(EPS**2).rsqrt()
    )


def prototype_logits(features: Tensor, prototypes: Tensor, factor: Tensor | None) -> Tensor:
    """Decide by similarity: τ·cos(f, p), or the inner product.

    Args:
        features: (B, D, N).
        prototypes: (B, K, D) or (K, D).
        factor: what :func:`cosine_factor` gave for these features, or None.

    Returns:
        (B, K, N).
    """
    if factor is None:
        return prototypes @ features
    unit = F.normalize(at_least_float32(prototypes), dim=-1, eps=EPS)
    return (unit.to(features.dtype) @ features) * factor
