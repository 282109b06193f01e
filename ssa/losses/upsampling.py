"""Bilinear upsampling as two blends: which two source lines an output line mixes, and how."""

from __future__ import annotations

import functools
from typing import NamedTuple

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


def blend(source: int, target: int, align_corners: bool, dtype: torch.dtype) -> Blend:
    """The blend of torch's bilinear ``interpolate`` from ``source`` to ``target`` lines (CPU).

    Kept between calls, but not what a tensor mode (FakeTensorMode) makes of it: that would be
    handed to every later call.
    """
    if type(torch.empty(0, device="cpu")) is not Tensor:
        return _new_blend(source, target, align_corners, dtype)
    with torch.inference_mode(False):
        return _kept_blend(source, target, align_corners, dtype)


@functools.lru_cache(maxsize=256)
def _kept_blend(source: int, target: int, align_corners: bool, dtype: torch.dtype) -> Blend:
    return _new_blend(source, target, align_corners, dtype)


def _new_blend(source: int, target: int, align_corners: bool, dtype: torch.dtype) -> Blend:
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


def blend_matrix(plan: Blend, first: int, last: int, start: int, stop: int) -> Tensor:
    """Rows [first, last) of the blend as a matrix on source lines [start, stop)."""
    rows = last - first
    matrix = torch.zeros(rows, stop - start, dtype=plan.share.dtype, device="cpu")
    line = torch.arange(rows, device="cpu")
    share = plan.share[first:last]
    matrix.index_put_((line, plan.low[first:last].long() - start), 1 - share, accumulate=True)
    matrix.index_put_((line, plan.high[first:last].long() - start), share, accumulate=True)
    return matrix
