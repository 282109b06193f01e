"""Pretrained files: the manifest, what is there, and strict loading with conversion of names.

Nothing is downloaded here. A missing file is an error that says where it is published and where it
belongs. Files are read without unpickling code (``weights_only``).
"""

from __future__ import annotations

import argparse
import hashlib
import pickle
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn

from ssa.errors import ConfigurationError, Remedy, SsaError, UnknownNameError
from ssa.released.conversion import map_backbone_keys, map_segmentor_keys

MANIFEST = Path(__file__).with_name("weights.yaml")
#: share of the expected entries below which a file is refused
LEAST_SHARE = 0.95
#: names under which released files keep the weights, the averaged ones first
CONTAINERS = ("state_dict_ema", "model_ema", "state_dict", "model")
#: prefixes of training tools
WRAPPINGS = ("module.", "backbone.")
#: entries that a network computes or counts itself; no file is held against them
OWN_ENTRIES = re.compile(r"(num_batches_tracked|relative_position_index)$")
#: entries of heads: one that does not fit stays random however many others fit
HEADS = re.compile(r"(decode|auxiliary)_head\.")
#: how many names a message lists before it only counts
LISTED = 8

Check = Literal["missing", "ok", "different", "unpublished"]


class MissingWeightsError(SsaError):
    """A pretrained file is not where it belongs."""


class UnfitWeightsError(SsaError):
    """A file that cannot be read, or that does not fit the network."""


class WeightsEntry(BaseModel):
    """One pretrained file of the manifest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    file: str
    url: str
    #: the same file elsewhere
    mirror: str | None = None
    #: where a person finds it, if ``url`` is a drive's
    page: str | None = None
    #: digest or its published beginning
    sha256: str | None
    licence: str
    initialises: str
    #: type of the backbone
    backbone: str
    #: patterns of our backbone entries that the file does not hold
    leaves: tuple[str, ...] = ()


class WeightsStatus(BaseModel):
    """A file of the manifest as it is on this machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    entry: WeightsEntry
    path: Path
    present: bool
    #: bytes, None if missing
    size: int | None
    #: digest of the file, None if missing or not computed
    sha256: str | None = None
    #: only after verification; "unpublished": present, but nobody published a digest
    check: Check | None = None


class LoadReport(BaseModel):
    """What loading a file did."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path
    sha256: str
    #: how many of the expected entries were loaded
    loaded: int
    expected: int
    #: expected entries that the file lacks, or has with another shape
    missing: tuple[str, ...]
    #: entries of the file, under its own names, that were not used
    unused: tuple[str, ...]

    @property
    def share(self) -> float:
        """Loaded over expected, 0 to 1."""
        return self.loaded / max(self.expected, 1)


def read_manifest(path: Path = MANIFEST) -> dict[str, WeightsEntry]:
    """The manifest by name.

    Raises:
        ConfigurationError: an entry has a wrong or missing field.
    """
    entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    try:
        return {name: WeightsEntry(name=name, **fields) for name, fields in entries.items()}
    except (TypeError, ValidationError) as error:
        raise ConfigurationError(f"The manifest {path} is not valid: {error}") from None


def weights_entry(name: str) -> WeightsEntry:
    """One entry of the manifest.

    Raises:
        UnknownNameError: no such entry.
    """
    manifest = read_manifest()
    if name not in manifest:
        raise UnknownNameError("pretrained weights", name, manifest)
    return manifest[name]


def list_weights(root: Path) -> list[WeightsStatus]:
    """Every file of the manifest and whether it is in ``root``."""
    return [_status(entry, root) for entry in read_manifest().values()]


def verify_weights(root: Path) -> list[WeightsStatus]:
    """The same with digests computed and held against the published ones."""
    return [_verified(status) for status in list_weights(root)]


def require_weights(name: str, root: Path) -> Path:
    """Where the file of an entry is.

    Raises:
        MissingWeightsError: it is not there; the message says where to get it.
        UnfitWeightsError: its digest is not the published one.
        UnknownNameError: no such entry.
    """
    status = _verified(_status(weights_entry(name), root))
    if not status.present:
        raise MissingWeightsError(
            missing_sentence(status.entry, root), remedy=Remedy("from_scratch")
        )
    if status.check == "different":
        raise UnfitWeightsError(
            f"{status.path} has the SHA-256 {status.sha256}, but {status.entry.sha256}… is "
            f"published; download it again from {status.entry.url}."
        )
    return status.path


def missing_sentence(entry: WeightsEntry, root: Path) -> str:
    """What is missing, where it is published and where it belongs."""
    page = f" (see {entry.page})" if entry.page and entry.page != entry.url else ""
    return (
        f"The pretrained weights '{entry.name}' ({entry.initialises}) are missing: download "
        f"{entry.url}{page} to {root / entry.file}, or start from scratch."
    )


def load_pretrained(model: nn.Module, entry: str | WeightsEntry, path: Path) -> LoadReport:
    """Load a pretrained file into the backbone of a segmentor.

    Args:
        model: a segmentor (its ``backbone`` is loaded) or the backbone itself.
        entry: of the manifest.
        path: the file.

    Raises:
        UnfitWeightsError: unreadable, or below 95 % of the expected entries; nothing was loaded.
    """
    entry = weights_entry(entry) if isinstance(entry, str) else entry
    backbone = getattr(model, "backbone", model)
    state = _unwrapped(read_checkpoint(path))
    mapping = map_backbone_keys(state, entry.backbone)
    left = [re.compile(pattern) for pattern in entry.leaves]
    expected = [
        key for key in backbone.state_dict() if not any(pattern.search(key) for pattern in left)
    ]
    return _load(backbone, mapping.ours, state, expected, path)


def load_segmentor(model: nn.Module, config: Mapping[str, Any], path: Path) -> LoadReport:
    """Load a whole checkpoint: released (a baseline or SSA-Seg) or our own.

    Args:
        model: the segmentor.
        config: its config, as :func:`ssa.models.build_segmentor_config` gives it.
        path: the file.

    Raises:
        UnfitWeightsError: unreadable, below 95 % of the network's entries, or an entry of a head
            has another shape (another number of classes); nothing was loaded.
    """
    state = read_checkpoint(path)
    ours = model.state_dict()
    own = {key: key for key in state if key in ours}
    released = map_segmentor_keys(state, config).ours
    reached = {name for name in released.values() if name in ours}
    names = released if len(reached) > len(own) else own
    unlike = [
        f"{name}: {tuple(state[key].shape)} in the file, {tuple(ours[name].shape)} here"
        for key, name in names.items()
        if name in ours and HEADS.match(name) and state[key].shape != ours[name].shape
    ]
    if unlike:
        raise UnfitWeightsError(
            f"{path} has a head of another shape, often of another number of classes "
            f"({_some(tuple(unlike))}); build the network with the classes of the file."
        )
    return _load(model, names, state, list(ours), path)


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The weights in a checkpoint file, whatever else it holds, without unpickling code.

    Raises:
        MissingWeightsError: no such file.
        UnfitWeightsError: not a checkpoint, or it holds objects that only code could restore.
    """
    if not path.is_file():
        raise MissingWeightsError(f"There is no checkpoint {path}.")
    try:
        with torch.serialization.safe_globals(_harmless()):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        first = str(error).splitlines()[0]
        raise UnfitWeightsError(
            f"{path} cannot be read as weights alone ({first}); save its state_dict with "
            "torch.save in a trusted environment and give that file."
        ) from None
    for container in CONTAINERS:
        if isinstance(content, dict) and isinstance(content.get(container), dict):
            content = content[container]
            break
    tensors = {
        key: value
        for key, value in (content.items() if isinstance(content, dict) else ())
        if isinstance(key, str) and isinstance(value, Tensor)
    }
    if not tensors:
        raise UnfitWeightsError(f"{path} holds no weights.")
    return _without_wrappers(tensors)


