"""The single steps of preparing a data set: each makes one file, whole or not at all."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ssa.datasets.base import DataError
from ssa.datasets.rle import decode_mask


class Task(Protocol):
    """One file to be made; picklable, so that a worker process can do it."""

    @property
    def target(self) -> Path:
        """The file that the task makes."""

    def run(self) -> None:
        """Make it.

        Raises:
            DataError: if its source is absent, unreadable or not what it should be.
        """


@dataclass(frozen=True)
class LinkFile:
    """A file taken over as it is: hard-linked where the file system can, copied elsewhere."""

    source: Path
    target: Path

    def run(self) -> None:
        """See Task."""
        if not self.source.is_file():
            raise DataError(f"{self.source} is not there.")

        def take_over(temporary: Path) -> None:
            temporary.unlink()
            try:
                os.link(self.source.resolve(), temporary)
            except OSError:
                shutil.copyfile(self.source, temporary)

        atomically(self.target, take_over)


@dataclass(frozen=True)
class WriteText:
    """A small text file, such as a split's list."""

    target: Path
    text: str

    def run(self) -> None:
        """See Task."""
        atomically(self.target, lambda temporary: temporary.write_text(self.text))


@dataclass(frozen=True)
class LabelFromMat:
    """An annotation PNG from a MATLAB file's matrix of ids."""

    source: Path
    target: Path
    variable: str  # name of the matrix
    table: NDArray[np.int16]  # id → id in the PNG; −1: an id that must not occur

    def run(self) -> None:
        """See Task."""
        ids = matrix_of(self.source, self.variable)
        write_label(self.target, translated(ids, self.table, str(self.source)))


@dataclass(frozen=True)
class LabelFromRuns:
    """An annotation PNG from run-length coded masks; a later mask covers an earlier one."""

    source: str  # for messages
    target: Path
    size: tuple[int, int]  # (height, width)
    masks: tuple[tuple[int, str | Sequence[int]], ...]  # (id, counts), in the file's order
    table: NDArray[np.int16]

    def run(self) -> None:
        """See Task."""
        ids = np.zeros(self.size, np.int64)
        for category, counts in self.masks:
            ids[self._mask(category, counts)] = category
        write_label(self.target, translated(ids, self.table, self.source))

    def _mask(self, category: int, counts: str | Sequence[int]) -> NDArray[np.bool_]:
        try:
            return decode_mask(counts, *self.size)
        except ValueError as error:
            raise DataError(f"{self.source}: a mask of category {category}: {error}.") from None


def translated(ids: NDArray[Any], table: NDArray[np.int16], source: str) -> NDArray[np.uint8]:
    """``ids`` (H, W) through ``table``, refusing what it does not know.

    Raises:
        DataError: if it is not a matrix of ids or has one that must not occur.
    """
    if ids.ndim != 2 or ids.size == 0:
        raise DataError(f"{source} holds an array of shape {ids.shape}, expected a picture of ids.")
    whole = ids.astype(np.int64)
    known = (whole == ids) & (whole >= 0) & (whole < len(table))
    labels = table[np.where(known, whole, 0)]
    if not known.all() or (labels < 0).any():
        wrong = np.unique(ids[~known | (labels < 0)])[:5]
        raise DataError(
            f"{source} holds the label {', '.join(f'{v:g}' for v in wrong)}, which no class has."
        )
    return labels.astype(np.uint8)


def matrix_of(source: Path, variable: str) -> NDArray[Any]:
    """A matrix of a MATLAB file, or a field of a structure there (``GTcls.Segmentation``).

    Raises:
        DataError: if the file is absent or unreadable, or has no such matrix.
    """
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    name, _, field = variable.partition(".")
    try:
        content = loadmat(str(source), variable_names=[name])
    except FileNotFoundError as error:
        raise DataError(f"{source} is not there.") from error
    except NotImplementedError as error:  # scipy's word for version 7.3, which is HDF5
        raise DataError(
            f"{source} is a MATLAB 7.3 file; the data set's own files are older ones."
        ) from error
    except (OSError, ValueError, TypeError, EOFError, MatReadError, zlib.error) as error:
        raise DataError(f"Cannot read {source}: {error}.") from error
    matrix = content.get(name)
    if field and matrix is not None:
        known = matrix.dtype.names or ()
        matrix = matrix[field].item() if field in known and matrix.size == 1 else None
    if matrix is None:
        raise DataError(f"{source} has no matrix '{variable}'.")
    return np.asarray(matrix)


def unlisted(root: Path, names: Iterable[str]) -> list[str]:
    """Those of ``names`` that are not under ``root``."""
    return [name for name in names if not (root / name).exists()]


def write_label(target: Path, labels: NDArray[np.uint8]) -> None:
    """Write an annotation (H, W) as PNG, whole or not at all."""
    buffer = io.BytesIO()
    Image.fromarray(labels).save(buffer, format="PNG")
    atomically(target, lambda temporary: temporary.write_bytes(buffer.getvalue()))


def atomically(target: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` make a file beside ``target``, and rename it when it is whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".")
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        if temporary.stat().st_nlink == 1:  # not of a link: that would change the source's mode
            temporary.chmod(0o644)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
