"""What every benchmark writes: one format, so that any two records can be read side by side."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from experiments.files import read_bounded, write_atomically
from experiments.machine import cpu_count, cpu_name, git_commit
from ssa.validation import first_problem

MOST_BYTES = 16 << 20  # of a record


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Figure(_Frozen):
    """One measured number."""

    #: what was measured; the same words in every record of the benchmark
    name: str
    value: float
    #: "×" for a ratio, "s", "ms", "MiB", "images/s", "%"
    unit: str
    #: what a ratio was measured beside, in turn and in the same run
    beside: str = ""
    #: quartiles over the rounds
    low: float | None = None
    high: float | None = None
    better: Literal["lower", "higher"] = "lower"
    goal: float | None = None
    #: the best that can be had, and why
    floor: float | None = None
    floor_reason: str = ""

    @classmethod
    def of(cls, name: str, rounds: Sequence[float], unit: str, **more: Any) -> Figure:
        """The median and the quartiles of at least two rounds."""
        low, middle, high = statistics.quantiles(rounds, n=4)
        return cls(name=name, value=middle, unit=unit, low=low, high=high, **more)

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None without one."""
        if self.goal is None:
            return None
        return self.value <= self.goal if self.better == "lower" else self.value >= self.goal


class Machine(_Frozen):
    """Where and with what was measured."""

    when: str
    device: str
    processors: int
    python: str
    torch: str
    git_commit: str | None
    git_dirty: bool | None
    #: load average before and after: above the threads, other work disturbed
    load: tuple[float, float]


class Benchmark(_Frozen):
    """One record: ``benchmark.json`` or ``benchmark_part.json``."""

    benchmark: str
    part: str = ""
    #: one sentence: what is measured, on what
    title: str
    #: how to measure it again
    command: str
    setting: dict[str, Any]
    machine: Machine
    figures: tuple[Figure, ...] = Field(min_length=1)
    #: what else the benchmark measured, in a form of its own
    details: Any = None

    @property
    def stem(self) -> str:
        """Name of the file without its ending."""
        return f"{self.benchmark}_{self.part}" if self.part else self.benchmark

    @property
    def exit_code(self) -> int:
        """Of the benchmark's command: 1 where a goal is missed."""
        return int(any(figure.met is False for figure in self.figures))

    def write(self, folder: Path) -> Path:
        """Write the record into ``folder`` and return its path.

        Raises:
            StoreError: the disk is full or may not be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.stem}.json"
        write_atomically(path, self.model_dump_json(indent=1) + "\n")
        return path


class Clock:
    """Takes the machine's load when it is made and describes the machine at the end."""

    def __init__(self, device: str = "") -> None:
        self._load, self._device = os.getloadavg()[0], device

    def machine(self) -> Machine:
        """Where was measured, now that it is over."""
        commit, dirty = git_commit()
        return Machine(
            when=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            device=self._device or cpu_name(),
            processors=cpu_count(),
            python=platform.python_version(),
            torch=version("torch"),
            git_commit=commit,
            git_dirty=dirty,
            load=(round(self._load, 2), round(os.getloadavg()[0], 2)),
        )


def table_of(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Counts as Markdown: names at the left, the other columns at the right."""
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def read(path: Path) -> Benchmark:
    """Read a record.

    Raises:
        OSError: it cannot be read.
        ValueError: it is of another form.
    """
    try:
        return Benchmark.model_validate_json(read_bounded(path, MOST_BYTES))
    except ValidationError as error:
        raise ValueError(
            f"{path} is not a benchmark's record ({first_problem(error, Benchmark)}). Measure it "
            "again with `./run_all.sh bench NAME`."
        ) from None


def read_all(folder: Path) -> dict[str, Benchmark]:
    """The records of a folder by the name of their file.

    Raises:
        OSError: one cannot be read.
        ValueError: one is of another form.
    """
    return {path.stem: read(path) for path in sorted(folder.glob("*.json"))}
