"""Runs followed by tensorboard, wandb or mlflow while they train: ``--log``.

The training processes know nothing of it, so equal runs give equal results with and without.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from experiments.errors import SsaError
from experiments.files import writing
from experiments.launch.crew import Outcome, Watcher
from experiments.launch.follow import SERVICES
from experiments.machine import module_command, search_path
from experiments.plan.plan import PlannedRun
from experiments.store.folder import RunFolder
from experiments.store.store import Store

PATIENCE_S = 60.0  # that a follower is given to write its last words


class LogError(SsaError):
    """A service that is not installed."""


@dataclass
class _Follower:
    process: subprocess.Popen[bytes]
    said: Path  # what it printed


@dataclass
class LiveLog:
    """A watcher that has every run followed, and hands on what it is told.

    Args:
        watcher: is told the same.
        service: one of :data:`experiments.launch.follow.SERVICES`.
        store: where the runs are.
        out: where the service's files go.
    """

    watcher: Watcher
    service: str
    store: Store
    out: Path
    _followers: dict[str, _Follower] = field(default_factory=dict)

    def started(self, run: PlannedRun) -> None:
        """Start following; a run that is started again is followed on."""
        self.watcher.started(run)
        run_id = run.spec.run_id
        if run_id in self._followers:
            return
        said = self.out / f"{run_id}.txt"
        words = [str(self.store.folder(run_id).path), self.service, str(self.out)]
        with writing(said):
            said.parent.mkdir(parents=True, exist_ok=True)
            with said.open("wb") as log:
                process = subprocess.Popen(
                    module_command("experiments.launch.follow", *words),
                    stdin=subprocess.PIPE,  # its end tells the follower that the run is over
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=os.environ | {"PYTHONPATH": search_path(), "CUDA_VISIBLE_DEVICES": ""},
                )
        self._followers[run_id] = _Follower(process, said)

    def said(self, run: PlannedRun, sentence: str) -> None:
        """Hand it on."""
        self.watcher.said(run, sentence)

    def noted(self, sentence: str) -> None:
        """Hand it on."""
        self.watcher.noted(sentence)

    def ended(self, outcome: Outcome) -> None:
        """Let the follower write the run's curve; nobody waits for it yet."""
        follower = self._followers.get(outcome.spec.run_id)
        if follower is not None and follower.process.stdin is not None:
            with contextlib.suppress(OSError):  # it is gone already
                follower.process.stdin.close()
        self.watcher.ended(outcome)

    def tick(self, active: Sequence[RunFolder]) -> None:
        """Hand it on."""
        self.watcher.tick(active)

    def close(self) -> list[str]:
        """Wait for the followers; returns a sentence about each that failed."""
        sentences = []
        for run_id, follower in self._followers.items():
            if follower.process.stdin is not None:
                with contextlib.suppress(OSError):
                    follower.process.stdin.close()
            try:
                failed = follower.process.wait(PATIENCE_S) != 0
            except subprocess.TimeoutExpired:
                follower.process.kill()
                follower.process.wait()
                failed = True
            if failed:
                sentences.append(
                    f"{run_id} was trained, but --log {self.service} could not follow it to its "
                    f"end; {follower.said} says why."
                )
            else:
                follower.said.unlink(missing_ok=True)
        self._followers.clear()
        return sentences


def require(service: str) -> None:
    """Refuse a service that is not installed, before anything is trained.

    Raises:
        LogError: its package is missing.
    """
    if importlib.util.find_spec(SERVICES[service].module) is None:
        raise LogError(
            f"--log {service} needs the package {SERVICES[service].module}: "
            f".venv/bin/pip install -e '.[{service}]' installs it."
        )


@contextmanager
def followed(
    watcher: Watcher, service: str | None, store: Store, tell: Callable[[str], None]
) -> Iterator[Watcher]:
    """The watcher, and around it one that has every run followed; without a service it alone.

    Args:
        watcher: of the runs.
        service: None: nobody follows them.
        store: where they are.
        tell: is given a sentence about each run that could not be followed.

    Raises:
        LogError: the service is not installed.
    """
    if service is None:
        yield watcher
        return
    require(service)
    log = LiveLog(watcher, service, store, store.runs.parent / "logs" / service)
    try:
        yield log
    finally:
        for sentence in log.close():
            tell(sentence)
