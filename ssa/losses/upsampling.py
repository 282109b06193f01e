"""Bilinear upsampling as two blends: which two source lines an output line mixes, and how."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple, ParamSpec, TypeVar

import torch
from torch import Tensor


class Blend(NamedTuple):
    """Output line i is ``(1 − share_i)·source[low_i] + share_i·source[high_i]``."""

    #: (out,) int32
    low: Tensor
    #: (out,) int32; low + 1, or low on the last line
    high: Tensor
    #: (out,)
    share: Tensor


_P = ParamSpec("_P")
_T = TypeVar("_T")


def _kept(maxsize: int) -> Callable[[Callable[_P, _T]], Callable[_P, _T]]:
    """Keep a function's results between calls, but not what a tensor mode makes of them.

    What is made under FakeTensorMode would be handed to every later call.
    """

    def decorate(function: Callable[_P, _T]) -> Callable[_P, _T]:
        remembering = functools.lru_cache(maxsize)(function)

        @functools.wraps(function)
        def call(*args: _P.args, **kwargs: _P.kwargs) -> _T:
            if type(torch.empty(0, device="cpu")) is not Tensor:
                return function(*args, **kwargs)
            with torch.inference_mode(False):
                return remembering(*args, **kwargs)  # type: ignore[arg-type]

        return call

    return decorate


@_kept(maxsize=256)
def blend(source: int, target: int, align_corners: bool, dtype: torch.dtype) -> Blend:
    """The blend of torch's bilinear ``interpolate`` from ``source`` to ``target`` lines (CPU)."""
    # the device is named: torch.device("meta") as a context must not reach these
    line = torch.arange(target, dtype=torch.float64, device="cpu")
    if align_corners:
        position = line * ((source - 1) / (target - 1) if target > 1 else 0.0)
    else:
        position = ((line + 0.5) * (source / target) - 0.5).clamp_min(0)
    low = position.floor().clamp_max(source - 1)
    high = (low + 1).clamp_max(source - 1)
    share = torch.where(high > low, position - low, 0)
    return Blend(low.int(), high.int(), share.to(dtype))


class Bands(NamedTuple):
    """An upsampling as matrix products on one device, some output lines at a time."""

    #: (W, w), along a row
    across: Tensor
    #: output lines, source lines, and the matrix (output lines, source lines) between them
    parts: tuple[tuple[slice, slice, Tensor], ...]
    #: the blends along columns and rows, their lines as int64
    rows: Blend
    columns: Blend


@_kept(maxsize=64)
def bands(
    source: tuple[int, int],
    target: tuple[int, int],
    height: int,
    align_corners: bool,
    dtype: torch.dtype,
    device: torch.device,
) -> Bands:
    """The upsampling from (h, w) to (H, W) in bands of ``height`` output lines.

    Kept between calls: a copy to a GPU would wait for it in every step.
    """
    rows = blend(source[0], target[0], align_corners, dtype)
    columns = blend(source[1], target[1], align_corners, dtype)
    parts = []
    for first in range(0, target[0], height):
        last = min(first + height, target[0])
        low, high = int(rows.low[first]), int(rows.high[last - 1]) + 1
        matrix = blend_matrix(rows, first, last, low, high).to(device)
        parts.append((slice(first, last), slice(low, high), matrix))

    def there(plan: Blend) -> Blend:
        low, high = plan.low.long().to(device), plan.high.long().to(device)
        return Blend(low, high, plan.share.to(device))

    across = blend_matrix(columns, 0, target[1], 0, source[1]).to(device)
    return Bands(across, tuple(parts), there(rows), there(columns))


def blend_matrix(plan: Blend, first: int, last: int, start: int, stop: int) -> Tensor:
    """Rows [first, last) of the blend as a matrix on source lines [start, stop)."""
    rows = last - first
    matrix = torch.zeros(rows, stop - start, dtype=plan.share.dtype, device="cpu")
    line = torch.arange(rows, device="cpu")
    share = plan.share[first:last]
    matrix.index_put_((line, plan.low[first:last].long() - start), 1 - share, accumulate=True)
    matrix.index_put_((line, plan.high[first:last].long() - start), share, accumulate=True)
    return matrix
