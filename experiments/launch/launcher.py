"""What a place that runs go to has to offer: submit, poll, cancel, capacity. Pure interface.

One crew (experiments/launch/crew.py) leads the runs of a call through any launcher; nothing else
knows where they go.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from experiments.declare.profile import Loading
from experiments.plan.plan import PlannedRun


@dataclass(frozen=True)
class Inputs:
    """Files that a run reads, and where its results go."""

    data: Path
    weights: Path | None = None
    registry: tuple[Path, ...] = ()  # a user's own folders
    results: Path = Path()  # root of the store; the crew fills it in


@dataclass(frozen=True)
class Resources:
    """What one run is given; no part of its identity."""

    device: str = "cpu"  # "cpu" or "cuda"
    processes: int = 1  # that train it together, a GPU each
    threads: int = 1  # of each process
    loading: Loading = field(default_factory=Loading)
    packed: Path | None = None  # where packed images are kept; None: they are not packed
    checkpoint_every_s: float = 60.0
    features: Path | None = None  # where those of frozen networks are kept; None: they are not


@dataclass(frozen=True)
class Ended:
    """How the process of a run ended."""

    code: int | None  # its exit code; None: a signal ended it, or nobody knows
    signal: int | None = None  # that ended it
    reason: str = ""  # a sentence of the launcher's, where it knows more than the process
    seconds: float | None = None  # that it ran, where that is not the time since it was submitted


class Handle(Protocol):
    """One run that a launcher has taken."""

    @property
    def began(self) -> bool:
        """Whether its process has been started; False while it waits in a queue."""

    def poll(self) -> Ended | None:
        """How it ended; None while it waits or runs."""

    def cancel(self) -> None:
        """End it, wherever it is; what it has finished stays."""


class Launcher(Protocol):
    """A place that runs go to."""

    @property
    def capacity(self) -> int:
        """How many more runs it takes now."""

    @property
    def full(self) -> str:
        """Why it takes none though it has none of ours; empty where that cannot be."""

    def submit(self, run: PlannedRun, inputs: Inputs) -> Handle:
        """Take a run, whose folder and spec are there. Only where there is capacity.

        Raises:
            SsaError: it cannot be taken; the others can.
        """

    def close(self) -> str:
        """End the call, with what ends with it; what is left to tell the caller, or nothing."""

    def hurry(self) -> None:
        """End without grace what :meth:`close` waits for: the caller has asked twice."""
