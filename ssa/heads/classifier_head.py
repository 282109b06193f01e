"""Any pixel classifier behind any mmsegmentation decode head, by composition."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.model import BaseModule
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS
from torch import Tensor, nn

from ssa.classifiers import build_classifier


@MODELS.register_module()
class ClassifierHead(BaseModule):
    """A decode head whose last 1×1 convolution is replaced by a pixel classifier.

    The wrapped head keeps everything up to the features that it would hand to ``conv_seg``; its
    ``conv_seg`` and dropout become identities, so calling it returns those features. The same class
    serves plain and cascaded heads (OCRHead), which take one more input.

    Args:
        decode_head: config of the wrapped head, or the head itself.
        classifier: ``{"name": ..., "preset": ..., "overrides": {...}}``; see
            :func:`ssa.classifiers.build_classifier`.
        init_cfg: mmengine's initialisation config, rarely needed.
    """

    def __init__(
        self,
        decode_head: dict[str, Any] | BaseDecodeHead,
        classifier: dict[str, Any],
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        head = MODELS.build(decode_head) if isinstance(decode_head, dict) else decode_head
        self.num_classes: int = head.num_classes
        self.out_channels: int = head.num_classes
        self.align_corners: bool = head.align_corners
        self.ignore_index: int = head.ignore_index
        self.classifier = build_classifier(
            channels=head.conv_seg.in_channels,
            num_classes=head.num_classes,
            dropout_ratio=head.dropout_ratio,
            ignore_index=head.ignore_index,
            align_corners=head.align_corners,
            **classifier,
        )
        head.conv_seg, head.dropout = nn.Identity(), None
        if head.init_cfg is not None and "override" in head.init_cfg:
            head.init_cfg = None  # mmsegmentation's default initialises only conv_seg
        self.decode_head = head

    def features(self, *inputs: Any) -> Tensor:
        """The features (B, D, h, w) that the wrapped head would hand to its 1×1 convolution."""
        return self.decode_head(*inputs)

    def forward(self, *inputs: Any) -> Tensor:
        """Logits (B, K, h, w) at feature resolution."""
        return self.classifier(self.features(*inputs))

    def loss(self, *arguments: Any) -> dict[str, Tensor]:
        """Named loss terms, prefixed ``loss_`` so that mmengine sums them.

        Args:
            arguments: what mmsegmentation passes: inputs, (for a cascade) the previous stage's
                output, the batch's data samples and the train config.
        """
        *inputs, samples, _train_cfg = arguments
        labels = torch.stack([sample.gt_sem_seg.data for sample in samples])
        terms = self.classifier.loss(self.features(*inputs), labels)
        return {f"loss_{name}": value for name, value in terms.items()}

    def predict(self, *arguments: Any) -> Tensor:
        """Logits upsampled to the network's input size; arguments as mmsegmentation passes them."""
        *inputs, metas, _test_cfg = arguments
        return self.decode_head.predict_by_feat(self(*inputs), metas)
