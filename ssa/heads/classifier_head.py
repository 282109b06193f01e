"""Any pixel classifier behind any mmsegmentation decode head, by composition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from mmengine.model import BaseModule
from mmseg.models.decode_heads.cascade_decode_head import BaseCascadeDecodeHead
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.losses import CrossEntropyLoss
from mmseg.registry import MODELS
from torch import Tensor, nn

from ssa.classifiers import PixelClassifier, build_classifier
from ssa.classifiers.softmax import SoftmaxClassifier, SoftmaxConfig
from ssa.errors import ConfigurationError, UnknownNameError
from ssa.losses.inputs import LossInputError, check_range, checked_labels

#: what a head must take from mmsegmentation unchanged for a classifier to stand in for its end
_INHERITED = ("loss", "loss_by_feat", "predict", "predict_by_feat")


class UnsupportedHeadError(ConfigurationError):
    """A decode head behind which a pixel classifier would lose something without a word."""


def require_supported(head: nn.Module) -> None:
    """Check that ``head`` is a map of features, a 1×1 convolution and nothing else.

    Raises:
        UnsupportedHeadError: it is not; docs/models.md has the table of mmsegmentation's heads.
    """
    cls = type(head)
    _require_inherited(cls)
    if not isinstance(getattr(head, "conv_seg", None), nn.Conv2d):
        raise _refusal(cls, "it has no closing 1×1 convolution conv_seg")
    num_classes: int = cast(Any, head).num_classes
    if head.out_channels != num_classes or num_classes < 2:
        raise _refusal(
            cls,
            f"{head.out_channels} output channels for {num_classes} classes; give "
            "num_classes: 2 and no out_channels",
        )


def _refusal(cls: type, reason: str) -> UnsupportedHeadError:
    return UnsupportedHeadError(
        f"{cls.__name__} cannot hold a pixel classifier: {reason}; docs/models.md lists the heads "
        "that can."
    )


def _require_inherited(cls: type) -> None:
    """What a head's class says already: it need not be built, with whatever it needs for that."""
    if not issubclass(cls, BaseDecodeHead):
        raise _refusal(cls, "it is no BaseDecodeHead of mmsegmentation")
    for method in _INHERITED:
        owner = next(one for one in cls.__mro__ if method in vars(one))
        if owner not in (BaseDecodeHead, BaseCascadeDecodeHead):
            raise _refusal(cls, f"its own {method}() would be left out")


def _built(config: dict[str, Any]) -> BaseDecodeHead:
    """The head of a config.

    Raises:
        UnknownNameError: no head of that name is registered.
        UnsupportedHeadError: its class cannot hold a classifier, or needs mmcv's operators.
    """
    kind = config.get("type")
    cls = MODELS.get(kind) if isinstance(kind, str) else kind
    if cls is None:
        heads = [name for name in MODELS.module_dict if name.endswith("Head")]
        raise UnknownNameError("decode head", str(kind), heads)
    if isinstance(cls, type):
        _require_inherited(cls)
    try:
        return cast(BaseDecodeHead, MODELS.build(config))
    except RuntimeError as error:
        if isinstance(cls, type) and "onedl-mmcv" in str(error):
            reason = "it needs mmcv's compiled operators, which this installation lacks"
            raise _refusal(cls, reason) from None
        raise


def _objective(head: BaseDecodeHead, classifier: PixelClassifier) -> tuple[float, bool]:
    """The factor of the classifier's terms, and whether the wrapped head computes the loss."""
    loss = head.loss_decode
    if head.sampler is None and type(loss) is CrossEntropyLoss:
        plain = (
            not (loss.use_sigmoid or loss.use_mask or loss.avg_non_ignore)
            and loss.class_weight is None
            and loss.reduction == "mean"
        )
        if plain:
            return loss.loss_weight, False
    if isinstance(classifier, SoftmaxClassifier) and classifier.config == SoftmaxConfig():
        return 1.0, True
    raise UnsupportedHeadError(
        f"{type(head).__name__} asks for a loss or sampler of its own, which "
        f"{type(classifier).__name__} with its own objective cannot honour; leave loss_decode a "
        "plain CrossEntropyLoss (its loss_weight counts) without a sampler, and set the terms in "
        "the classifier's overrides."
    )


