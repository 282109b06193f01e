"""CAC, the context-aware classifier (Tian et al., AAAI 2023)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ssa.classifiers.base import CLASSIFIERS, ClassifierConfig, Inspection, PixelClassifier
from ssa.classifiers.cac_config import CacConfig
from ssa.classifiers.parts.clustering import class_counts, pixel_classes
from ssa.classifiers.parts.prototypes import class_softmax_centre
from ssa.losses.pixel_losses import upsampled_cross_entropy
from ssa.losses.precision import at_least_float32

EPS = 1e-12


def cosine_logits(features: Tensor, prototypes: Tensor, scale: float) -> Tensor:
    """τ · cos between positions of features (B, D, h, w) and prototypes (B, K, D) or (K, D).

    Norms are float32 in half precision too, where 1e-12 is 0.
    """
    flat = at_least_float32(features.flatten(2))
    prototypes = at_least_float32(prototypes)
    flat = flat / (flat.norm(dim=1, keepdim=True) + EPS)
    unit = prototypes / (prototypes.norm(dim=-1, keepdim=True) + EPS)
    return scale * torch.matmul(unit, flat).unflatten(2, features.shape[2:])


@CLASSIFIERS.register("cac")
class CacClassifier(PixelClassifier):
    """Prototypes adapted to each image by a first guess, guided by a teacher that sees the labels.

    With x (B, D, h, w) the features, W (K, D) a 1×1 convolution and [·;·] concatenation:

    1. coarse logits s = W · dropout(x) + b, p = softmax_K(s)
    2. context prototypes c[b,k] = Σ_hw p x / (Σ_hw p + 1e-12), one set for each image
    3. adapted prototypes A = M([c; W]), M = Linear(2D → D/2, no bias) · ReLU · Linear(D/2 → D)
    4. decision z = 15 cos(A, x): what is deployed

    Only in training: m[k] is the mean of x over the pixels of class k in the whole batch of this
    process (W without gradient where the class is absent), T = M'([m; W]) with weights of its own,
    t = 15 cos(T, x). Losses: ``ce`` of z upsampled with align_corners=False and averaged over ALL
    pixels; ``coarse_ce`` of s and ``teacher_ce`` of t upsampled with align_corners=True and
    averaged over labelled pixels; ``distill``, at feature resolution, cross-entropy of z to
    ½ softmax(t) + ½ one-hot, weighted by the entropy H of softmax(t) inside every class present
    (Σ ℓH / Σ H) and averaged over these classes. The two averages and the two ways of upsampling
    are those of the released code.

    Source: "Learning Context-Aware Classifier for Semantic Segmentation", arXiv 2303.11633, and the
    behaviour of tianzhuotao/CAC at 9d4a17d (golden/rivals/cac). Parameters carry the released names
    ``conv_seg``, ``proj``, ``apd_proj``. It remembers nothing between steps.
    """

    Config = CacConfig
    config: CacConfig
    training_only = ("apd_proj",)

    def __init__(
        self,
        channels: int,
        num_classes: int,
        config: ClassifierConfig | None = None,
        **head_settings: Any,
    ) -> None:
        super().__init__(channels, num_classes, config, **head_settings)
        self.conv_seg = nn.Conv2d(channels, num_classes, 1)
        nn.init.normal_(self.conv_seg.weight, std=0.01)  # mmsegmentation's initialisation
        nn.init.zeros_(self.conv_seg.bias)  # type: ignore[arg-type]
        self.proj = self._projector()
        self.apd_proj = self._projector()

    def _projector(self) -> nn.Sequential:
        hidden = max(1, int(self.channels * self.config.hidden_ratio))
        return nn.Sequential(
            nn.Linear(2 * self.channels, hidden, bias=False),
            nn.ReLU(),
            nn.Linear(hidden, self.channels),
        )

    @property
    def class_weights(self) -> Tensor:
        """W (K, D), the weights of the 1×1 convolution."""
        return self.conv_seg.weight.flatten(1)

    def context_prototypes(self, features: Tensor, coarse_logits: Tensor) -> Tensor:
        """c (B, K, D): mean of the features weighted by the coarse prediction, for each image."""
        return class_softmax_centre(coarse_logits.flatten(2), features.flatten(2))

    def adapted_prototypes(self, features: Tensor, coarse_logits: Tensor) -> Tensor:
        """A (B, K, D) = M([c; W])."""
        context = self.context_prototypes(features, coarse_logits)
        weights = self.class_weights.expand(context.shape[0], -1, -1)
        return self.proj(torch.cat([context.to(weights.dtype), weights], dim=2))

    def teacher_prototypes(self, features: Tensor, classes: Tensor) -> Tensor:
        """m (K, D): mean of the features of every class over the batch; W where it is absent.

        Args:
            features: (B, D, h, w).
            classes: (B·h·w,) with K for ignored positions.
        """
        rows = at_least_float32(features).permute(0, 2, 3, 1).flatten(0, 2)
        sums = rows.new_zeros(self.num_classes + 1, self.channels).index_add(0, classes, rows)
        counts = class_counts(classes, self.num_classes)[:-1, None]
        means = sums[:-1] / counts.clamp(min=1)
        return torch.where(counts > 0, means, self.class_weights.detach().to(means.dtype))

    def teacher_classifier(self, means: Tensor) -> Tensor:
        """T (K, D) = M'([m; W])."""
        weights = self.class_weights
        return self.apd_proj(torch.cat([means.to(weights.dtype), weights], dim=1))

    def teacher_logits(self, features: Tensor, teacher: Tensor) -> Tensor:
        """t (B, K, h, w) = τ cos(T, x)."""
        return cosine_logits(features, teacher, self.config.scale)

    @staticmethod
    def teacher_entropy(teacher_logits: Tensor) -> Tensor:
        """H (B·h·w,), the entropy of softmax(t) at every position; no gradient."""
        share = teacher_logits.detach().float().permute(0, 2, 3, 1).flatten(0, 2).softmax(1)
        return -(share * (share + EPS).log()).sum(1)

    def forward(self, features: Tensor) -> Tensor:
        """Decision z (B, K, h, w) of features (B, D, h, w)."""
        coarse = self.conv_seg(self.dropout(features))
        return cosine_logits(features, self.adapted_prototypes(features, coarse), self.config.scale)

    def _loss(self, features: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Terms ``ce``, ``coarse_ce``, ``teacher_ce`` and ``distill``; see the class."""
        config, ignore = self.config, self.ignore_index
        coarse = self.conv_seg(self.dropout(features))
        scale = config.scale
        logits = cosine_logits(features, self.adapted_prototypes(features, coarse), scale)
        size = (features.shape[2], features.shape[3])
        classes = pixel_classes(labels, size, self.num_classes, ignore)
        means = self.teacher_prototypes(features, classes)
        teacher_logits = self.teacher_logits(features, self.teacher_classifier(means))
        terms = {
            "ce": config.main_weight
            * upsampled_cross_entropy(logits, labels, ignore, align_corners=False, average="all"),
            "distill": config.distill_weight * self._distill(logits, teacher_logits, classes),
        }
        for name, values, weight in (
            ("coarse_ce", coarse, config.coarse_weight),
            ("teacher_ce", teacher_logits, config.teacher_weight),
        ):
            terms[name] = weight * upsampled_cross_entropy(
                values, labels, ignore, align_corners=True, average="valid"
            )
        return terms

    def _distill(self, logits: Tensor, teacher_logits: Tensor, classes: Tensor) -> Tensor:
        rows = logits.float().permute(0, 2, 3, 1).flatten(0, 2)
        teacher = teacher_logits.detach().float().permute(0, 2, 3, 1).flatten(0, 2).softmax(1)
        log_share = rows.log_softmax(1)
        own = log_share.gather(1, classes.clamp(max=self.num_classes - 1)[:, None]).squeeze(1)
        share = self.config.label_share
        pixel_loss = -(1 - share) * (teacher * log_share).sum(1) - share * own
        entropy = self.teacher_entropy(teacher_logits)
        weighted = pixel_loss.new_zeros(self.num_classes + 1)
        weighted = weighted.index_add(0, classes, pixel_loss * entropy)[:-1]
        mass = entropy.new_zeros(self.num_classes + 1).index_add_(0, classes, entropy)[:-1]
        present = class_counts(classes, self.num_classes)[:-1] > 0
        return (weighted / (mass + EPS) * present).sum() / present.sum().clamp(min=1)

    @torch.no_grad()
    def inspect(self, features: Tensor) -> Inspection:
        """Coarse logits, adapted prototypes A and decision for features (B, D, h, w)."""
        coarse = self.conv_seg(features)
        adapted = self.adapted_prototypes(features, coarse)
        return Inspection(
            logits=cosine_logits(features, adapted, self.config.scale),
            embedded_features=features,
            fixed_prototypes=self.class_weights,
            adapted_prototypes=adapted,
            semantic_prototypes=adapted,
            coarse_logits=coarse,
        )
