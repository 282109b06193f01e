"""DNC, deep nearest centroids (Wang, Han, Zhou and Liu, ICLR 2023)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssa.classifiers.base import CLASSIFIERS, ClassifierConfig, Inspection, PixelClassifier
from ssa.classifiers.dnc_config import DncConfig
from ssa.classifiers.parts.clustering import (
    PrototypeProduct,
    as_map,
    class_layer_norm,
    class_sinkhorn,
    class_softmin,
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
from ssa.classifiers.parts.pixel_bank import PixelBank
from ssa.classifiers.parts.ring_memory import RingMemory
from ssa.classifiers.parts.step_counter import StepCounter
from ssa.losses.pixel_losses import upsampled_cross_entropy
from ssa.processes import gather_rows, mean_of_processes


@CLASSIFIERS.register("dnc")
class DncClassifier(PixelClassifier):
    """The class of the nearest sub-centroid; sub-centroids are the features' own clusters.

    1. e = u(LayerNorm_D(x)); sub-centroids q (K, P, D) of unit length
    2. decision LayerNorm_K(max_p e · q[k,p]), nearest centroid by cosine
    3. the network learns from ``ce`` of the decision alone, q from clustering alone

    Preset ``paper`` (default; no segmentation head was ever released): every step the labelled
    pixels enter a memory of M features a class (at most 20 a step, evenly spaced); the whole
    memory of a class is clustered with Sinkhorn into P balanced clusters; q[k,p] ← u(γ q +
    (1 − γ) u(Σ e)). ``ce`` is upsampled and averaged over labelled pixels. The size of the memory
    and the number of samples a step are this project's choice.

    Preset ``released`` runs the released image-classification head on pixels, traps included: on
    ordinary steps ``ce`` at feature resolution; every ``bank_steps``-th step INSTEAD ``ce`` over
    the bank of stale features, without any gradient to the network, and then one update: plan
    exp(−S/g)/Σ (:func:`ssa.classifiers.parts.clustering.class_softmin`), which takes similarity for
    a cost and balances nothing, plus Gumbel noise that decides everything; only correctly
    classified pixels.

    Source: "Visual Recognition with Deep Nearest Centroids", arXiv 2209.07383, and the behaviour of
    ChengHan111/DNC at 5969d4e (golden/rivals/dnc).

    Remembered between steps, in buffers: ``centroids`` (K, P, D), ``memory`` or ``bank``,
    ``counter``. Pixels of all processes enter the memory of each; centroids are averaged.
    """

    Config = DncConfig
    config: DncConfig
    training_only = ("memory", "bank", "counter")
    centroids: Tensor

    def __init__(
        self,
        channels: int,
        num_classes: int,
        config: ClassifierConfig | None = None,
        **head_settings: Any,
    ) -> None:
        super().__init__(channels, num_classes, config, **head_settings)
        config = self.config
        self.feat_norm = nn.LayerNorm(channels)
        self.mask_norm = nn.LayerNorm(num_classes)
        self.product = PrototypeProduct()
        centroids = torch.empty(num_classes, config.centroids_per_class, channels)
        self.register_buffer("centroids", nn.init.trunc_normal_(centroids, std=0.02))
        self.memory: RingMemory | None = None
        self.bank: PixelBank | None = None
        if config.clustering == "memory":
            self.memory = RingMemory(num_classes, channels, config.memory_size)
        else:
            self.bank = PixelBank(config.bank_steps, config.bank_pixels, channels, num_classes)
        self.counter = StepCounter()
        #: noise of the shape of its argument; tests put recorded draws here
        self.draw_noise: Callable[[Tensor], Tensor] = gumbel_noise

    def embed(self, features: Tensor) -> Tensor:
        """e (B·h·w, D) of features (B, D, h, w)."""
        return pixel_embeddings(features, self.feat_norm)

    def similarities(self, embeddings: Tensor) -> Tensor:
        """Cosines (n, K, P) of embeddings (n, D) to the sub-centroids."""
        with full_precision(embeddings.device):
            unit = F.normalize(self.centroids.float(), dim=-1)
            return self.product(embeddings, unit.flatten(0, 1)).unflatten(1, unit.shape[:2])

    def decide(self, similarities: Tensor) -> Tensor:
        """Class scores (n, K) of cosines (n, K, P)."""
        return class_layer_norm(similarities.amax(2), self.mask_norm)

    @property
    def terms_per_device(self) -> tuple[str, ...]:
        """See :meth:`PixelClassifier.terms_per_device`."""
        return ("clusters", "ce")

    def forward(self, features: Tensor) -> Tensor:
        """Decision (B, K, h, w), float32, of features (B, D, h, w)."""
        if not self.training and inference_by_chunks(features):
            return nearest_by_chunks(features, self.centroids, self.feat_norm, self.mask_norm)
        return as_map(self.decide(self.similarities(self.embed(self.dropout(features)))), features)

    def _loss(self, features: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Term ``ce`` (and ``contrast`` on a bank step); in training mode the state moves."""
        features = self.dropout(features)
        size = (features.shape[2], features.shape[3])
        classes = pixel_classes(labels, size, self.num_classes, self.ignore_index)
        if self.config.clustering == "bank":
            return self._bank_step(features, classes)
        embeddings = self.embed(features)
        scores = self.decide(self.similarities(embeddings))
        if self.training:
            self._remember_and_cluster(features, classes)
        return {
            "ce": upsampled_cross_entropy(
                as_map(scores, features),
                labels,
                self.ignore_index,
                align_corners=self.align_corners,
                average="valid",
            )
        }

    # --- as the paper has it -------------------------------------------------------------------

    @torch.no_grad()
    def _remember_and_cluster(self, features: Tensor, classes: Tensor) -> None:
        assert self.memory is not None  # clustering == "memory"
        rows = features.permute(0, 2, 3, 1).flatten(0, 2)
        limit = self.config.samples_per_step
        self.memory.write(gather_rows(rows), gather_rows(classes), limit)
        # the memory of a class goes through the embedding as one image of 1 × M positions
        embeddings = self.embed(self.memory.entries[:, :, None])
        places = torch.arange(self.memory.entries.shape[2], device=classes.device)[None]
        own_class = torch.arange(self.num_classes, device=classes.device)[:, None]
        remembered = torch.where(
            places < self.memory.filled[:, None], own_class, self.num_classes
        ).flatten()
        unit = F.normalize(self.centroids.float(), dim=-1)
        with full_precision(embeddings.device):
            own = torch.bmm(embeddings.unflatten(0, (self.num_classes, -1)), unit.transpose(1, 2))
        self._move(embeddings, remembered, self.assign(own.flatten(0, 1), remembered))
        self.counter.advance()

    def assign(self, own_similarities: Tensor, classes: Tensor) -> Tensor:
        """Sub-centroid (n,) of every pixel in its class, by balanced Sinkhorn clustering.

        Args:
            own_similarities: (n, P) cosines to the sub-centroids of the pixel's own class.
            classes: (n,) with K for rows that take no part.
        """
        plan = class_sinkhorn(
            own_similarities,
            classes,
            self.num_classes,
            iterations=self.config.sinkhorn_iterations,
            epsilon=self.config.epsilon,
        )
        return plan.argmax(1)

    @torch.no_grad()
    def _move(self, embeddings: Tensor, classes: Tensor, index: Tensor) -> None:
        slots = self.num_classes * self.config.centroids_per_class
        used = classes < self.num_classes
        where = torch.where(used, classes * self.config.centroids_per_class + index, slots)
        sums, counts = component_sums(embeddings, where, slots)
        unit = F.normalize(self.centroids.float(), dim=-1)
        moved = moved_prototypes(unit, sums, counts, self.config.momentum)
        self.centroids.copy_(mean_of_processes(moved))

    # --- as the released image classifier has it -----------------------------------------------

    def _bank_step(self, features: Tensor, classes: Tensor) -> dict[str, Tensor]:
        place = self.counter.value % self.config.bank_steps if self.training else 0
        if self.training:
            assert self.bank is not None  # clustering == "bank"
            self.bank.put(place, features.permute(0, 2, 3, 1).flatten(0, 2), classes)
            self.centroids.copy_(F.normalize(self.centroids, dim=-1))
            self.counter.advance()
            if place == self.config.bank_steps - 1:
                return self._full_bank(self.bank, features)
        scores = self.decide(self.similarities(self.embed(features)))
        return {"ce": self._row_cross_entropy(scores, classes)}

    def _full_bank(self, bank: PixelBank, features: Tensor) -> dict[str, Tensor]:
        config = self.config
        rows = gather_rows(bank.features.flatten(0, 1))
        classes = gather_rows(bank.classes.flatten())
        embeddings = self.embed(rows.T[None, :, None])
        similarities = self.similarities(embeddings)
        scores = self.decide(similarities)
        # the network gets no gradient on this step, but stays part of the graph for DDP
        terms = {"ce": self._row_cross_entropy(scores, classes) + 0 * features.sum()}
        plan = class_softmin(
            own_class_scores(similarities.detach(), classes),
            classes,
            self.num_classes,
            epsilon=config.epsilon,
        )
        if config.contrast_weight > 0:
            valid = classes < self.num_classes
            target = classes * config.centroids_per_class + plan.argmax(1)
            target = torch.where(valid, target, 0)
            if config.lost_target is not None:
                valid = valid & (target != config.lost_target)
            cosines = similarities.flatten(1) / config.contrast_temperature
            contrast = mean_where(F.cross_entropy(cosines, target, reduction="none"), valid)
            terms["contrast"] = config.contrast_weight * contrast
        correct = scores.detach().argmax(1) == classes
        drawn = (plan + self.draw_noise(plan)).argmax(1)
        self._move(embeddings.detach(), classes.where(correct, self.num_classes), drawn)
        return terms

    def _row_cross_entropy(self, scores: Tensor, classes: Tensor) -> Tensor:
        valid = classes < self.num_classes
        target = torch.where(valid, classes, 0)
        return mean_where(F.cross_entropy(scores, target, reduction="none"), valid)

    @torch.no_grad()
    def inspect(self, features: Tensor) -> Inspection:
        """Decision, embeddings e and sub-centroids for features (B, D, h, w)."""
        embeddings = self.embed(features)
        return Inspection(
            logits=as_map(self.decide(self.similarities(embeddings)), features),
            embedded_features=as_map(embeddings, features),
            fixed_prototypes=F.normalize(self.centroids.float(), dim=-1),
        )
