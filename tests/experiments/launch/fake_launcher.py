"""A launcher whose runs the test moves: nothing is trained."""

from __future__ import annotations

import signal
from dataclasses import dataclass, field

from samples import make_areas, put

from experiments.launch.launcher import Ended, Inputs
from experiments.plan.plan import PlannedRun
from experiments.store.store import Store


@dataclass
class FakeHandle:
    run: PlannedRun
    inputs: Inputs
    began: bool = False
    end: Ended | None = None

    def poll(self) -> Ended | None:
        return self.end

    def cancel(self) -> None:
        self.end = Ended(None, signal.SIGTERM)

    def finish(self) -> None:
        """As a training process does: the record, then the end."""
        put(Store(self.inputs.results), self.run.spec, make_areas(self.run.spec.seed))
        self.end = Ended(0)


@dataclass
class FakeLauncher:
    places: int = 2
    full: str = "waits: the fake is full."
    refused: dict[int, Exception] = field(default_factory=dict)  # seed → what submitting raises
    handles: list[FakeHandle] = field(default_factory=list)  # of all runs that it took
    hurried: bool = False
    closed: bool = False

    @property
    def capacity(self) -> int:
        return self.places - sum(handle.end is None for handle in self.handles)

    def submit(self, run: PlannedRun, inputs: Inputs) -> FakeHandle:
        if run.spec.seed in self.refused:
            raise self.refused[run.spec.seed]
        self.handles.append(FakeHandle(run, inputs))
        return self.handles[-1]

    def close(self) -> str:
        self.closed = True
        return "The fake is closed."

    def hurry(self) -> None:
        self.hurried = True
