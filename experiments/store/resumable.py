"""With what code a checkpoint was made: only the same may go on from it.

It stands beside the checkpoint and is written before it. A run that starts anew sets the old
checkpoint aside first, so that the two belong together whenever a process is killed.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping

from experiments.files import parsed_json, read_bounded, write_atomically
from experiments.store.folder import RunFolder
from experiments.store.provenance import changed_modules

_TORCH = "torch"
_MOST_BYTES = 1 << 24
_NAMED = 3  # so many modules a sentence names


def write_checkpoint_code(folder: RunFolder, code: Mapping[str, str]) -> None:
    """Note what the checkpoints of this attempt are made with.

    Args:
        folder: of the run.
        code: as :func:`experiments.store.provenance.code_used` gives it.

    Raises:
        StoreError: the disk is full or may not be written.
    """
    document = {_TORCH: importlib.metadata.version(_TORCH), "code": dict(code)}
    write_atomically(folder.checkpoint_code, json.dumps(document, indent=1))


def unlike_checkpoint(folder: RunFolder, code: Mapping[str, str] | None = None) -> list[str]:
    """What is not as it was when the checkpoint was made: modules, torch; none: it may go on.

    Args:
        folder: of the run.
        code: what this process runs; None: look at the files, for whoever only plans.
    """
    try:
        document = parsed_json(read_bounded(folder.checkpoint_code, _MOST_BYTES))
        torch, made = str(document[_TORCH]), {str(k): str(v) for k, v in document["code"].items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return ["what made it is not known"]
    if code is None:
        unlike = changed_modules(made)
    else:
        unlike = sorted(name for name in {*made, *code} if made.get(name) != code.get(name))
    now = importlib.metadata.version(_TORCH)
    return unlike if torch == now else [*unlike, f"torch {torch}, now {now}"]


def in_words(unlike: list[str]) -> str:
    """``a, b, c and 4 more``."""
    more = f" and {len(unlike) - _NAMED} more" if len(unlike) > _NAMED else ""
    return ", ".join(unlike[:_NAMED]) + more