def _without_closing_convolution(init_cfg: Any, head: str) -> Any:
    """``init_cfg`` without its default override of ``conv_seg``, which the classifier replaces."""
    if isinstance(init_cfg, (list, tuple)):
        kept = [_without_closing_convolution(one, head) for one in init_cfg]
        return [one for one in kept if one is not None] or None
    if not isinstance(init_cfg, dict) or "override" not in init_cfg:
        return init_cfg
    override = init_cfg["override"]
    several = override if isinstance(override, (list, tuple)) else [override]
    for one in several:
        how = {"type": init_cfg.get("type"), "std": init_cfg.get("std")} | dict(one)
        default = {"type": "Normal", "std": 0.01, "name": "conv_seg"}
        # a config with layers of its own says nothing about conv_seg by its outer type
        if one.get("name") == "conv_seg" and how != default and "layer" not in init_cfg:
            raise UnsupportedHeadError(
                f"init_cfg of {head} initialises conv_seg, which the classifier replaces and "
                "initialises itself; leave that override out."
            )
    others = [one for one in several if one.get("name") != "conv_seg"]
    rest = {key: value for key, value in init_cfg.items() if key != "override"}
    if others:
        return rest | {"override": others}
    return rest if "layer" in rest or rest.get("type") == "Pretrained" else None


def _labels(samples: Sequence[Any]) -> Tensor:
    """Labels (B, 1, H, W) of a batch's data samples."""
    if missing := sum("gt_sem_seg" not in sample for sample in samples):
        raise LossInputError(
            f"{missing} of {len(samples)} images have no labels (gt_sem_seg); load them by "
            "LoadAnnotations in the training pipeline."
        )
    labels = [sample.gt_sem_seg.data for sample in samples]
    if len(sizes := {tuple(one.shape) for one in labels}) > 1:
        raise LossInputError(
            f"The labels of one batch have the shapes {sorted(sizes)}; crop or pad images and "
            "labels to one size."
        )
    return torch.stack(labels)


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

    The wrapped head's ``loss_decode`` and ``sampler`` are honoured or refused. The weight of a
    plain cross-entropy scales every term of the classifier; anything else (class weights, several
    losses, a sampler, ``avg_non_ignore``, ``use_sigmoid``) is computed by the wrapped head itself
    where the classifier is a plain ``softmax``, and refused for others, whose objective is their
    own.

    Raises:
        UnsupportedHeadError: the head does not end in a 1×1 convolution over one map, has losses or
            predictions of its own, or asks for something that the classifier cannot honour.
    """

    def __init__(
        self,
        decode_head: dict[str, Any] | BaseDecodeHead,
        classifier: dict[str, Any],
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        head = _built(decode_head) if isinstance(decode_head, dict) else decode_head
        require_supported(head)
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
        head.init_cfg = _without_closing_convolution(head.init_cfg, type(head).__name__)
        # an identity, not None: some heads call their dropout without asking
        head.conv_seg, head.dropout = nn.Identity(), nn.Identity()
        self.loss_weight, self.losses_of_head = _objective(head, self.classifier)
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

        Raises:
            LossInputError: labels are missing, or do not belong to the features.
        """
        *inputs, samples, _train_cfg = arguments
        features = self.features(*inputs)
        labels = _labels(samples)
        if self.losses_of_head:
            ids = checked_labels(
                features,
                labels,
                channels=self.classifier.channels,
                ignore_index=self.ignore_index,
            )
            check_range(ids, self.num_classes, self.ignore_index)
            terms = self.decode_head.loss_by_feat(self.classifier(features), samples)
            return {name: value for name, value in terms.items() if name.startswith("loss")}
        terms = self.classifier.loss(features, labels)
        if self.loss_weight != 1:
            terms = {name: self.loss_weight * value for name, value in terms.items()}
        return {f"loss_{name}": value for name, value in terms.items()}

    def predict(self, *arguments: Any) -> Tensor:
        """Logits upsampled to the network's input size; arguments as mmsegmentation passes them."""
        *inputs, metas, _test_cfg = arguments
        return self.decode_head.predict_by_feat(self(*inputs), metas)
