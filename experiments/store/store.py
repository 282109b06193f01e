"""The folder of results: one sub-folder a run, complete or not there.

::

    results/runs/<run id>/spec.json        what is to be run
                          lock             held (flock) by the process that trains it
                          owner.json       by whom, for other hosts; touched while it lives
                          checkpoint.code.json   with what code the checkpoint was made
                          progress.json    how far it is, for the watcher
                          notice.txt       what it has to say to its caller, until that took it
                          checkpoint.pth   the last state, until the record is written
                          failure.json     why the last attempt ended, if it failed
                          submission.json  which job of a cluster has it, or had
                          jobs.jsonl       what jobs did with it and on which nodes, a line each
                          config.py        the resolved mmengine config
                          log.txt          what the training process printed
                          per_image.npz    areas per image and class
                          weights.pth      the trained network, for figures and re-scoring
                          inspection.npz   what figures need of it, once extracted
                          distances.npz    of its features from the prototypes, likewise
                          record.json      written last: from now on the run exists
"""

from __future__ import annotations

import hashlib
import itertools
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from experiments.declare.run_spec import RunSpec
from experiments.errors import CorruptRecordError, StoreError
from experiments.files import (
    parsed_json,
    read_bounded,
    strict_json,
    write_atomically,
    writing,
)
from experiments.store.arrays import MOST_BYTES, npz_arrays
from experiments.store.folder import RunFolder
from experiments.store.lock import run_lock
from experiments.store.records import RECORD_VERSION, Failure, Record, seal, unseal

if TYPE_CHECKING:
    from experiments.store.areas import ImageAreas

#: bytes that a record may have: the largest of ours has a thousandth
MOST_OF_A_RECORD = 64 << 20
#: ids that a label of 16 bits can hold
MOST_CLASSES = 1 << 16
#: what a name of a run may not hold: it is the name of one folder in runs/
_NO_NAME = re.compile(r"[/\\\0]|^\.{0,2}$")


def read_spec(folder: RunFolder) -> RunSpec:
    """What is to be run in a folder, as its file has it.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: it is no spec, or larger than one may be.
    """
    return RunSpec.model_validate_json(read_bounded(folder.spec, MOST_OF_A_RECORD))


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
        """The files of the run ``run_id``, there or not.

        Raises:
            StoreError: it is no name of a folder, but a way out of this one.
        """
        if _NO_NAME.search(run_id):
            raise StoreError(
                f"{run_id!r} is no run's name: it leads out of {self.runs}. `./run_all.sh status` "
                "shows what is stored."
            )
        return RunFolder(self.runs / run_id)

    def run_ids(self) -> list[str]:
        """Every run that has a record, whole or not, sorted."""
        names = (path.parent.name for path in self.runs.glob("*/record.json"))
        return sorted(name for name in names if not _NO_NAME.search(name))

    def read(self, run_id: str) -> Record | None:
        """The record of a run, or None if it has none.

        Raises:
            CorruptRecordError: the record or its areas are truncated or changed.
            StoreError: they cannot be read, or a newer version of this project wrote them.
        """
        return read_record(self.folder(run_id), run_id)

    def peek(self, run_id: str) -> dict[str, Any] | None:
        """The document of a run's record as it stands, unchecked; None: none, or not readable.

        For searching thousands; what is then used is taken from :meth:`read`.
        """
        try:
            document = parsed_json(read_bounded(self.folder(run_id).record, MOST_OF_A_RECORD))
        except (OSError, ValueError):
            return None
        return document if isinstance(document, dict) else None

    def read_areas(self, run_id: str) -> ImageAreas:
        """The areas per image of a run whose record is whole.

        Raises:
            CorruptRecordError: they are damaged, or no areas.
            StoreError: they cannot be read.
        """
        path = self.folder(run_id).per_image
        try:
            return _areas(npz_arrays(read_bounded(path, MOST_BYTES)))
        except FileNotFoundError:
            raise CorruptRecordError(f"{path} is missing beside its record.") from None
        except OSError as error:
            raise _unreadable(path, error) from None
        except (ValueError, KeyError) as error:
            raise CorruptRecordError(f"{path} is damaged ({error}).") from None

    def read_failure(self, run_id: str) -> Failure | None:
        """Why the last attempt failed, or None."""
        try:
            raw = read_bounded(self.folder(run_id).failure, MOST_OF_A_RECORD)
            return Failure.model_validate_json(raw)
        except (OSError, ValueError):
            return None

    def write_spec(self, spec: RunSpec) -> RunFolder:
        """Make the folder of a run and put its spec there.

        Raises:
            StoreError: the disk is full or may not be written, or a link leads out of the folder.
        """
        folder = self.folder(spec.run_id)
        _refuse_links(folder)
        text = strict_json(spec.model_dump(mode="json"), str(folder.spec), indent=1)
        write_atomically(folder.spec, text)
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
        if folder.record.exists():  # made anew: the former one was valid until now, and is kept
            for path in (folder.record, folder.per_image):
                if path.exists():
                    write_atomically(_free_name(path, "replaced"), path.read_bytes())
        write_atomically(folder.per_image, areas)
        write_atomically(folder.record, seal(record.model_dump(mode="json")))
        ended = (folder.checkpoint, folder.checkpoint_code, folder.failure, folder.progress)
        for path in ended:
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
                return set_file_aside(folder.record, "damaged")
        return None


