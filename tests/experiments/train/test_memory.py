"""Memory that is exhausted is a sentence with the options that help."""

from __future__ import annotations

import errno

import cv2
import numpy as np
import pytest
import torch
from samples import make_training

from experiments.train.memory import is_exhausted, memory_sentence


def raised(kind: str) -> BaseException:
    """A real error of each library, of a petabyte."""
    try:
        if kind == "torch":
            torch.empty(1 << 50, dtype=torch.uint8)
        elif kind == "numpy":
            np.zeros(1 << 56, np.uint8)
        elif kind == "python":
            bytearray(1 << 60)
        elif kind == "system":
            raise OSError(errno.ENOMEM, "Cannot allocate memory")
        elif kind == "card":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        else:
            raise cv2.error("Insufficient memory (Failed to allocate 12 bytes)")
    except (RuntimeError, MemoryError, OSError, cv2.error) as error:
        return error
    raise AssertionError(f"{kind} had a petabyte")


@pytest.mark.parametrize("kind", ["torch", "numpy", "python", "system", "card", "opencv"])
def test_every_library_is_understood(kind: str) -> None:
    assert is_exhausted(raised(kind))


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("sizes"), ValueError()]
)
def test_other_errors_are_no_lack_of_memory(error: Exception) -> None:
    assert not is_exhausted(error)


def test_the_sentence_names_batch_accumulation_and_the_next_one_that_divides() -> None:
    said = memory_sentence(make_training(batch=8, accumulation=2))
    assert "a batch of 8 images, 4 at a time (accumulation 2)" in said
    assert "`--accumulation 4`, or with `--jobs 1`" in said
    said = memory_sentence(make_training(batch=8, accumulation=8))
    assert "1 at a time" in said
    assert "a profile with a smaller crop" in said
