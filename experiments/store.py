"""The folder of results: one sub-folder a run, complete or not there.

::

    results/runs/<run id>/spec.json        what is to be run
                          lock             held (flock) by the process that trains it
                          progress.json    how far it is, for the watcher
                          checkpoint.pth   the last state, until the record is written
                          failure.json     why the last attempt ended, if it failed
                          config.py        the resolved mmengine config
                          log.txt          what the training process printed
                          per_image.npz    areas per image and class
                          weights.pth      the trained network, for figures and re-scoring
                          inspection.npz   what figures need of it, once extracted
                          record.json      written last: from now on the run exists
"""

from __future__ import annotations

import ast
import contextlib
import fcntl
import hashlib
import io
import json
import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from experiments.errors import CorruptRecordError, StoreError
from experiments.files import write_atomically, writing
from experiments.records import Failure, Record, seal, unseal
from experiments.schema import RunSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from experiments.evaluate import ImageAreas


@dataclass(frozen=True)
class RunFolder:
    """The files of one run."""

    path: Path

    @property
    def spec(self) -> Path:
        """The resolved spec."""
        return self.path / "spec.json"

    @property
    def lock(self) -> Path:
        """Held by the training process."""
        return self.path / "lock"

    @property
    def progress(self) -> Path:
        """How far the run is."""
        return self.path / "progress.json"

    @property
    def checkpoint(self) -> Path:
        """State to resume from."""
        return self.path / "checkpoint.pth"

    @property
    def failure(self) -> Path:
        """Why the last attempt failed."""
        return self.path / "failure.json"

    @property
    def config(self) -> Path:
        """Resolved mmengine config."""
        return self.path / "config.py"

    @property
    def log(self) -> Path:
        """Output of the training process."""
        return self.path / "log.txt"

    @property
    def per_image(self) -> Path:
        """Areas per image and class."""
        return self.path / "per_image.npz"

    @property
    def weights(self) -> Path:
        """The trained network's state_dict."""
        return self.path / "weights.pth"

    @property
    def record(self) -> Path:
        """The final record."""
        return self.path / "record.json"


