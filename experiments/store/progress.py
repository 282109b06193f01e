"""Where a training process stands, told through a file to whoever watches."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Progress:
    """Where a training process stands."""

    iteration: int
    iterations: int
    iteration_ms: float
    miou: float | None  # percent, at the last evaluation
    time: float  # seconds since the epoch


def read_progress(path: Path) -> Progress | None:
    """The progress file of a run, or None if there is none (or half of one)."""
    try:
        return Progress(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def write_progress(path: Path, progress: Progress) -> None:
    """Replace the progress file; a disk that refuses is ignored, since no result depends on it."""
    temporary = path.with_suffix(".tmp")
    with contextlib.suppress(OSError):
        temporary.write_text(json.dumps(asdict(progress)))
        temporary.replace(path)
