"""The one interface that every pixel classifier implements.

A pixel classifier takes the features that a decode head would hand to its last 1×1 convolution
and decides the class of every position. Heads, trainer, tables and figures know only what stands
in this file.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, cast

from torch import Tensor, nn

from ssa.classifiers import catalogue
from ssa.classifiers.config import ClassifierConfig
from ssa.errors import ConfigurationError
from ssa.losses.inputs import check_ignore_index, check_map, check_range, checked_labels
from ssa.registry import Registry


@dataclass(frozen=True)
class Inspection:
    """What a classifier shows of itself for the figures; a field it lacks is None.

    Shapes: B images, K classes, D channels, (h, w) feature size.
    """

    #: (B, K, h, w) the decision, as ``forward`` returns it
    logits: Tensor
    #: (B, D, h, w) the features that the decision compares with the prototypes
    embedded_features: Tensor
    #: (K, D) or (K, P, D) prototypes that are the same for every image
    fixed_prototypes: Tensor
    #: (B, K, D) prototypes adapted to the image and compared with ``embedded_features``
    adapted_prototypes: Tensor | None = None
    #: (B, K, D) S_p, the semantic part of the adapted prototypes
    semantic_prototypes: Tensor | None = None
    #: (B, K, D) P_p, the spatial part
    spatial_prototypes: Tensor | None = None
    #: (B, K, h, w) M_c, the first guess that guides the adaptation
    coarse_logits: Tensor | None = None


class PixelClassifier(nn.Module, ABC):
    """Features of a decode head to class logits.

    Args:
        channels: D, the number of feature channels.
        num_classes: K.
        config: the classifier's switches; None is its default preset.
        dropout_ratio: the decode head's own Dropout2d ratio, applied where the head would have
            applied it (before the 1×1 convolution); 0 or less switches it off.
        ignore_index: label value that takes no part.
        align_corners: how the head upsamples logits at test time; classifiers that follow released
            code may upsample otherwise in training and say so.

    Raises:
        ConfigurationError: fewer than one channel or two classes, or a dropout of everything.
        LossInputError: ``ignore_index`` is no integer of 32 bits.
    """

    #: the class of this classifier's configuration object
    Config: ClassVar[type[ClassifierConfig]]
    #: names of direct children (modules or parameters) that only training needs
    training_only: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        channels: int,
        num_classes: int,
        config: ClassifierConfig | None = None,
        *,
        dropout_ratio: float = 0.1,
        ignore_index: int = 255,
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        _check_settings(channels, num_classes, dropout_ratio)
        check_ignore_index(ignore_index)
        self.channels = channels
        self.num_classes = num_classes
        self.config = self.Config.preset(self.Config.default_preset) if config is None else config
        self.ignore_index = ignore_index
        self.align_corners = align_corners
        self.dropout: nn.Module = (
            nn.Dropout2d(dropout_ratio) if dropout_ratio > 0 else nn.Identity()
        )
        #: whether this is a copy that :meth:`deploy` made
        self.deployed = False
        self.register_forward_pre_hook(_check_features)

    @property
    def terms_per_device(self) -> tuple[str, ...]:
        """What of the objective is defined on the images of one device, by name.

        On N devices these are N smaller things averaged, and not the whole batch's: a mean over
        the valid pixels, sums a class. () where N devices compute what one would.
        """
        return ()

    @abstractmethod
    def forward(self, features: Tensor) -> Tensor:
        """Logits (B, K, h, w) of features (B, D, h, w), as deployed: no upsampling, no softmax."""

    def loss(self, features: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The training objective as named scalar terms, each with its weight applied.

        The sum of the values is what is minimised. State that a classifier remembers between
        steps (memories, centroids) is updated here, and only in training mode. Inputs are checked
        here, once, for every classifier; the terms themselves are :meth:`_loss`.

        Args:
            features: (B, D, h, w).
            labels: (B, H, W) or (B, 1, H, W) class ids of any integer type, at label resolution.

        Raises:
            LossInputError: features and labels do not belong together: dimensions, channels, types,
                batch size or device (:func:`ssa.losses.inputs.checked_labels`).
            LabelRangeError: a label is neither a class nor the ignore value (on the CPU; other
                devices raise their own assertion).
            ConfigurationError: this is a deployed copy, which lacks terms and memories.
        """
        if self.deployed:
            raise ConfigurationError(
                f"A deployed copy of {type(self).__name__} lacks what only training needs; take "
                "the loss of the classifier that deploy() was called on."
            )
        return self._loss(features, self._checked(features, labels))

    def _checked(self, features: Tensor, labels: Tensor) -> Tensor:
        """Labels (B, H, W), int64, that belong to the features; see :meth:`loss`."""
        ids = checked_labels(
            features, labels, channels=self.channels, ignore_index=self.ignore_index
        )
        check_range(ids, self.num_classes, self.ignore_index)
        return ids.long()

    @abstractmethod
    def _loss(self, features: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """What :meth:`loss` returns, of inputs that it has checked.

        Args:
            features: (B, D, h, w), floating.
            labels: (B, H, W), int64, on the features' device; each is a class or the ignore value.
        """

    @abstractmethod
    def inspect(self, features: Tensor) -> Inspection:
        """Prototypes and masks for features (B, D, h, w); no gradient, no change of state."""

    def deploy(self) -> nn.Module:
        """A copy in eval mode without what only training needs; its forward is equal."""
        # told to be copied already, as None: a memory of gigabytes is dropped, not copied first
        dropped = [getattr(self, name, None) for name in self.training_only]
        memo: dict[int, Any] = {id(child): None for child in dropped if child is not None}
        deployed = copy.deepcopy(self, memo).eval()
        deployed.deployed = True
        return deployed


def _check_settings(channels: int, num_classes: int, dropout_ratio: float) -> None:
    if channels < 1:
        raise ConfigurationError(
            f"A classifier of {channels} channels has nothing to look at; give the channels of "
            "the decode head's features."
        )
    if num_classes < 2:
        raise ConfigurationError(
            f"There is nothing to decide among {num_classes} classes; give a foreground its "
            "background: num_classes=2."
        )
    if not dropout_ratio < 1:
        raise ConfigurationError(
            f"dropout_ratio {dropout_ratio} leaves no feature; give less than 1, or 0 for none."
        )


def _check_features(classifier: nn.Module, inputs: tuple[Any, ...]) -> None:
    """Before every decision; a loss checks its own."""
    for features in inputs[:1]:
        check_map(features, channels=cast(PixelClassifier, classifier).channels, images=False)


#: every pixel classifier by its name in tables and configs
CLASSIFIERS: Registry[type[PixelClassifier]] = catalogue.CLASSIFIERS


def build_classifier(
    name: str,
    channels: int,
    num_classes: int,
    *,
    preset: str | None = None,
    overrides: dict[str, Any] | None = None,
    **head_settings: Any,
) -> PixelClassifier:
    """What :func:`ssa.classifiers.build_classifier` does once every name is known to be right."""
    cls = CLASSIFIERS[name]
    config = cls.Config.preset(preset or cls.Config.default_preset, **(overrides or {}))
    return cls(channels, num_classes, config, **head_settings)
