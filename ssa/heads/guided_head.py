"""A classifier applied twice: its first guess gathers class context that guides the second.

Source of the facts: the dynamic-prototype-guided head of CGRSeg (Ni et al., ECCV 2024);
written anew here.
"""

from __future__ import annotations

from typing import Any

from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS
from torch import Tensor, nn

from ssa.heads.classifier_head import ClassifierHead, UnsupportedHeadError


class ContextGate(nn.Module):
    """Channel gates from class context: attention over classes, then a two-layer bottleneck."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weigh = nn.Conv2d(channels, 1, 1)
        self.gate = nn.Sequential(
            nn.Conv2d(channels, channels, 1),
            nn.LayerNorm([channels, 1, 1]),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 1),
        )
        nn.init.kaiming_normal_(self.weigh.weight, mode="fan_in", nonlinearity="relu")
        # the gates start at one half everywhere, as released
        for parameter in self.gate[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, context: Tensor) -> Tensor:
        """Class context (B, D, K) to gates (B, D, 1, 1) in (0, 1)."""
        weights = self.weigh(context[..., None]).flatten(2).softmax(dim=2)  # (B, 1, K)
        pooled = context @ weights.transpose(1, 2)
        return self.gate(pooled[..., None]).sigmoid()


@MODELS.register_module()
class GuidedClassifierHead(ClassifierHead):
    """CGRSeg's baseline: the classifier's first guess guides the features of its second.

    The wrapped head must have ``reconstruct`` (features before its closing convolution) and
    ``fuse`` (that convolution), as :class:`ssa.heads.cgr_head.CGRHead` has.

    Args:
        decode_head, classifier, init_cfg: as for :class:`ClassifierHead`.

    Raises:
        UnsupportedHeadError: as :class:`ClassifierHead`, or one of the two is missing.
    """

    def __init__(
        self,
        decode_head: dict[str, Any] | BaseDecodeHead,
        classifier: dict[str, Any],
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(decode_head, classifier, init_cfg)
        for part in ("reconstruct", "fuse"):
            if not hasattr(self.decode_head, part):
                raise UnsupportedHeadError(
                    f"{type(self.decode_head).__name__} has no {part}(), which guidance stands "
                    "between; wrap a CGRHead, or take ClassifierHead."
                )
        self.guidance = ContextGate(self.decode_head.channels)

    def features(self, *inputs: Any) -> Tensor:
        """Features (B, D, h, w) gated by class context from a first application."""
        maps = self.decode_head.reconstruct(*inputs)
        first = self.classifier(self.decode_head.fuse(maps))
        masks = first.flatten(2).softmax(dim=2)  # (B, K, N), each class over positions
        context = maps.flatten(2) @ masks.transpose(1, 2)  # (B, D, K)
        return maps * self.guidance(context) + maps
