"""How a run is trained and scored. Units stand in the field names."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from experiments.declare.base import Declared, unless_none
from experiments.declare.network import RegisteredName, Settings

Share = Annotated[float, Field(ge=0, le=1)]
Pixels = tuple[PositiveInt, PositiveInt]


class ProtocolName(str, Enum):
    """How a test image is prepared."""

    stock = "stock"
    released = "released"


class Optimizer(Declared):
    """AdamW or SGD and its groups, in mmengine's terms."""

    type: Literal["AdamW", "SGD"]
    lr: NonNegativeFloat
    weight_decay: NonNegativeFloat
    betas: tuple[float, float] | None = None
    momentum: float | None = None
    paramwise: Settings = Field(default_factory=dict)
    grad_clip_norm: float | None = None
    constructor: RegisteredName | None = None  # of the groups, if not mmengine's own: LayerDecay

    @model_serializer(mode="wrap")
    def _without_default(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """See :func:`unless_none`."""
        return unless_none("constructor", plain(self))


class Schedule(Declared):
    """Polynomial decay, or half a cosine, after a linear warm-up, by iteration."""

    power: float = 1.0  # of the polynomial
    min_lr: NonNegativeFloat = 0.0
    warmup_iterations: NonNegativeInt = 0
    warmup_ratio: float = 1e-6
    cosine_to: float | None = None  # share of the rate at the end of a cosine; None: polynomial

    @model_serializer(mode="wrap")
    def _without_default(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """See :func:`unless_none`."""
        return unless_none("cosine_to", plain(self))


class Augmentation(Declared):
    """The training pipeline: resize, crop, flip, photometric distortion."""

    scale: Pixels  # (long side, short side) in pixels before the ratio
    ratio_range: tuple[float, float]
    crop: Pixels  # (height, width) in pixels
    cat_max_ratio: Share = 0.75  # largest share of a crop that one class may take
    flip: Share = 0.5  # probability
    photometric: bool = True


class Training(Declared):
    """How a run is trained."""

    iterations: PositiveInt
    batch: PositiveInt  # images an optimiser step, over all devices and micro-batches
    accumulation: PositiveInt = 1  # micro-batches a step on one device
    optimizer: Optimizer
    schedule: Schedule
    augmentation: Augmentation
    amp: bool = False  # mixed precision, on a GPU only
    channels_last: bool = False  # memory layout of the network; another order of summation
    from_scratch: bool = True  # no pretrained weights
    train_split: str = "train"

    @model_validator(mode="after")
    def _divides(self) -> Training:
        if self.batch % self.accumulation:
            raise ValueError(
                f"batch {self.batch} is not a multiple of accumulation {self.accumulation}"
            )
        return self


class TrainingOverrides(Declared):
    """What a row of a table changes of its profile's or protocol's training; None: nothing."""

    from_scratch: bool | None = None  # False: from pretrained weights, True: without
    lr_times: PositiveFloat | None = None  # factor on every learning rate

    def applied(self, training: Training) -> Training:
        """``training`` with the changes in it, as a run's identity holds it."""
        changes: dict[str, Any] = {}
        if self.from_scratch is not None:
            changes["from_scratch"] = self.from_scratch
        if self.lr_times is not None:
            rate = training.optimizer.lr * self.lr_times
            changes["optimizer"] = training.optimizer.model_copy(update={"lr": rate})
        return training.model_copy(update=changes) if changes else training


class Evaluation(Declared):
    """How a run is scored: single scale, labels at original size."""

    interval: PositiveInt  # iterations between two points of the validation curve
    split: str = "val"
    scale: Pixels | None = None  # (long, short); None: the image's own size
    multiple_of: PositiveInt | None = None  # resize to a multiple of this (ADE20K's protocol: 32)
    batch: PositiveInt = 1
    mode: Literal["whole", "slide"] = "whole"
    crop: Pixels | None = None  # of a sliding window
    stride: Pixels | None = None
