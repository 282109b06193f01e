"""The one check of what enters a loss: a map of the network against its labels.

The C kernel reads memory by these shapes, and both executions must mean the same by a label, so
nothing reaches them that was not checked here.
"""

from __future__ import annotations

from numbers import Integral

import torch
from torch import Tensor

from ssa.errors import SsaError

#: every integer type that torch can compare and index with, once widened
INTEGER_TYPES = (
    *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.uint16, torch.uint32, torch.uint64),
)
_INT32 = torch.iinfo(torch.int32)
#: types that int32 holds without loss
_NARROW = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.uint16)


class LossInputError(SsaError, ValueError):
    """Features and labels that do not belong together; the message says which of them."""


class LabelRangeError(LossInputError):
    """A label that is neither a class nor the ignore value."""

    def __init__(self, count: int, num_classes: int, ignore_index: int) -> None:
        super().__init__(
            f"{count} label pixels are neither a class id below {num_classes} nor the ignore value "
            f"{ignore_index}; check the data set's labels against num_classes."
        )


def check_map(
    values: Tensor, *, channels: int | None, name: str = "features", images: bool = True
) -> None:
    """Check that ``values`` are floating maps (B, C, h, w).

    Args:
        values: features or logits.
        channels: the expected C; None takes any.
        name: what ``values`` are, for the message.
        images: whether there must be one (a decision may be asked for none, a loss not).

    Raises:
        LossInputError: they are not.
    """
    shape = tuple(values.shape)
    needed = shape if images else shape[1:]
    if values.dim() != 4 or not values.is_floating_point() or 0 in needed:
        raise LossInputError(
            f"The {name} must be a floating map (B, C, h, w) with something in it, but are "
            f"{values.dtype} of shape {shape}; give what the decode head computes."
        )
    if channels is not None and shape[1] != channels:
        raise LossInputError(
            f"The {name} have {shape[1]} channels, but {channels} are expected; build the "
            "classifier with the channels of the decode head."
        )


def check_ignore_index(ignore_index: int) -> None:
    """Check that the label value that takes no part is an integer of 32 bits.

    Raises:
        LossInputError: it is not.
    """
    if not isinstance(ignore_index, Integral) or isinstance(ignore_index, bool):
        raise LossInputError(
            f"ignore_index is {ignore_index!r}, but labels are integers; give one that no class "
            "has, 255 or -100."
        )
    if not _INT32.min <= ignore_index <= _INT32.max:
        raise LossInputError(
            f"ignore_index {ignore_index} does not fit in 32 bits; choose a smaller value."
        )


def check_average(average: str) -> None:
    """Check the divisor of a cross-entropy: ``all`` or ``valid``.

    Raises:
        LossInputError: it is neither.
    """
    if average not in ("all", "valid"):
        raise LossInputError(
            f"average is {average!r}; divide by 'all' pixels or by the 'valid' ones."
        )


def _within_transform() -> bool:
    """Whether a transform of torch.func calls: nothing here could look at a value."""
    if torch.compiler.is_compiling():
        return False
    return torch._C._functorch.peek_interpreter_stack() is not None


def checked_labels(
    values: Tensor,
    labels: Tensor,
    *,
    channels: int | None,
    ignore_index: int,
    name: str = "features",
) -> Tensor:
    """Check a map against its labels and return the labels as class ids (B, H, W), int32.

    Only shapes, types and devices are looked at (nothing waits for the device); ids that int32
    cannot hold become its largest value, which is no class. See :func:`check_range`.

    Args:
        values: (B, C, h, w), features or logits.
        labels: (B, H, W) or (B, 1, H, W), any integer type.
        channels: the expected C; None takes any.
        ignore_index: label value that takes no part.
        name: what ``values`` are, for the messages.

    Raises:
        LossInputError: ``values`` are not a floating map of four dimensions with ``channels``
            channels; labels are not integers, have another layout, batch size or device, or are
            empty; ``ignore_index`` is no integer of 32 bits; within a transform of torch.func.
    """
    if _within_transform():
        raise LossInputError(
            "The losses cannot be computed within torch.func (vmap, grad, jacrev); call them on "
            "the whole batch and take gradients with torch.autograd.grad or backward()."
        )
    check_map(values, channels=channels, name=name)
    check_ignore_index(ignore_index)
    if labels.dtype not in INTEGER_TYPES:
        raise LossInputError(
            f"The labels are {labels.dtype}, but class ids are integers; convert them with .long()."
        )
    layout = tuple(labels.shape)
    if labels.dim() not in (3, 4) or (labels.dim() == 4 and layout[1] != 1) or 0 in layout:
        raise LossInputError(
            f"The labels must be (B, H, W) or (B, 1, H, W), but have the shape {layout}; give one "
            "class id a pixel, not one-hot maps."
        )
    if layout[0] != len(values):
        raise LossInputError(
            f"There are {layout[0]} label maps for {len(values)} images; give one an image."
        )
    if labels.device != values.device:
        raise LossInputError(
            f"The labels are on {labels.device}, but the {name} on {values.device}; move the "
            f"labels with .to({str(values.device)!r})."
        )
    return _as_int32(labels.squeeze(1) if labels.dim() == 4 else labels)


def check_range(ids: Tensor, num_classes: int, ignore_index: int) -> None:
    """Check that ids are classes or the ignore value, on the CPU, where it costs no waiting.

    Other devices raise their own assertion when an id indexes memory.

    Args:
        ids: what :func:`checked_labels` returned.
        num_classes: K.
        ignore_index: label value that takes no part.

    Raises:
        LabelRangeError: an id is neither.
    """
    if ids.device.type != "cpu" or torch.compiler.is_compiling() or type(ids) is not Tensor:
        return
    wrong = int((((ids < 0) | (ids >= num_classes)) & (ids != ignore_index)).sum())
    if wrong:
        raise LabelRangeError(wrong, num_classes, ignore_index)


def _as_int32(labels: Tensor) -> Tensor:
    if labels.dtype in _NARROW:
        return labels.to(torch.int32)
    wide = labels.to(torch.int64)
    if labels.dtype == torch.uint64:  # above 2⁶³ the conversion wraps to negative values
        wide = torch.where(wide < 0, _INT32.max, wide)
    # the largest value stands for everything beyond: 2³² + 1 must not become class 1
    return wide.clamp(_INT32.min, _INT32.max).to(torch.int32)
