"""Where a training process stands, told through a file to whoever watches."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from experiments.files import parsed_json, read_bounded

_MOST_BYTES = 1 << 16
_MOST_STEPS = 10**9
_MOST_TIME = 1e12  # seconds since the epoch, or milliseconds of a step; NaN is not below it


@dataclass(frozen=True)
class Progress:
    """Where a training process stands."""

    iteration: int
    iterations: int
    iteration_ms: float
    miou: float | None  # percent, at the last evaluation
    time: float  # seconds since the epoch


def read_progress(path: Path) -> Progress | None:
    """The progress file of a run; None: there is none, half of one, or numbers no run has."""
    try:
        progress = Progress(**parsed_json(read_bounded(path, _MOST_BYTES)))
    except (OSError, ValueError, TypeError):
        return None
    counts = (progress.iteration, progress.iterations)
    times = (progress.iteration_ms, progress.time, progress.miou or 0.0)
    fits = all(type(n) is int and 0 <= n <= _MOST_STEPS for n in counts)
    fits = fits and all(type(t) in (int, float) and abs(t) <= _MOST_TIME for t in times)
    return progress if fits else None


def write_progress(path: Path, progress: Progress) -> None:
    """Replace the progress file; a disk that refuses is ignored, since no result depends on it."""
    temporary = path.with_suffix(".tmp")
    with contextlib.suppress(OSError):
        temporary.write_text(json.dumps(asdict(progress)))
        temporary.replace(path)
