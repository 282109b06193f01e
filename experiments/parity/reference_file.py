"""Files of reference values: the one way in which the comparisons read them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.files import read_bounded
from experiments.store.arrays import npz_arrays
from ssa.errors import SsaError

#: bytes that a file, and the arrays in it, may have: a network's feature maps
MOST_BYTES = 4 << 30


class ReferenceFileError(SsaError):
    """A file of reference values that is missing, cannot be read or has another form."""


def read_arrays(path: Path, names: Sequence[str] = (), *, form: str) -> dict[str, np.ndarray]:
    """All arrays of an npz file.

    Args:
        path: the file.
        names: arrays that it must have.
        form: what describes such files or is one, for the message.

    Raises:
        ReferenceFileError: no such file, no npz, or an array is missing.
    """
    try:
        arrays = npz_arrays(read_bounded(path, MOST_BYTES), MOST_BYTES)
    except (OSError, ValueError) as error:
        raise unreadable(path, error, form) from None
    missing = [name for name in names if name not in arrays]
    if missing:
        more = f" and {len(missing) - 1} more" if missing[1:] else ""
        raise ReferenceFileError(
            f"{path} lacks {missing[0]}{more}; give a file in the form of {form}."
        )
    return arrays


def unreadable(path: Path, error: Exception, form: str) -> ReferenceFileError:
    """The error about a file that does not open as what it should be."""
    return ReferenceFileError(
        f"Cannot read reference values from {path} ({error}); give a file in the form of {form}."
    )
