"""Pretrained files: strict loading with conversion of names.

Files are read without unpickling code (``weights_only``).
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from ssa.classifiers import CLASSIFIERS
from ssa.released.conversion import map_backbone_keys, map_segmentor_keys
from ssa.released.manifest import (
    MissingWeightsError,
    UnfitWeightsError,
    WeightsEntry,
    sha256_of,
    weights_entry,
)
from ssa.torch_files import read_tensors

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
#: entries of the last head that decide
DECISION = re.compile(r"decode_head\.")
#: how many names a message lists before it only counts
LISTED = 8


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


def load_pretrained(model: nn.Module, entry: str | WeightsEntry, path: Path) -> LoadReport:
    """Load a pretrained file into the backbone of a segmentor.

    Args:
        model: a segmentor (its ``backbone`` is loaded) or the backbone itself.
        entry: of the manifest.
        path: the file.

    Raises:
        UnfitWeightsError: unreadable, or below 95 % of the expected entries (of a strict entry:
            an expected one is missing, or one of the file is left over); nothing was loaded.
    """
    entry = weights_entry(entry) if isinstance(entry, str) else entry
    backbone = getattr(model, "backbone", model)
    state = _unwrapped(read_checkpoint(path))
    mapping = map_backbone_keys(state, entry.backbone)
    left = [re.compile(pattern) for pattern in entry.leaves]
    expected = [
        key for key in backbone.state_dict() if not any(pattern.search(key) for pattern in left)
    ]
    if entry.strict:
        known = backbone.state_dict()
        spare = [re.compile(pattern) for pattern in entry.spare]
        surplus = tuple(
            key
            for key, ours in mapping.ours.items()
            if ours not in known and not any(pattern.search(key) for pattern in spare)
        )
        if surplus:
            raise UnfitWeightsError(
                f"{path} holds {_some(surplus)}, which '{entry.name}' should not; give the file "
                "that the manifest names."
            )
    least = 1.0 if entry.strict else LEAST_SHARE
    return _load(backbone, mapping.ours, state, expected, path, least)


def load_segmentor(model: nn.Module, config: Mapping[str, Any], path: Path) -> LoadReport:
    """Load a whole checkpoint: released (a baseline or SSA-Seg) or our own.

    Args:
        model: the segmentor.
        config: its config, as :func:`ssa.models.build_segmentor_config` gives it.
        path: the file.

    Raises:
        UnfitWeightsError: unreadable, below 95 % of the network's entries, an entry of a head has
            another shape (another number of classes), or the file was made with another
            classifier or head: it lacks what decides here, or has what nothing here reads. What
            only training needs may differ. Nothing was loaded.
    """
    state = read_checkpoint(path)
    ours = model.state_dict()
    own = {key: key for key in state if key in ours}
    mapping = map_segmentor_keys(state, config)
    reached = {name for name in mapping.ours.values() if name in ours}
    released = len(reached) > len(own)
    names = mapping.ours if released else {key: key for key in state}
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
    left = mapping.unused if released else ()
    lacking = _deciding(set(ours) - set(names.values()))
    strange = _deciding(name for key, name in names.items() if name not in ours and key not in left)
    if lacking or strange:
        parts = [f"lacks {_some(lacking)}"] if lacking else []
        parts += [f"has {_some(strange)}, which nothing here reads"] if strange else []
        raise UnfitWeightsError(
            f"{path} was made with another head or classifier: it {' and '.join(parts)}; build "
            "the network with the classifier of the file."
        )
    return _load(model, names, state, list(ours), path)


def _deciding(names: Iterable[str]) -> tuple[str, ...]:
    """Those of the decode heads that a decision needs, in the order of the alphabet."""
    training = "|".join(
        sorted({name for cls in CLASSIFIERS.values() for name in cls.training_only})
    )
    unneeded = re.compile(rf"\.classifier\.({training})\.")
    return tuple(
        name
        for name in sorted(names)
        if DECISION.match(name) and not unneeded.search(name) and not OWN_ENTRIES.search(name)
    )


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The weights in a checkpoint file, whatever else it holds, without unpickling code.

    Raises:
        MissingWeightsError: no such file.
        UnfitWeightsError: not a checkpoint, a damaged one, or it holds objects that only code could
            restore, or tensors without values of their own.
    """
    if not path.is_file():
        raise MissingWeightsError(f"There is no checkpoint {path}.")
    try:
        content = read_tensors(path, _harmless(), former=True)
    except (OSError, ValueError) as error:
        raise UnfitWeightsError(
            f"{path} cannot be read as weights alone ({error}); save its state_dict with "
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
    if odd := tuple(key for key, value in tensors.items() if not _plain(value)):
        raise UnfitWeightsError(
            f"{path} holds no plain values of {_some(odd)} (sparse, quantised, complex or without "
            "data); save its state_dict as dense tensors and give that file."
        )
    return _without_wrappers(tensors)


def _plain(value: Tensor) -> bool:
    """Whether a tensor can be copied into a network's."""
    return (
        value.layout == torch.strided
        and not (value.is_meta or value.is_quantized or value.is_nested)
        and not value.is_complex()
    )


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
    least: float = LEAST_SHARE,
) -> LoadReport:
    own = module.state_dict()
    _check_values(names, state, own, path)
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
    if report.share < least:
        raise UnfitWeightsError(
            f"{path} fits only {report.loaded} of the {report.expected} entries that it should "
            f"({report.share:.0%}, at least {least:.0%} are needed). Not loaded: "
            f"{_some(report.missing)}. Unused in the file: {_some(report.unused) or 'nothing'}."
        )
    for ours, key in fitting.items():
        if not OWN_ENTRIES.search(ours) or ours.endswith("num_batches_tracked"):
            own[ours].copy_(state[key])
    return report


def _check_values(
    names: Mapping[str, str], state: Mapping[str, Tensor], own: Mapping[str, Tensor], path: Path
) -> None:
    """Refuse entries of another kind of number, or that are none: they would be copied silently.

    Raises:
        UnfitWeightsError: whole numbers where the network has real ones or the other way round,
            infinite values, NaN.
    """
    pairs = [
        (key, state[key], own[ours])
        for key, ours in names.items()
        if ours in own and not OWN_ENTRIES.search(ours)
    ]
    other = tuple(
        f"{key}: {str(value.dtype).removeprefix('torch.')}"
        for key, value, mine in pairs
        if value.is_floating_point() != mine.is_floating_point()
    )
    if other:
        raise UnfitWeightsError(
            f"{path} holds another kind of numbers than the network ({_some(other)}); save its "
            "weights as real numbers and give that file."
        )
    # bfloat16 and the like are weights too; below that isfinite is not defined
    broken = tuple(
        key
        for key, value, _ in pairs
        if value.is_floating_point() and not value.float().isfinite().all()
    )
    if broken:
        raise UnfitWeightsError(
            f"{path} holds values that are no finite numbers ({_some(broken)}); it is damaged or "
            "of a training that diverged. Give another file."
        )


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
