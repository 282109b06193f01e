"""Where a data set's files are and what they contain, as far as a run's identity needs it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from experiments.declare.profile import DataChoice
from experiments.errors import StoreError
from experiments.files import parsed_json, read_bounded, write_atomically
from experiments.store.workspace import Workspace
from ssa.datasets import DATASETS
from ssa.datasets.base import DataError, DataSet
from ssa.datasets.folder import DESCRIPTION, find, own_settings
from ssa.datasets.scenes import META, ScenesParameters, ensure
from ssa.errors import ConfigurationError, SsaError

#: of what :func:`_checked_pairs` looks at; another number looks anew
_CHECK_VERSION = 1
_MOST_DESCRIBED = 4 << 20  # bytes of a data set's description
_MOST_KEPT = 256 << 20  # bytes of what is kept of a data set: a picture's digest has some 150
_SCENES = TypeAdapter(ScenesParameters)


@dataclass(frozen=True)
class Located:
    """A data set that is there and whole."""

    name: str
    root: Path
    digest: str  # sha256 of its content
    settings: dict[str, Any]  # with every default filled in
    working_size: tuple[int, int] | None  # images are reduced once to fit it
    num_classes: int
    class_names: tuple[str, ...]
    splits: tuple[str, ...] = ()
    training_split: str = "train"  # that the data set names, where no protocol does
    evaluation_split: str = "val"
    #: split → why it is of no use to train or to score on, a sentence
    unfit: Mapping[str, str] = field(default_factory=dict)

    def fault(self, split: str, purpose: str) -> str | None:
        """Why a split cannot be taken, a sentence; None if it can.

        Args:
            split: its name.
            purpose: "train" or "score", for the sentence.
        """
        if split not in self.splits:
            known = ", ".join(self.splits)
            return (
                f"The profile would {purpose} on the split {split} of {self.name}, which has only "
                f"{known}; name one of these as its train_split or evaluation.split, or none."
            )
        return self.unfit.get(split)


def locate(choice: DataChoice, workspace: Workspace, *, anew: bool = False) -> Located:
    """Find a data set, or make it where it is one that we make.

    Args:
        choice: the data set and its settings.
        workspace: where it is looked for.
        anew: look at the files again, though this process has done so.

    Raises:
        SsaError: unknown name, not there, not whole; the sentence says how to get it.
    """
    if anew:
        _locate.cache_clear()
    located = _locate(choice.name, json.dumps(choice.settings, sort_keys=True), workspace)
    return replace(located, working_size=choice.working_size)


def absent(choice: DataChoice, workspace: Workspace) -> Located | None:
    """What a data set that is not there would be, without a digest; None if nobody knows it."""
    try:
        dataset = _found(choice.name, workspace.data_root)
        filled = _filled(dataset, choice.settings)
    except SsaError:
        return None
    nowhere = workspace.data_root / choice.name
    return Located(choice.name, nowhere, "", filled, choice.working_size, *_facts(dataset))


def _facts(dataset: DataSet) -> tuple[int, tuple[str, ...], tuple[str, ...], str, str]:
    """What a data set is without its files, in the order of :class:`Located`'s fields."""
    classes, splits = tuple(dataset.class_names), dataset.splits
    return len(classes), classes, splits, dataset.training_split, dataset.evaluation_split


@lru_cache(maxsize=32)
def _locate(name: str, settings: str, workspace: Workspace) -> Located:
    dataset = _found(name, workspace.data_root)
    filled = _filled(dataset, json.loads(settings))
    unfit: dict[str, str] = {}
    if name == "scenes":
        root, digest = _scenes(workspace.cache, ScenesParameters(**filled))
    else:
        root = dataset.locate(workspace.data_root)
        dataset.check(root)
        digest = _digest(dataset, root, workspace.cache)
        unfit = _checked_pairs(dataset, root, digest, workspace)
    return Located(name, root, digest, filled, None, *_facts(dataset), unfit)


