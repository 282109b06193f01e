"""Mask classifiers as mmsegmentation decode heads, so that one trainer and evaluator serve all."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmseg.models.backbones import ResNet
from mmseg.registry import MODELS
from torch import Tensor

from ssa.backbones.layers import Config
from ssa.mask_classifiers.criterion import MaskCriterion
from ssa.mask_classifiers.pem import PemDecoder, PemPixelDecoder
from ssa.mask_classifiers.predictions import MaskPrediction, semantic_scores
from ssa.mask_classifiers.yoso import YosoDecoder, YosoNeck

#: the coarsest stride; images are padded to a multiple of it
STRIDE = 32


@MODELS.register_module()
class PaddedResNet(ResNet):
    """mmsegmentation's ResNet on images padded with 0 (right, bottom) to a multiple of 32.

    The up-sampling paths of mask classifiers double sizes exactly; their released code pads alike.
    """

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Images (B, 3, H, W) to maps at strides 4, 8, 16, 32 of the padded image."""
        height, width = x.shape[2:]
        return super().forward(F.pad(x, (0, -width % STRIDE, 0, -height % STRIDE)))


class MaskHead(BaseModule):
    """What every mask classifier shares: loss and semantic inference of its predictions.

    Args:
        num_classes: K.
        criterion: fields of :class:`ssa.mask_classifiers.criterion.MaskCriterion`.
        ignore_index: label that takes no part.
        align_corners: how mmsegmentation resizes the scores to the original image.
        init_cfg: mmengine's.
    """

    def __init__(
        self,
        num_classes: int,
        criterion: Config | None = None,
        ignore_index: int = 255,
        align_corners: bool = False,
        init_cfg: Config | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.num_classes = self.out_channels = num_classes
        self.ignore_index = ignore_index
        self.align_corners = align_corners
        self.criterion = MaskCriterion(num_classes, ignore_index=ignore_index, **(criterion or {}))

    @abstractmethod
    def decode(self, features: Sequence[Tensor]) -> list[MaskPrediction]:
        """Predictions of every stage from maps at strides 4, 8, 16, 32; the last one counts."""

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Class scores (B, K, H/4, W/4) by semantic inference."""
        return semantic_scores(self.decode(features)[-1])

    def loss(
        self, features: Sequence[Tensor], samples: Sequence[Any], _train_cfg: Any
    ) -> dict[str, Tensor]:
        """Named loss terms, prefixed ``loss_``; arguments as mmsegmentation passes them."""
        labels = torch.stack([sample.gt_sem_seg.data for sample in samples])[:, 0]
        predictions = self.decode(features)
        height, width = (4 * side for side in predictions[-1].masks.shape[2:])
        padding = (0, width - labels.shape[2], 0, height - labels.shape[1])
        labels = F.pad(labels, padding, value=self.ignore_index)
        terms = self.criterion(predictions, labels)
        return {f"loss_{name}": value for name, value in terms.items()}

    def predict(
        self, features: Sequence[Tensor], metas: Sequence[dict[str, Any]], _test_cfg: Any
    ) -> Tensor:
        """Class scores (B, K, H, W) of the network's input size, without its padding."""
        prediction = self.decode(features)[-1]
        height, width = (4 * side for side in prediction.masks.shape[2:])
        shape = metas[0]["img_shape"]
        if not isinstance(shape, torch.Size):  # a window of sliding inference has its own
            shape = metas[0].get("pad_shape", shape)
        return semantic_scores(prediction, (height, width))[:, :, : shape[0], : shape[1]]


@MODELS.register_module()
class YosoHead(MaskHead):
    """YOSO's neck and decoder; see :mod:`ssa.mask_classifiers.yoso`.

    Args:
        in_channels: of the backbone's maps.
        widths: of the neck's top-down path at strides 32, 16, 8, 4.
        aggregated: width of the neck's sum.
        channels: width of the features and kernels.
        queries, stages, hidden, num_heads, temperature: see
            :class:`ssa.mask_classifiers.yoso.YosoDecoder`.
        norm_cfg: of the neck.
        settings: see :class:`MaskHead`.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        norm_cfg: Config,
        widths: Sequence[int] = (1024, 512, 256, 128),
        aggregated: int = 128,
        channels: int = 256,
        queries: int = 100,
        stages: int = 2,
        hidden: int = 2048,
        num_heads: int = 8,
        temperature: float = 0.5,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.neck = YosoNeck(in_channels, widths, aggregated, channels, norm_cfg)
        self.decoder = YosoDecoder(
            channels, self.num_classes, queries, stages, hidden, num_heads, temperature
        )

    def decode(self, features: Sequence[Tensor]) -> list[MaskPrediction]:
        """Proposals (masks only) and the refined stages."""
        return self.decoder(self.neck(features))


@MODELS.register_module()
class PemHead(MaskHead):
    """PEM's pixel decoder and decoder; see :mod:`ssa.mask_classifiers.pem`.

    Args:
        in_channels: of the backbone's maps.
        norm_cfg: of both parts.
        pixel_channels: width of the pixel decoder.
        channels: width of queries and mask features.
        queries, layers, hidden, num_heads: see :class:`ssa.mask_classifiers.pem.PemDecoder`.
        settings: see :class:`MaskHead`.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        norm_cfg: Config,
        pixel_channels: int = 128,
        channels: int = 256,
        queries: int = 100,
        layers: int = 6,
        hidden: int = 2048,
        num_heads: int = 8,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.pixel_decoder = PemPixelDecoder(in_channels, pixel_channels, channels, norm_cfg)
        self.predictor = PemDecoder(
            pixel_channels,
            channels,
            self.num_classes,
            norm_cfg,
            queries=queries,
            layers=layers,
            hidden=hidden,
            num_heads=num_heads,
        )

    def decode(self, features: Sequence[Tensor]) -> list[MaskPrediction]:
        """Predictions before the first layer and after every layer."""
        return self.predictor(*self.pixel_decoder(features))
