"""Memory that is exhausted: how libraries say so, and what can be done about it."""

from __future__ import annotations

import errno

from experiments.declare.training import Training

#: of torch, NumPy and OpenCV, in lower case
_WORDS = (
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "insufficient memory",
    "out of memory",
    "unable to allocate",
)


def is_exhausted(error: BaseException) -> bool:
    """Whether an error says that no more memory could be had."""
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    own = isinstance(error, RuntimeError) or type(error).__module__.startswith(("cv2", "torch"))
    return own and any(words in str(error).lower() for words in _WORDS)


def memory_sentence(training: Training, processes: int = 1) -> str:
    """What did not fit, and the options that make it smaller.

    Args:
        training: how the run is trained.
        processes: that share every batch.
    """
    batch, parts = training.batch, training.accumulation
    at_once = batch // (parts * processes)
    finer = next((n for n in range(parts + 1, batch // processes + 1) if _fits(batch, n)), None)
    smaller = f"`--accumulation {finer}`" if finer else "a profile with a smaller crop"
    return (
        f"Memory is exhausted: of a batch of {batch} images, {at_once} at a time "
        f"(accumulation {parts}) do not fit beside what else runs. Give the same command again "
        f"with {smaller}, or with `--jobs 1` if several runs train at once."
    )


def _fits(batch: int, accumulation: int) -> bool:
    return batch % accumulation == 0
