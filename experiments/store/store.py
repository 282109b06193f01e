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

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from experiments.declare.run_spec import RunSpec
from experiments.errors import CorruptRecordError, StoreError
from experiments.files import write_atomically, writing
from experiments.store.records import Failure, Record, seal, unseal

if TYPE_CHECKING:
    from experiments.store.areas import ImageAreas
from experiments.store.arrays import npz_arrays
from experiments.store.folder import RunFolder
from experiments.store.lock import run_lock


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
        from experiments.store.areas import ImageAreas

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
