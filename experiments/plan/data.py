"""Where a data set's files are and what they contain, as far as a run's identity needs it."""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from experiments.declare.profile import DataChoice
from experiments.errors import StoreError, sentence_of
from experiments.files import write_atomically
from experiments.store.workspace import Workspace
from ssa.datasets.base import DataError, DataSet
from ssa.datasets.folder import find, own_settings
from ssa.datasets.scenes import META, ScenesParameters, ensure
from ssa.errors import ConfigurationError, SsaError

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


def locate(choice: DataChoice, workspace: Workspace) -> Located:
    """Find a data set, or make it where it is one that we make.

    Raises:
        SsaError: unknown name, not there, not whole; the sentence says how to get it.
    """
    located = _locate(choice.name, json.dumps(choice.settings, sort_keys=True), workspace)
    return replace(located, working_size=choice.working_size)


def absent(choice: DataChoice, workspace: Workspace) -> Located | None:
    """What a data set that is not there would be, without a digest; None if nobody knows it."""
    try:
        dataset = find(choice.name, workspace.data_root)
        filled = _filled(dataset, choice.settings)
    except SsaError:
        return None
    nowhere = workspace.data_root / choice.name
    facts = dataset.num_classes, tuple(dataset.class_names)
    return Located(choice.name, nowhere, "", filled, choice.working_size, *facts)


@lru_cache(maxsize=32)
def _locate(name: str, settings: str, workspace: Workspace) -> Located:
    dataset = find(name, workspace.data_root)
    filled = _filled(dataset, json.loads(settings))
    if name == "scenes":
        root = ensure(workspace.cache, ScenesParameters(**filled))
        digest = json.loads((root / META).read_text())["content_sha256"]
    else:
        from ssa.datasets.digest import content_digest

        root = dataset.locate(workspace.data_root)
        dataset.check(root)
        digest = content_digest(dataset, root, dataset.splits, workspace.cache)
        if filled and (fault := _label_fault(name, root, digest, workspace)):
            raise DataError(fault)
    return Located(
        name, root, digest, filled, None, dataset.num_classes, tuple(dataset.class_names)
    )


@lru_cache(maxsize=32)
def _label_fault(name: str, root: Path, digest: str, workspace: Workspace) -> str:
    """What is wrong with the masks of a user's data set; all are opened, once a content."""
    from ssa.datasets.verify import check_labels

    dataset = find(name, workspace.data_root)
    key = hashlib.sha256(json.dumps([digest, own_settings(dataset)]).encode()).hexdigest()[:16]
    seen = workspace.cache / f"labels-{key}"
    if not seen.exists():
        try:
            check_labels(dataset, root)
        except DataError as error:
            return sentence_of(error)
        with contextlib.suppress(StoreError):  # not remembered is only slower
            write_atomically(seen, f"every mask of {name} holds its classes only\n")
    return ""


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
