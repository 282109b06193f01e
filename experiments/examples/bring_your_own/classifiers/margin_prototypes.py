"""Several prototypes a class, compared by angle, with a margin in training.

Each class has a few prototypes, so that it may look different in different places. A position
belongs to the class whose prototypes it resembles most; in training, its own class has to win by a
margin. Two switches, so two rows of an ablation: one prototype a class, or no margin.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ssa.classifiers import CLASSIFIERS, ClassifierConfig, Inspection, PixelClassifier


class MarginPrototypesConfig(ClassifierConfig):
    """The switches; a table's row names those that it changes."""

    prototypes: int = Field(default=3, ge=1)  # P, of each class
    margin: float = Field(default=0.1, ge=0)  # m, in units of the cosine; 0 switches it off
    scale: float = Field(default=15.0, gt=0)  # τ, cosine to logit
    spread_weight: float = Field(default=0.1, ge=0)  # of the term that keeps prototypes apart


@CLASSIFIERS.register("margin_prototypes")
class MarginPrototypes(PixelClassifier):
    """z_k = τ · softmax-weighted mean over p of cos(x, w_kp); in training z_y is lowered by τ·m.

    The weights of the mean are softmax_p(τ·cos(x, w_kp)): nearly the best prototype, but every
    prototype gets a gradient.
    """

    Config: ClassVar[type[ClassifierConfig]] = MarginPrototypesConfig
    config: MarginPrototypesConfig

    def __init__(
        self,
        channels: int,
        num_classes: int,
        config: ClassifierConfig | None = None,
        **head_settings: Any,  # dropout_ratio, ignore_index, align_corners
    ) -> None:
        super().__init__(channels, num_classes, config, **head_settings)
        self.prototypes = nn.Parameter(torch.randn(num_classes, self.config.prototypes, channels))

    def forward(self, features: Tensor) -> Tensor:
        """Logits (B, K, h, w) of features (B, D, h, w)."""
        return self.config.scale * self._cosine(self.dropout(features))

    def _cosine(self, features: Tensor) -> Tensor:
        """(B, K, h, w), the weighted mean over each class's prototypes."""
        weights = F.normalize(self.prototypes, dim=-1).flatten(0, 1)[..., None, None]
        cosines = F.conv2d(F.normalize(features, dim=1), weights)
        cosines = cosines.unflatten(1, self.prototypes.shape[:2])  # (B, K, P, h, w)
        return (cosines * (self.config.scale * cosines).softmax(dim=2)).sum(dim=2)

    def _loss(self, features: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """``ce``, the mean over labelled pixels, and ``spread`` of a class's prototypes."""
        config = self.config
        cosine = F.interpolate(
            self._cosine(self.dropout(features)),
            labels.shape[1:],
            mode="bilinear",
            align_corners=self.align_corners,
        )
        labelled = labels != self.ignore_index
        target = labels.where(labelled, 0)
        if config.margin:
            own = F.one_hot(target, self.num_classes).movedim(-1, 1)
            cosine = cosine - config.margin * own
        each = F.cross_entropy(config.scale * cosine, target, reduction="none")
        terms = {"ce": (each * labelled).sum() / labelled.sum().clamp(min=1)}
        if config.prototypes > 1 and config.spread_weight:
            terms["spread"] = config.spread_weight * self._likeness()
        return terms

    def _likeness(self) -> Tensor:
        """Mean squared cosine between two prototypes of one class."""
        unit = F.normalize(self.prototypes, dim=-1)
        cosines = unit @ unit.transpose(1, 2)  # (K, P, P), ones on the diagonal
        count = self.config.prototypes
        return (cosines.square().sum() - len(unit) * count) / (len(unit) * count * (count - 1))

    @torch.no_grad()
    def inspect(self, features: Tensor) -> Inspection:
        """The decision and the prototypes (K, P, D)."""
        return Inspection(
            logits=self.config.scale * self._cosine(features),
            embedded_features=F.normalize(features, dim=1),
            fixed_prototypes=self.prototypes,
        )
