"""Where a training process stands, told through a file to whoever watches."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from experiments.files import parsed_json, read_bounded

_MOST_BYTES = 1 << 16


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
        progress = Progress(**parsed_json(read_bounded(path, _MOST_BYTES)))
    except (OSError, ValueError, TypeError):
        return None
    counts = (progress.iteration, progress.iterations)
    times = (progress.iteration_ms, progress.time, progress.miou or 0.0)
    fits = all(type(n) is int for n in counts) and all(type(t) in (int, float) for t in times)
    return progress if fits else None


def write_progress(path: Path, progress: Progress) -> None:
    """Replace the progress file; a disk that refuses is ignored, since no result depends on it."""
    temporary = path.with_suffix(".tmp")
    with contextlib.suppress(OSError):
        temporary.write_text(json.dumps(asdict(progress)))
        temporary.replace(path)