def _found(name: str, data_root: Path) -> DataSet:
    """The data set of a name.

    Raises:
        SsaError: nobody knows it, or its description is wrong.
    """
    where = data_root / name / DESCRIPTION
    if name not in DATASETS:
        _refuse_large(where, _MOST_DESCRIBED, "write it as docs/bring_your_own.md shows")
    try:
        return find(name, data_root)
    except RecursionError:
        raise DataError(
            f"The description of {name} in {data_root} is nested without end; write it as "
            "docs/bring_your_own.md shows, then give the same command again."
        ) from None


def _scenes(cache: Path, parameters: ScenesParameters) -> tuple[Path, str]:
    """The folder of the made scenes and the digest of its content.

    Raises:
        DataError: they cannot be made, or are damaged.
    """
    for path in cache.glob(f"scenes-*/{META}"):
        _refuse_large(path, _MOST_DESCRIBED, f"delete {path.parent} and it is made again")
    try:
        root = ensure(cache, parameters)
        return root, parsed_json(read_bounded(root / META, _MOST_DESCRIBED))["content_sha256"]
    except (ValueError, LookupError, TypeError, RecursionError):
        raise DataError(
            f"Scenes in {cache} are damaged: delete {cache / 'scenes-*'} and they are made again."
        ) from None


def _refuse_large(path: Path, most: int, remedy: str) -> None:
    """Look at a file before memory is taken for it; that there is none is said by who reads it.

    Raises:
        DataError: it is larger, or no file.
    """
    try:
        found = path.stat()
    except (OSError, ValueError):
        return
    if not stat.S_ISREG(found.st_mode) or found.st_size > most:
        raise DataError(
            f"{path} is no regular file, or has {found.st_size} bytes, where at "
            f"most {most} are read; {remedy}."
        )


def _digest(dataset: DataSet, root: Path, cache: Path) -> str:
    """The digest of a data set's content; where what is kept of it is damaged, of every file anew.

    Raises:
        DataError: a file cannot be read, or has a name that no record could hold.
    """
    from ssa.datasets.digest import content_digest

    for path in cache.glob("digest-*.json"):
        _refuse_large(path, _MOST_KEPT, "delete it and it is made again")
    try:
        return content_digest(dataset, root, dataset.splits, cache)
    except (AttributeError, TypeError, RecursionError):  # of JSON that is no dictionary of lists
        return content_digest(dataset, root, dataset.splits)


def _checked_pairs(
    dataset: DataSet, root: Path, digest: str, workspace: Workspace
) -> dict[str, str]:
    """Splits of no use and why; every pair is looked at, once a content.

    The masks of a user's own data set are all decoded; of a published one, which ``data verify``
    knows by its numbers of images, the headers.

    Raises:
        DataError: about the first pair that is wrong.
    """
    from ssa.datasets.verify import check_pairs

    own = own_settings(dataset)
    text = json.dumps([_CHECK_VERSION, digest, dataset.name, own])
    seen = workspace.cache / f"labels-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
        known = parsed_json(read_bounded(seen, _MOST_KEPT))
        return {str(split): str(sentence) for split, sentence in known["unfit"].items()}
    unfit = check_pairs(dataset, root, every_value=bool(own))
    with contextlib.suppress(StoreError):  # not remembered is only slower
        write_atomically(seen, json.dumps({"data set": dataset.name, "unfit": unfit}))
    return unfit


def _filled(dataset: DataSet, given: dict[str, Any]) -> dict[str, Any]:
    """The settings of a data set with every default filled in; its files are not looked at.

    Raises:
        ConfigurationError: a setting that it does not have, or another value than it is described
            with.
    """
    if dataset.name == "scenes":
        try:
            return asdict(_SCENES.validate_python(given))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise ConfigurationError(f"Setting '{where}' of scenes: {first['msg']}.") from None
    filled = own_settings(dataset)
    if given and given != filled:
        raise ConfigurationError(
            f"The data set {dataset.name} is described otherwise now than the run was made with; "
            "give the command that made the run again."
            if given.keys() == filled.keys()
            else f"The data set {dataset.name} takes no settings, but {', '.join(given)} was given."
        )
    return filled
