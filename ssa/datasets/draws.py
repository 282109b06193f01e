"""Random numbers that are the same bytes on every machine and under every numpy version."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


class Draws:
    """A stream of uniform draws named by a tuple of values.

    numpy guarantees the raw words of a bit generator for ever, but not what ``Generator`` makes
    of them (NEP 19). So only the raw 64-bit words of Philox are used, turned into fractions by
    one shift and one exact multiplication.

    Args:
        name: what the stream is for, for instance ("scenes", seed, "train", 17).
    """

    def __init__(self, *name: object) -> None:
        key = hashlib.sha256(repr(name).encode()).digest()[:16]
        self._words = np.random.Philox(key=int.from_bytes(key, "little"))

    def fractions(self, *shape: int) -> NDArray[np.float64]:
        """Uniform draws in [0, 1) of the given shape."""
        words = np.asarray(self._words.random_raw(int(np.prod(shape, dtype=int))), dtype=np.uint64)
        return ((words >> np.uint64(11)).astype(np.float64) * 2.0**-53).reshape(shape)

    def fraction(self) -> float:
        """One uniform draw in [0, 1)."""
        return (int(self._words.random_raw()) >> 11) * 2.0**-53

    def between(self, low: float, high: float) -> float:
        """One uniform draw in [low, high)."""
        return low + (high - low) * self.fraction()

    def integer(self, low: int, high: int) -> int:
        """One uniform integer in low … high, both included; ``low`` if the range is empty."""
        return low + int(self.fraction() * (high - low + 1)) if high > low else low

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self.fraction() < probability

    def choice(self, things: Sequence[T]) -> T:
        """One of ``things``."""
        return things[self.integer(0, len(things) - 1)]

    def sample(self, things: Sequence[T], count: int) -> list[T]:
        """``count`` different ones of ``things``, in drawn order."""
        rest = list(things)
        return [rest.pop(self.integer(0, len(rest) - 1)) for _ in range(min(count, len(rest)))]