def read_record(folder: RunFolder, run_id: str) -> Record | None:
    """:meth:`Store.read` of a folder that lies anywhere."""
    try:
        document = unseal(read_bounded(folder.record, MOST_OF_A_RECORD).decode())
        _refuse_newer(document, folder)
        record = Record.model_validate(document)
        _refuse_another(record, run_id)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(folder.record, error) from None
    except ValueError as error:  # pydantic's is one as well
        problems = error.errors() if isinstance(error, ValidationError) else []
        if problems and all(each["type"] == "extra_forbidden" for each in problems):
            fields = ", ".join(".".join(map(str, each["loc"])) for each in problems)
            raise _newer(folder, f"it holds {fields}") from None
        reason = str(error).splitlines()[0]
        raise CorruptRecordError(f"{folder.record} is damaged ({reason}).") from None
    try:
        digest = hashlib.sha256(read_bounded(folder.per_image, MOST_BYTES)).hexdigest()
    except FileNotFoundError:
        raise CorruptRecordError(f"{folder.per_image} is missing beside its record.") from None
    except OSError as error:
        raise _unreadable(folder.per_image, error) from None
    except ValueError as error:
        raise CorruptRecordError(f"{folder.per_image} is damaged ({error}).") from None
    if digest != record.per_image_sha256:
        raise CorruptRecordError(f"{folder.per_image} is damaged (checksum).")
    return record


def _refuse_newer(document: dict[str, Any], folder: RunFolder) -> None:
    """A newer record is whole: setting it aside would take it from the checkout that wrote it.

    Raises:
        StoreError: this checkout cannot read the record.
    """
    version = document.get("version")
    if isinstance(version, int) and version > RECORD_VERSION:
        raise _newer(folder, f"version {version}, this one reads {RECORD_VERSION}")


def _refuse_another(record: Record, run_id: str) -> None:
    """A record is its folder's, and its network is no larger than any that there is.

    Raises:
        ValueError: it is another run's, copied here, or says more classes than a label can.
    """
    if record.run_id != run_id:
        raise ValueError(f"it is the record of {record.run_id}")
    if not 0 < record.spec.num_classes <= MOST_CLASSES:
        raise ValueError(f"it says {record.spec.num_classes} classes, at most {MOST_CLASSES} are")
    if len(record.class_names) != len(record.per_class_iou):
        names, scores = len(record.class_names), len(record.per_class_iou)
        raise ValueError(f"it names {names} classes and scores {scores}")


def _refuse_links(folder: RunFolder) -> None:
    """What is written for a run stays in its folder, also where somebody else has made that.

    Raises:
        StoreError: the folder, or a file in it, is a link to another place.
    """
    if not folder.path.exists() and not folder.path.is_symlink():
        return
    for path in (folder.path, *folder.path.iterdir()):
        if path.is_symlink():
            raise StoreError(
                f"{path} is a link to {path.readlink()}: a run is written into its own folder "
                f"only. Remove it (`rm {path}`), then give the same command again."
            )


def _areas(arrays: dict[str, Any]) -> ImageAreas:
    """Areas of arrays that fit each other.

    Raises:
        ValueError: they do not.
        KeyError: one is missing.
    """
    from experiments.store.areas import ImageAreas

    names = arrays["names"]
    counts = [arrays[name] for name in ("intersection", "predicted", "labelled")]
    if names.dtype.kind != "U" or names.ndim != 1:
        raise ValueError("its names are none")
    for count in counts:
        if count.dtype.kind not in "iu" or count.ndim != 2:
            raise ValueError("its areas are no counts by image and class")
        if count.shape != (len(names), counts[0].shape[1]) or (count.size and count.min() < 0):
            raise ValueError(f"areas {count.shape} of {len(names)} images, or below 0")
    return ImageAreas(tuple(map(str, names)), *(count.astype("int64") for count in counts))


def _unreadable(path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"{path} cannot be read ({error.strerror}); mend its permissions or name another folder "
        "with --results."
    )


def _newer(folder: RunFolder, reason: str) -> StoreError:
    return StoreError(
        f"{folder.record} was written by a newer version of this project ({reason}): update this "
        "checkout or name another folder with --results."
    )


def _free_name(path: Path, word: str) -> Path:
    """The next ``<name>.<word><number>`` that nothing has."""
    names = (path.with_name(f"{path.name}.{word}{number or ''}") for number in itertools.count())
    return next(name for name in names if not name.exists())


def set_file_aside(path: Path, word: str) -> Path:
    """Give a file the next free name ``<name>.<word><number>``."""
    aside = _free_name(path, word)
    with writing(aside):
        path.replace(aside)
    return aside
