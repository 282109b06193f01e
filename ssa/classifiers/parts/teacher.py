"""The teacher: the same classifier, guided by a mask that is given (training only)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ssa.classifiers.parts.clustering import full_precision
from ssa.classifiers.parts.prototypes import PrototypeAdapter
from ssa.losses.precision import EPS, at_least_float32


class Guide(NamedTuple):
    """A mask at feature resolution that says which pixel belongs to which class."""

    #: (B, K, N); all zero where a pixel belongs to none
    one_hot: Tensor
    #: (B, K, 1) pixels of each class in each image
    counts: Tensor


def guide_from(labels: Tensor, num_classes: int, dtype: torch.dtype) -> Guide:
    """The guide of class ids (B, N); ids outside [0, K) belong to no class."""
    classes = torch.arange(num_classes, device=labels.device)
    one_hot = (labels[:, None] == classes[:, None]).to(dtype)
    return Guide(one_hot, one_hot.sum(dim=2, keepdim=True, dtype=torch.float32))


def _sums(guide: Guide, features: Tensor) -> Tensor:
    """Sums (B, K, D) of features (B or 1, D, N), at least in float32: in fp16 they overflow."""
    with full_precision(features.device):
        features = at_least_float32(features)
        return guide.one_hot.to(features.dtype) @ features.transpose(1, 2)


class Teacher(nn.Module):
    """φ̂_s, φ̂_p and Ŵ_o: prototypes from the means over a given mask.

    Features, position encoding, position basis and W are the student's and are not detached.

    Args:
        channels: D.
        semantic: whether φ̂_s exists.
        spatial: whether φ̂_p exists.
        layers: of each φ̂.
        output_projection: whether Ŵ_o exists.
    """

    def __init__(
        self, channels: int, *, semantic: bool, spatial: bool, layers: int, output_projection: bool
    ) -> None:
        super().__init__()
        self.semantic_adapter = PrototypeAdapter(channels, layers) if semantic else None
        self.spatial_adapter = PrototypeAdapter(channels, layers) if spatial else None
        self.output_projection = (
            nn.Linear(channels, channels, bias=False) if output_projection else None
        )

    def semantic_prototypes(self, guide: Guide, features: Tensor, fixed: Tensor) -> Tensor:
        """Ŝ_p (1, K, D): one mean a class over the whole batch on this device.

        A class that no image has falls back to its fixed prototype, detached.

        Args:
            guide: which pixel belongs to which class.
            features: S_f (B, D, N).
            fixed: W (K, D).
        """
        if self.semantic_adapter is None:
            return fixed[None]
        total = _sums(guide, features).sum(dim=0)
        count = guide.counts.sum(dim=0)
        centre = torch.where(count > 0, total / (count + EPS), fixed.detach())
        return self.semantic_adapter(centre.to(fixed.dtype), fixed)[None]

    def spatial_prototypes(self, guide: Guide, spatial: Tensor, basis: Tensor) -> Tensor:
        """P̂_p (B, K, D): one mean a class and image; absent, the position basis, detached.

        Args:
            guide: which pixel belongs to which class.
            spatial: P_f (B or 1, D, N).
            basis: P (K, D).
        """
        if self.spatial_adapter is None:
            return basis[None]
        total = _sums(guide, spatial)
        centre = torch.where(guide.counts > 0, total / (guide.counts + EPS), basis.detach())
        return self.spatial_adapter(centre.to(basis.dtype), basis)

    def project(self, prototypes: Tensor) -> Tensor:
        """Ŵ_o."""
        return prototypes if self.output_projection is None else self.output_projection(prototypes)