def sha256_of(path: Path) -> str:
    """Hexadecimal digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _harmless() -> list[Any]:
    """Classes that training tools leave in checkpoints and that hold values only."""
    from mmengine.logging import HistoryBuffer

    numpy_types = [np.dtype, np.ndarray, *{type(np.dtype(kind)) for kind in "?bhilqBHILQefd"}]
    scalar = getattr(np, "_core", None) or np.core
    makers = [scalar.multiarray.scalar, scalar.multiarray._reconstruct]
    return [argparse.Namespace, HistoryBuffer, *numpy_types, *makers]


def _unwrapped(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A backbone's entries: of a backbone's file, or out of a whole network's."""
    if any(key.startswith("backbone.") for key in state):
        state = {key: value for key, value in state.items() if key.startswith("backbone.")}
    for prefix in WRAPPINGS:
        state = _without_prefix(state, prefix)
    return dict(state)


def _without_wrappers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names without what DataParallel, AveragedModel and torch.compile put before them."""
    state = {key.replace("_orig_mod.", ""): value for key, value in state.items()}
    if any(key.startswith("module.") for key in state):  # AveragedModel counts beside its module
        state.pop("n_averaged", None)
    return _without_prefix(state, "module.")


def _without_prefix(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    if not all(key.startswith(prefix) for key in state):
        return dict(state)
    return {key.removeprefix(prefix): value for key, value in state.items()}


@torch.no_grad()
def _load(
    module: nn.Module,
    names: Mapping[str, str],
    state: Mapping[str, Tensor],
    expected: Iterable[str],
    path: Path,
) -> LoadReport:
    own = module.state_dict()
    fitting = {
        ours: key
        for key, ours in names.items()
        if ours in own and own[ours].shape == state[key].shape
    }
    needed = [key for key in expected if not OWN_ENTRIES.search(key)]
    missing = tuple(key for key in needed if key not in fitting)
    used = {key for key, ours in names.items() if ours in fitting}
    report = LoadReport(
        path=path,
        sha256=sha256_of(path),
        loaded=len(needed) - len(missing),
        expected=len(needed),
        missing=missing,
        unused=tuple(key for key in state if key not in used),
    )
    if report.share < LEAST_SHARE:
        raise UnfitWeightsError(
            f"{path} fits only {report.loaded} of the {report.expected} entries that it should "
            f"({report.share:.0%}, at least {LEAST_SHARE:.0%} are needed). Not loaded: "
            f"{_some(report.missing)}. Unused in the file: {_some(report.unused) or 'nothing'}."
        )
    for ours, key in fitting.items():
        if not OWN_ENTRIES.search(ours) or ours.endswith("num_batches_tracked"):
            own[ours].copy_(state[key])
    return report


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def _status(entry: WeightsEntry, root: Path) -> WeightsStatus:
    path = root / entry.file
    present = path.is_file()
    size = path.stat().st_size if present else None
    return WeightsStatus(entry=entry, path=path, present=present, size=size)


def _verified(status: WeightsStatus) -> WeightsStatus:
    if not status.present:
        return status.model_copy(update={"check": "missing"})
    digest, published = sha256_of(status.path), status.entry.sha256
    check: Check = "unpublished"
    if published is not None:
        check = "ok" if digest.startswith(published) else "different"
    return status.model_copy(update={"sha256": digest, "check": check})
