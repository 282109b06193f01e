"""The baseline: fixed prototypes, one 1×1 convolution, as mmsegmentation's decode heads end."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ssa.classifiers.base import CLASSIFIERS, ClassifierConfig, Inspection, PixelClassifier
from ssa.classifiers.parts.prototypes import cosine_factor, prototype_logits
from ssa.classifiers.softmax_config import SoftmaxConfig
from ssa.losses.segmentation import segmentation_losses


def segmentation_convolution(channels: int, num_classes: int, *, bias: bool = True) -> nn.Conv2d:
    """``conv_seg``: a 1×1 convolution, weights from N(0, 0.01²), bias 0, as mmsegmentation's."""
    conv = nn.Conv2d(channels, num_classes, 1, bias=bias)
    nn.init.normal_(conv.weight, std=0.01)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


@CLASSIFIERS.register("softmax")
class SoftmaxClassifier(PixelClassifier):
    """Logits W·dropout(S_f) + b (or τ·cos) and their cross-entropy.

    Training upsamples as the head does (``align_corners``) and divides by all pixels, ignored ones
    included, as mmsegmentation's ``CrossEntropyLoss`` does by default.
    """

    Config: ClassVar[type[ClassifierConfig]] = SoftmaxConfig
    config: SoftmaxConfig
    training_only: ClassVar[tuple[str, ...]] = ("coarse_head",)

    def __init__(
        self,
        channels: int,
        num_classes: int,
        config: ClassifierConfig | None = None,
        **head_settings: Any,
    ) -> None:
        super().__init__(channels, num_classes, config, **head_settings)
        inner_product = self.config.cosine_scale is None
        self.conv_seg = segmentation_convolution(channels, num_classes, bias=inner_product)
        self.coarse_head = (
            segmentation_convolution(channels, num_classes)
            if self.config.coarse_ce_weight > 0
            else None
        )

    @property
    def terms_per_device(self) -> tuple[str, ...]:
        """See :meth:`PixelClassifier.terms_per_device`."""
        return ("ce",) if self.config.ce_average == "valid" else ()

    def forward(self, features: Tensor) -> Tensor:
        """Logits (B, K, h, w) of features (B, D, h, w)."""
        return self._decide(self.dropout(features))

    def _decide(self, features: Tensor) -> Tensor:
        if self.config.cosine_scale is None:
            return self.conv_seg(features)
        flat = features.flatten(2)
        factor = cosine_factor(flat, self.config.cosine_scale)
        logits = prototype_logits(flat, self.conv_seg.weight.flatten(1), factor)
        return logits.unflatten(2, features.shape[2:])

    def _loss(self, features: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The terms ``ce`` and, where switched on, ``dice`` and ``coarse_ce``."""
        config = self.config
        features = self.dropout(features)
        ce, dice = segmentation_losses(
            self._decide(features),
            labels,
            ignore_index=self.ignore_index,
            align_corners=self.align_corners,
            average=config.ce_average,
            dice=config.dice_weight > 0,
            over_processes=self.training,
        )
        terms = {"ce": config.ce_weight * ce}
        if config.dice_weight > 0:
            terms["dice"] = config.dice_weight * dice
        if self.coarse_head is not None:
            coarse_ce, _ = segmentation_losses(
                self.coarse_head(features),
                labels,
                ignore_index=self.ignore_index,
                align_corners=self.align_corners,
                average="valid",
            )
            terms["coarse_ce"] = config.coarse_ce_weight * coarse_ce
        return terms

    @torch.no_grad()
    def inspect(self, features: Tensor) -> Inspection:
        """The decision and the fixed prototypes W (K, D)."""
        return Inspection(
            logits=self._decide(features),
            embedded_features=features,
            fixed_prototypes=self.conv_seg.weight.flatten(1),
        )
