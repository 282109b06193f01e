"""ProtoSeg, non-learnable prototypes found by online clustering (Zhou et al., CVPR 2022)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssa.classifiers.base import CLASSIFIERS, ClassifierConfig, Inspection, PixelClassifier
from ssa.classifiers.parts.clustering import (
    PrototypeProduct,
    as_map,
    class_layer_norm,
    class_sinkhorn,
    component_sums,
    full_precision,
    gumbel_noise,
    inference_by_chunks,
    mean_where,
    moved_prototypes,
    nearest_by_chunks,
    own_class_scores,
    pixel_classes,
    pixel_embeddings,
)
from ssa.classifiers.protoseg_config import ProtoSegConfig
from ssa.errors import ConfigurationError
from ssa.losses.pixel_losses import upsampled_cross_entropy
from ssa.processes import mean_of_processes


class PixelProjection(nn.Module):
    """1×1 convolution · ReLU · 1×1 convolution · unit length along ``axis`` (3 is the width)."""

    def __init__(self, channels: int, axis: int) -> None:
        super().__init__()
        self.axis = axis
        self.proj = nn.Sequential(
            nn.Conv2d(channels, channels, 1), nn.ReLU(), nn.Conv2d(channels, channels, 1)
        )

    def forward(self, features: Tensor) -> Tensor:
        """(B, D, h, w) to (B, D, h, w)."""
        return F.normalize(self.proj(features), dim=self.axis)


@CLASSIFIERS.register("protoseg")
class ProtoSegClassifier(PixelClassifier):
    """Nearest of K × P prototypes that no gradient trains: they follow their pixels' clusters.

    1. e = u(LayerNorm_D(x)), x the projected features; prototypes q (K, P, D) of unit length
    2. similarity e · q[k,p]; decision LayerNorm_K(max_p e · q[k,p])
    3. inside each class, a Sinkhorn plan L of its pixels over its P prototypes
       (:func:`ssa.classifiers.parts.clustering.class_sinkhorn`); target prototype a = argmax_p L
    4. update, from correctly classified pixels: q[k,p] ← u(γ q + (1 − γ) u(Σ e)) over the pixels
       assigned to p, here by argmax_p (L + Gumbel noise) as released; then mean over processes

    Losses, with the prototypes before their update: ``ce`` of the decision, upsampled with
    align_corners=True, mean over labelled pixels; ``ppc`` = cross-entropy of all K·P cosines to
    the target; ``ppd`` = mean of (1 − e · q[y, a])².

    Preset ``released`` is the authors' code with its traps: noise decides most assignments, PPC has
    no temperature, the projection normalises along the image width. Preset ``paper`` repairs these
    three.

    Source: "Rethinking Semantic Segmentation: A Prototype View", arXiv 2203.15102 (Eqs. 8–14), and
    the behaviour of tfzhou/ProtoSeg at 1c4a778 (golden/rivals/protoseg).

    Remembered between steps: ``prototypes`` (K, P, D), a buffer. In the released code they are a
    parameter whose gradient never acts; here they are what they are.
    """

    Config = ProtoSegConfig
    config: ProtoSegConfig
    prototypes: Tensor
    class_weights: Tensor | None

    def __init__(
        self,
        channels: int,
        num_classes: int,
        config: ClassifierConfig | None = None,
        **head_settings: Any,
    ) -> None:
        super().__init__(channels, num_classes, config, **head_settings)
        config = self.config
        axis = {"width_norm": 3, "channel_norm": 1}
        self.proj_head: nn.Module = (
            nn.Identity()
            if config.projection == "none"
            else PixelProjection(channels, axis[config.projection])
        )
        self.feat_norm = nn.LayerNorm(channels)
        self.mask_norm = nn.LayerNorm(num_classes)
        self.product = PrototypeProduct()
        prototypes = torch.empty(num_classes, config.prototypes_per_class, channels)
        self.register_buffer("prototypes", nn.init.trunc_normal_(prototypes, std=0.02))
        weights = None if config.class_weights is None else torch.tensor(config.class_weights)
        if weights is not None and len(weights) != num_classes:
            raise ConfigurationError(
                f"ProtoSegConfig: class_weights has {len(weights)} entries for {num_classes} "
                "classes; give one a class."
            )
        self.register_buffer("class_weights", weights, persistent=False)
        #: noise of the shape of its argument; tests put recorded draws here
        self.draw_noise: Callable[[Tensor], Tensor] = gumbel_noise

    def embed(self, features: Tensor) -> Tensor:
        """e (B·h·w, D) of features (B, D, h, w)."""
        return pixel_embeddings(self.proj_head(self.dropout(features)), self.feat_norm)

    def similarities(self, embeddings: Tensor) -> Tensor:
        """Cosines (n, K, P) of embeddings (n, D) to the prototypes."""
        with full_precision(embeddings.device):
            unit = F.normalize(self.prototypes.float(), dim=-1)
            return self.product(embeddings, unit.flatten(0, 1)).unflatten(1, unit.shape[:2])

    @property
    def terms_per_device(self) -> tuple[str, ...]:
        """See :meth:`PixelClassifier.terms_per_device`."""
        return ("clusters", "ce")

    def forward(self, features: Tensor) -> Tensor:
        """Decision (B, K, h, w), float32, of features (B, D, h, w)."""
        if not self.training and inference_by_chunks(features):
            # the projection normalises along the image's width: it needs the whole map
            projected = self.proj_head(features)
            return nearest_by_chunks(projected, self.prototypes, self.feat_norm, self.mask_norm)
        similarities = self.similarities(self.embed(features))
        return as_map(class_layer_norm(similarities.amax(2), self.mask_norm), features)

    def _loss(self, features: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Terms ``ce``, ``ppc`` and ``ppd``; in training mode the prototypes move."""
        config = self.config
        embeddings = self.embed(features)
        similarities = self.similarities(embeddings)
        scores = class_layer_norm(similarities.amax(2), self.mask_norm)
        size = (features.shape[2], features.shape[3])
        classes = pixel_classes(labels, size, self.num_classes, self.ignore_index)
        own = own_class_scores(similarities, classes)
        plan = class_sinkhorn(
            own.detach(),
            classes,
            self.num_classes,
            iterations=config.sinkhorn_iterations,
            epsilon=config.sinkhorn_epsilon,
        )
        index = plan.argmax(1)
        valid = classes < self.num_classes
        target = torch.where(valid, classes * config.prototypes_per_class + index, 0)
        cosines = similarities.flatten(1) / config.contrast_temperature
        contrast = mean_where(F.cross_entropy(cosines, target, reduction="none"), valid)
        distance = mean_where((1 - own.gather(1, index[:, None]).squeeze(1)).square(), valid)
        if self.training:
            self._move_prototypes(embeddings, scores, classes, plan)
        return {
            "ce": upsampled_cross_entropy(
                as_map(scores, features),
                labels,
                self.ignore_index,
                align_corners=True,
                average="valid",
                class_weights=self.class_weights,
            ),
            "ppc": config.contrast_weight * contrast,
            "ppd": config.distance_weight * distance,
        }

    @torch.no_grad()
    def _move_prototypes(
        self, embeddings: Tensor, scores: Tensor, classes: Tensor, plan: Tensor
    ) -> None:
        noisy = self.config.assignment == "gumbel"
        drawn = (plan + self.draw_noise(plan) if noisy else plan).argmax(1)
        slots = self.num_classes * self.config.prototypes_per_class
        used = classes < self.num_classes
        if self.config.only_correct:
            used = used & (scores.argmax(1) == classes)
        where = torch.where(used, classes * self.config.prototypes_per_class + drawn, slots)
        sums, counts = component_sums(embeddings, where, slots)
        unit = F.normalize(self.prototypes.float(), dim=-1)
        moved = moved_prototypes(unit, sums, counts, self.config.momentum)
        self.prototypes.copy_(mean_of_processes(moved))

    @torch.no_grad()
    def inspect(self, features: Tensor) -> Inspection:
        """Decision, embeddings e and prototypes for features (B, D, h, w)."""
        embeddings = self.embed(features)
        scores = class_layer_norm(self.similarities(embeddings).amax(2), self.mask_norm)
        return Inspection(
            logits=as_map(scores, features),
            embedded_features=as_map(embeddings, features),
            fixed_prototypes=F.normalize(self.prototypes.float(), dim=-1),
        )
