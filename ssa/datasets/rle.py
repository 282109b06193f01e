"""Run-length coded masks, as COCO's and PASCAL in Detail's JSON files hold them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def decode_mask(counts: str | Sequence[int], height: int, width: int) -> NDArray[np.bool_]:
    """The mask (height, width) of alternating runs of 0 and 1, column by column.

    Args:
        counts: run lengths, or their compressed text (see ``run_lengths``).

    Raises:
        ValueError: if the text is broken or the runs do not fill the mask exactly.
    """
    runs = run_lengths(counts) if isinstance(counts, str) else np.asarray(counts, np.int64)
    if (runs < 0).any() or int(runs.sum()) != height * width:
        raise ValueError(f"its runs cover {int(runs.sum())} pixels, not {height}×{width}")
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(width, height).T


def run_lengths(text: str) -> NDArray[np.int64]:
    """Run lengths from COCO's compressed text.

    Each character, less 48, is five bits of a number, lowest first; bit 5 says that more follow
    and bit 4 of the last is its sign. From the fourth number on it is the difference to the number
    before the last.
    """
    code = np.frombuffer(text.encode("ascii", "replace"), np.uint8).astype(np.int64) - 48
    if len(code) == 0:
        return code
    last = (code & 32) == 0
    if not last[-1] or (code < 0).any() or (code > 63).any():
        raise ValueError("its run-length text is broken off or not one")
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    digit = np.arange(len(code)) - np.repeat(starts, ends - starts + 1)
    numbers = np.add.reduceat((code & 31) << (5 * digit), starts)
    negative = (code[ends] & 16) != 0
    numbers -= np.where(negative, np.int64(1) << (5 * (ends - starts + 1)), 0)
    runs = numbers.copy()
    runs[1::2] = np.cumsum(numbers[1::2])
    runs[2::2] = np.cumsum(numbers[2::2])  # the third number is still itself, not a difference
    return runs
