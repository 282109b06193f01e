"""Colours for data sets with too many classes to choose them by hand."""

from __future__ import annotations


def colours(count: int) -> tuple[tuple[int, int, int], ...]:
    """``count`` distinct RGB colours, 1 ≤ count ≤ 255: PASCAL VOC's rule, without its black.

    The bits of i = 1, 2, … go in turn to red, green and blue, the lowest to the highest bit.
    """
    return tuple(_colour(index + 1) for index in range(count))


def _colour(index: int) -> tuple[int, int, int]:
    channels = [0, 0, 0]
    for bit in range(8):
        channels[bit % 3] |= (index >> bit & 1) << (7 - bit // 3)
    return channels[0], channels[1], channels[2]