class Store:
    """Reads and writes runs below one results folder.

    Args:
        root: the results folder; made when first written to.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    @property
    def runs(self) -> Path:
        """Where the runs' folders are."""
        return self.root / "runs"

    def folder(self, run_id: str) -> RunFolder:
        """The files of the run ``run_id``, there or not."""
        return RunFolder(self.runs / run_id)

    def run_ids(self) -> list[str]:
        """Every run that has a record, whole or not, sorted."""
        return sorted(path.parent.name for path in self.runs.glob("*/record.json"))

    def read(self, run_id: str) -> Record | None:
        """The record of a run, or None if it has none.

        Raises:
            CorruptRecordError: the record or its areas are truncated or changed.
        """
        folder = self.folder(run_id)
        try:
            raw = folder.record.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(
                f"{folder.record} cannot be read ({error.strerror}); mend its permissions or name "
                "another folder with --results."
            ) from None
        try:
            record = Record.model_validate(unseal(raw.decode()))
        except (ValueError, ValidationError) as error:
            reason = str(error).splitlines()[0]
            raise CorruptRecordError(f"{folder.record} is damaged ({reason}).") from None
        try:
            digest = hashlib.sha256(folder.per_image.read_bytes()).hexdigest()
        except FileNotFoundError:
            raise CorruptRecordError(f"{folder.per_image} is missing beside its record.") from None
        if digest != record.per_image_sha256:
            raise CorruptRecordError(f"{folder.per_image} is damaged (checksum).")
        return record

    def peek(self, run_id: str) -> dict[str, Any] | None:
        """The document of a run's record as it stands, unchecked; None: none, or not readable.

        For searching thousands; what is then used is taken from :meth:`read`.
        """
        try:
            document = json.loads(self.folder(run_id).record.read_bytes())
        except (OSError, ValueError):
            return None
        return document if isinstance(document, dict) else None

    def read_areas(self, run_id: str) -> ImageAreas:
        """The areas per image of a run whose record is whole."""
        from experiments.evaluate import ImageAreas

        arrays = npz_arrays(self.folder(run_id).per_image.read_bytes())
        return ImageAreas(
            names=tuple(map(str, arrays["names"])),
            intersection=arrays["intersection"].astype("int64"),
            predicted=arrays["predicted"].astype("int64"),
            labelled=arrays["labelled"].astype("int64"),
        )

    def read_failure(self, run_id: str) -> Failure | None:
        """Why the last attempt failed, or None."""
        try:
            return Failure.model_validate_json(self.folder(run_id).failure.read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def write_spec(self, spec: RunSpec) -> RunFolder:
        """Make the folder of a run and put its spec there.

        Raises:
            StoreError: the disk is full or may not be written.
        """
        folder = self.folder(spec.run_id)
        write_atomically(folder.spec, json.dumps(spec.model_dump(mode="json"), indent=1))
        return folder

    def write_record(self, record: Record, areas: bytes, weights: bytes | None = None) -> None:
        """Write weights and areas, then the record; then drop what only resuming needed.

        Args:
            record: the final word.
            areas: of every image, as ``ImageAreas.to_bytes`` gives them.
            weights: the trained network as torch saved it; None: there is none to keep.

        Raises:
            StoreError: the disk is full or may not be written.
        """
        folder = self.folder(record.run_id)
        if weights is not None:
            write_atomically(folder.weights, weights)
        write_atomically(folder.per_image, areas)
        write_atomically(folder.record, seal(record.model_dump(mode="json")))
        for path in (folder.checkpoint, folder.failure, folder.progress):
            path.unlink(missing_ok=True)

    def set_aside(self, run_id: str) -> Path | None:
        """Rename a damaged record so that the run can be made again; nothing is deleted.

        Returns its new name; None if another call has dealt with it in the meantime.
        """
        folder = self.folder(run_id)
        with run_lock(folder) as mine:
            if not mine:
                return None
            try:
                self.read(run_id)
            except CorruptRecordError:
                return _rename(folder.record, "damaged")
        return None

    def set_whole_aside(self, run_id: str) -> Path | None:
        """Rename a whole record and its areas so that the run is made anew; nothing is deleted.

        Returns the record's new name; None if there is no record or another call trains the run.

        Raises:
            CorruptRecordError: the record is damaged.
        """
        folder = self.folder(run_id)
        with run_lock(folder) as mine:
            if not mine or self.read(run_id) is None:
                return None
            aside = _rename(folder.record, "replaced")  # first: areas without a record are nothing
            _rename(folder.per_image, "replaced")
            return aside


def _rename(path: Path, word: str) -> Path:
    """Give a file the next free name ``<name>.<word><number>``."""
    taken = len(list(path.parent.glob(f"{path.name}.{word}*")))
    aside = path.with_name(f"{path.name}.{word}{taken or ''}")
    with writing(aside):
        path.replace(aside)
    return aside


@contextlib.contextmanager
def run_lock(folder: RunFolder) -> Iterator[bool]:
    """Hold the lock of a run; yields False at once if another process holds it.

    The kernel drops the lock when its holder dies, however it dies.

    Raises:
        StoreError: the lock file cannot be written.
    """
    with writing(folder.lock):
        folder.path.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder.lock, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)


def is_locked(folder: RunFolder) -> bool:
    """Whether a living process trains this run now."""
    if not folder.lock.exists():
        return False
    with run_lock(folder) as mine:
        return not mine


def npz_bytes(**arrays: object) -> bytes:
    """Compressed npz of arrays as bytes; equal arrays give equal bytes."""
    import numpy as np

    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def npz_arrays(raw: bytes) -> dict[str, NDArray[Any]]:
    """The arrays of :func:`npz_bytes`, in a third of the time of numpy.load; checks their CRCs.

    What takes numpy long are the headers, which a store's thousands of files share.

    Raises:
        ValueError, zipfile.BadZipFile: not what npz_bytes wrote.
    """
    with zipfile.ZipFile(io.BytesIO(raw)) as file:
        return {name.removesuffix(".npy"): _npy_array(file.read(name)) for name in file.namelist()}


def _npy_array(raw: bytes) -> NDArray[Any]:
    import numpy as np

    if raw[:8] != b"\x93NUMPY\x01\x00":
        return np.asarray(np.lib.format.read_array(io.BytesIO(raw), allow_pickle=False))
    start = 10 + int.from_bytes(raw[8:10], "little")
    dtype, order, shape = _npy_header(raw[10:start])
    return np.frombuffer(raw, dtype, offset=start).reshape(shape, order=order)


@lru_cache(maxsize=256)
def _npy_header(text: bytes) -> tuple[Any, Literal["C", "F"], tuple[int, ...]]:
    import numpy as np

    header = ast.literal_eval(text.decode("latin1"))
    dtype = np.dtype(header["descr"])
    if dtype.hasobject:
        raise ValueError("an array of Python objects is not read")
    return dtype, "F" if header["fortran_order"] else "C", header["shape"]
