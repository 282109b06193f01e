"""GMMSeg, per-class Gaussian mixtures as a generative classifier (Liang et al., NeurIPS 2022)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssa.classifiers.base import CLASSIFIERS, ClassifierConfig, Inspection, PixelClassifier
from ssa.classifiers.gmmseg_config import GmmSegConfig
from ssa.classifiers.parts.clustering import (
    PrototypeProduct,
    as_map,
    best_of_components,
    class_counts,
    class_layer_norm,
    class_sinkhorn,
    full_precision,
    inference_by_chunks,
    mean_where,
    own_class_scores,
    pixel_classes,
    pixel_embeddings,
    row_embeddings,
    scores_by_chunks,
)
from ssa.classifiers.parts.ring_memory import RingMemory
from ssa.classifiers.parts.step_counter import StepCounter
from ssa.losses.inputs import LossInputError
from ssa.losses.pixel_losses import upsampled_cross_entropy
from ssa.processes import gather_rows


@CLASSIFIERS.register("gmmseg")
class GmmSegClassifier(PixelClassifier):
    """A Gaussian mixture with diagonal covariance for every class, fitted by Sinkhorn EM.

    1. e = u(LayerNorm(x)), x the features reduced to d channels
    2. log N[n,k,p] = −d/2 log 2π − Σ log σ − ½ Σ ((e − μ)/σ)², μ of unit length
    3. class score max_p log N (``density="mixture"``: log Σ_p N/P); decision LayerNorm_K(score)
    4. E step, inside each class: S = log N / max|S|, Sinkhorn plan, a = argmax_p; the correctly
       classified pixels of a component enter its ring memory, at most 20 a step, evenly spaced
    5. M step, every 5th step: c = u(Σ memory), μ ← γ μ + (1 − γ) c,
       σ ← sqrt(mean (memory − c)² + 0.01), for the classes present in the batch

    The features learn discriminatively: ``ce`` of the decision (upsampled, align_corners=False,
    averaged over ALL pixels) and ``contrast``, cross-entropy of all K·P log densities to k·P + a.

    Preset ``released`` is the authors' code with its traps: best component instead of the mixture,
    a memory that starts as random unit vectors and counts them, targets 255 lost. Preset ``paper``
    repairs these three; the paper's uniform mixing weights and uniform class prior hold in both.

    Source: "GMMSeg: Gaussian Mixture based Generative Semantic Segmentation Models", arXiv
    2210.02025, and the behaviour of leonnnop/GMMSeg at 74f882e (golden/rivals/gmmseg).

    Remembered between steps, in buffers: ``means`` and ``deviations`` (K, P, d), ``memory``
    (K·P, d, M), ``counter``. Embeddings of all processes enter the memory of each, which keeps
    them equal. At the released size the memory of 150 classes is 6.1 GB.
    """

    Config = GmmSegConfig
    config: GmmSegConfig
    training_only = ("memory", "counter")
    means: Tensor
    deviations: Tensor

    def __init__(
        self,
        channels: int,
        num_classes: int,
        config: ClassifierConfig | None = None,
        **head_settings: Any,
    ) -> None:
        super().__init__(channels, num_classes, config, **head_settings)
        config = self.config
        width = config.embedding_channels or channels
        self.projection: nn.Module = nn.Identity()
        if width != channels:
            self.projection = nn.Sequential(
                nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
            )
        self.feat_norm = nn.LayerNorm(width)
        self.mask_norm = nn.LayerNorm(num_classes)
        self.product = PrototypeProduct()
        means = nn.init.trunc_normal_(torch.empty(num_classes, config.components, width), std=0.02)
        self.register_buffer("means", F.normalize(means, dim=-1))
        self.register_buffer("deviations", torch.ones_like(means))
        self.memory = RingMemory(
            num_classes * config.components,
            width,
            config.memory_size,
            random_start=config.random_memory,
        )
        self.counter = StepCounter()

    def embed(self, features: Tensor) -> Tensor:
        """e (B·h·w, d) of features (B, D, h, w)."""
        return pixel_embeddings(self.projection(self.dropout(features)), self.feat_norm)

    def log_densities(self, embeddings: Tensor) -> Tensor:
        """log N (n, K, P) of embeddings (n, d), as two matrix products."""
        with full_precision(embeddings.device):
            means = F.normalize(self.means.float(), dim=-1).flatten(0, 1)
            deviations = self.deviations.float().flatten(0, 1)
            precision = deviations.square().reciprocal()
            constant = (
                0.5 * embeddings.shape[1] * math.log(2 * math.pi)
                + deviations.log().sum(1)
                + 0.5 * (means.square() * precision).sum(1)
            )
            quadratic = self.product(embeddings.square(), precision)
            linear = self.product(embeddings, means * precision)
            return (linear - 0.5 * quadratic - constant).unflatten(1, self.means.shape[:2])

    def _scores_of_rows(self) -> Callable[[Tensor], Tensor]:
        """What decides rows (n, d) chunk by chunk, equal to the bit: class scores (n, K)."""
        config, norm = self.config, self.feat_norm
        with full_precision(self.means.device):
            means = F.normalize(self.means.float(), dim=-1).transpose(0, 1).flatten(0, 1)
            deviations = self.deviations.float().transpose(0, 1).flatten(0, 1)
            precision = deviations.square().reciprocal()
            constant = (
                0.5 * means.shape[1] * math.log(2 * math.pi)
                + deviations.log().sum(1)
                + 0.5 * (means.square() * precision).sum(1)
            )
            towards, widths = (means * precision).t(), precision.t()

        def scores(rows: Tensor) -> Tensor:
            with full_precision(rows.device):
                embeddings = row_embeddings(rows, norm)
                quadratic = embeddings.square() @ widths
                log_densities = (embeddings @ towards).sub_(quadratic, alpha=0.5).sub_(constant)
            if config.density == "best_component":
                of_class = best_of_components(log_densities, config.components)
            else:
                of_components = log_densities.unflatten(1, (config.components, -1))
                of_class = of_components.logsumexp(1) - math.log(config.components)
            return class_layer_norm(of_class, self.mask_norm)

        return scores

    def class_scores(self, log_densities: Tensor) -> Tensor:
        """Class scores (n, K) of log densities (n, K, P)."""
        if self.config.density == "best_component":
            return log_densities.amax(2)
        return log_densities.logsumexp(2) - math.log(self.config.components)

    @property
    def terms_per_device(self) -> tuple[str, ...]:
        """See :meth:`PixelClassifier.terms_per_device`."""
        return ("ce",)

    def forward(self, features: Tensor) -> Tensor:
        """Decision (B, K, h, w), float32, of features (B, D, h, w)."""
        if not self.training and inference_by_chunks(features):
            return scores_by_chunks(
                self._scores_of_rows(), self.projection(features), self.num_classes
            )
        scores = self.class_scores(self.log_densities(self.embed(features)))
        return as_map(class_layer_norm(scores, self.mask_norm), features)

    @torch.no_grad()
    def e_step(self, log_densities: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """Balanced soft assignment of every pixel to the components of its class.

        Args:
            log_densities: (n, K, P).
            classes: (n,) with K for ignored pixels, whose rows mean nothing.

        Returns:
            S (n, P), own log densities scaled to [−1, 1] class by class, and the plan (n, P).
        """
        own = own_class_scores(log_densities, classes)
        peaks = own.new_zeros(self.num_classes + 1)
        peaks = peaks.scatter_reduce(0, classes, own.abs().amax(1), "amax")
        scaled = own / peaks[classes, None].clamp(min=1e-12)
        plan = class_sinkhorn(
            scaled,
            classes,
            self.num_classes,
            iterations=self.config.sinkhorn_iterations,
            epsilon=self.config.sinkhorn_epsilon,
        )
        return scaled, plan

    @torch.no_grad()
    def m_step(self, present: Tensor) -> None:
        """Move means and deviations of the classes ``present`` (K,), bool, towards the memory."""
        config, entries = self.config, self.memory.entries.float()
        filled = self.memory.filled.to(entries.dtype)[:, None]  # (K·P, 1)
        sums = entries.sum(2)
        squares = torch.linalg.vector_norm(entries, dim=2).square()
        centres = F.normalize(sums)
        # Σ (m − c)² = Σ m² − 2 c Σ m + n c², which needs no copy of the memory
        moment = (squares - 2 * centres * sums) / filled.clamp(min=1) + centres.square()
        deviations = (moment.clamp(min=0) + config.variance_floor).sqrt()
        moves = present.repeat_interleave(config.components)[:, None] & (filled > 0)
        for old, new, momentum in (
            (self.means, centres, config.mean_momentum),
            (self.deviations, deviations, config.deviation_momentum),
        ):
            flat = old.flatten(0, 1)
            moved = momentum * flat + (1 - momentum) * new.to(old.dtype)
            old.copy_(torch.where(moves, moved, flat).view_as(old))

    def _loss(self, features: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Terms ``ce`` and ``contrast``; in training mode memory, means and deviations move."""
        config = self.config
        if self.training and features[:, 0].numel() == 1 and len(list(self.projection.children())):
            raise LossInputError(
                "The projection's BatchNorm normalises one value a channel, one image of one "
                "position; give larger features or more images, or embedding_channels=None."
            )
        embeddings = self.embed(features)
        log_densities = self.log_densities(embeddings)
        scores = class_layer_norm(self.class_scores(log_densities), self.mask_norm)
        size = (features.shape[2], features.shape[3])
        classes = pixel_classes(labels, size, self.num_classes, self.ignore_index)
        component = self.e_step(log_densities.detach(), classes)[1].argmax(1)
        valid = classes < self.num_classes
        target = torch.where(valid, classes * config.components + component, 0)
        counted = valid if config.lost_target is None else valid & (target != config.lost_target)
        contrast = F.cross_entropy(log_densities.flatten(1), target, reduction="none")
        if self.training:
            correct = valid & (scores.detach().argmax(1) == classes)
            self._remember(embeddings, torch.where(correct, target, self.means[..., 0].numel()))
            self._update(classes)
        return {
            "ce": upsampled_cross_entropy(
                as_map(scores, features),
                labels,
                self.ignore_index,
                align_corners=False,
                average="all",
            ),
            "contrast": config.contrast_weight * mean_where(contrast, counted),
        }

    @torch.no_grad()
    def _remember(self, embeddings: Tensor, slots: Tensor) -> None:
        limit = self.config.samples_per_step
        self.memory.write(gather_rows(embeddings), gather_rows(slots), limit)

    @torch.no_grad()
    def _update(self, classes: Tensor) -> None:
        self.means.copy_(F.normalize(self.means, dim=-1))
        if self.counter.value % self.config.update_interval == 0:
            self.m_step(class_counts(gather_rows(classes), self.num_classes)[:-1] > 0)
        self.counter.advance()

    @torch.no_grad()
    def inspect(self, features: Tensor) -> Inspection:
        """Decision, embeddings e and means for features (B, D, h, w)."""
        embeddings = self.embed(features)
        scores = self.class_scores(self.log_densities(embeddings))
        return Inspection(
            logits=as_map(class_layer_norm(scores, self.mask_norm), features),
            embedded_features=as_map(embeddings, features),
            fixed_prototypes=F.normalize(self.means.float(), dim=-1),
        )
