"""CAC, the context-aware classifier (Tian et al., AAAI 2023)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ssa.classifiers.base import CLASSIFIERS, ClassifierConfig, Inspection, PixelClassifier
from ssa.classifiers.cac_config import CacConfig
from ssa.classifiers.parts.clustering import full_precision, pixel_classes
from ssa.classifiers.parts.prototypes import (
    PrototypeAdapter,
    class_softmax_centre,
    cosine_factor,
    prototype_logits,
)
from ssa.classifiers.parts.teacher import Guide, Teacher, guide_from
from ssa.classifiers.softmax import segmentation_convolution
from ssa.losses.distillation import response_loss
from ssa.losses.pixel_losses import upsampled_cross_entropy


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
    averaged over labelled pixels; ``response``, at feature resolution, cross-entropy of z to
    ½ softmax(t) + ½ one-hot, weighted by the entropy H of softmax(t) inside every class present
    (Σ ℓH / Σ H) and averaged over these classes. The two averages and the two ways of upsampling
    are those of the released code.

    Source: "Learning Context-Aware Classifier for Semantic Segmentation", arXiv 2303.11633, and the
    behaviour of tianzhuotao/CAC at 9d4a17d (golden/rivals/cac). The adapter M (released: ``proj``),
    the teacher with M' (``apd_proj``), centres, cosine and ``response`` are SSA-Seg's own parts,
    which took them over from CAC. It remembers nothing between steps.
    """

    Config = CacConfig
    config: CacConfig
    training_only = ("teacher",)

    def __init__(
        self,
        channels: int,
        num_classes: int,
        config: ClassifierConfig | None = None,
        **head_settings: Any,
    ) -> None:
        super().__init__(channels, num_classes, config, **head_settings)
        self.conv_seg = segmentation_convolution(channels, num_classes)
        self.semantic_adapter = PrototypeAdapter(channels)
        self.teacher = Teacher(
            channels, semantic=True, spatial=False, layers=2, output_projection=False
        )

    @property
    def fixed_prototypes(self) -> Tensor:
        """W (K, D), the weights of the 1×1 convolution."""
        return self.conv_seg.weight.flatten(1)

    def adapted_prototypes(self, features: Tensor, coarse_logits: Tensor) -> Tensor:
        """A (B, K, D) = M([c; W]) of features (B, D, h, w) and coarse logits (B, K, h, w)."""
        context = class_softmax_centre(coarse_logits.flatten(2), features.flatten(2))
        return self.semantic_adapter(context, self.fixed_prototypes)

    def cosine_logits(self, features: Tensor, prototypes: Tensor) -> Tensor:
        """τ · cos (B, K, h, w) between features (B, D, h, w) and prototypes (B or 1, K, D)."""
        flat = features.flatten(2)
        factor = cosine_factor(flat, self.config.cosine_scale)
        return prototype_logits(flat, prototypes, factor).unflatten(2, features.shape[2:])

    def guide(self, labels: Tensor, features: Tensor) -> Guide:
        """Which position of features (B, D, h, w) has which class in labels (B, H, W)."""
        size = (features.shape[2], features.shape[3])
        classes = pixel_classes(labels, size, self.num_classes, self.ignore_index)
        return guide_from(classes.view(len(features), -1), self.num_classes, features.dtype)

    def teacher_prototypes(self, guide: Guide, features: Tensor) -> Tensor:
        """T (1, K, D) = M'([m; W]) of features (B, D, h, w)."""
        return self.teacher.semantic_prototypes(guide, features.flatten(2), self.fixed_prototypes)

    @property
    def terms_per_device(self) -> tuple[str, ...]:
        """See :meth:`PixelClassifier.terms_per_device`."""
        return ("class means", "ce")

    def forward(self, features: Tensor) -> Tensor:
        """Decision z (B, K, h, w) of features (B, D, h, w)."""
        coarse = self.conv_seg(self.dropout(features))
        return self.cosine_logits(features, self.adapted_prototypes(features, coarse))

    def _loss(self, features: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Terms ``ce``, ``response``, ``coarse_ce`` and ``teacher_ce``; see the class."""
        config, ignore = self.config, self.ignore_index
        coarse = self.conv_seg(self.dropout(features))
        logits = self.cosine_logits(features, self.adapted_prototypes(features, coarse))
        guide = self.guide(labels, features)
        taught = self.cosine_logits(features, self.teacher_prototypes(guide, features))
        terms = {
            "ce": config.ce_weight
            * upsampled_cross_entropy(logits, labels, ignore, align_corners=False, average="all")
        }
        if config.response_weight > 0:
            # Entropies and their pooled sums want float32 whatever autocast says.
            with full_precision(features.device):
                terms["response"] = config.response_weight * response_loss(
                    logits.flatten(2),
                    taught.flatten(2),
                    guide.one_hot,
                    None,
                    soft_label_mix=config.soft_label_mix,
                )
        for name, values, weight in (
            ("coarse_ce", coarse, config.coarse_ce_weight),
            ("teacher_ce", taught, config.teacher_ce_weight),
        ):
            if weight > 0:
                terms[name] = weight * upsampled_cross_entropy(
                    values, labels, ignore, align_corners=True, average="valid"
                )
        return terms

    @torch.no_grad()
    def inspect(self, features: Tensor) -> Inspection:
        """Coarse logits, adapted prototypes A and decision for features (B, D, h, w)."""
        coarse = self.conv_seg(features)
        adapted = self.adapted_prototypes(features, coarse)
        return Inspection(
            logits=self.cosine_logits(features, adapted),
            embedded_features=features,
            fixed_prototypes=self.fixed_prototypes,
            adapted_prototypes=adapted,
            semantic_prototypes=adapted,
            coarse_logits=coarse,
        )
