"""A live table of the runs of one results folder: queued, running, done, and how long it takes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table as RichTable
from rich.text import Text

from experiments.errors import SsaError
from experiments.launch.slurm import read_submission
from experiments.launch.slurm_queue import QueuedJob, SlurmQueue, cluster_name
from experiments.plan.estimate import makespan
from experiments.plan.plan import PastCosts
from experiments.show.console import show_duration
from experiments.store.folder import RunFolder
from experiments.store.lock import is_locked, owner_of
from experiments.store.progress import read_progress
from experiments.store.store import Store, read_spec

EVERY_S = 2.0

State = Literal["running", "queued", "failed", "stopped", "done"]
ORDER: tuple[State, ...] = ("running", "queued", "failed", "stopped", "done")


@dataclass(frozen=True)
class WatchedRun:
    """Where one run stands."""

    run_id: str
    state: State
    where: str = ""  # host and job, or why it waits
    iteration: int | None = None
    iterations: int | None = None
    miou: float | None = None  # percent, at the last evaluation
    left_s: float | None = None  # of its work
    limit: str = ""  # what is left of its job's time limit


class RunWatch:
    """Looks at a store again and again.

    Args:
        store: that is looked at.
        costs: what such runs took.
    """

    def __init__(self, store: Store, costs: PastCosts) -> None:
        self._store, self._costs = store, costs
        self._queue = SlurmQueue()
        self._cluster = ""  # once it was asked
        self.trouble = ""  # why the cluster's queue is not known

    def look(self) -> list[WatchedRun]:
        """Every run of the store, those under way first."""
        folders = [RunFolder(path.parent) for path in sorted(self._store.runs.glob("*/spec.json"))]
        given = {f.path.name: job for f in folders if (job := read_submission(f)) is not None}
        open_jobs = {name for name in given if not self._store.folder(name).record.exists()}
        jobs = self._jobs() if open_jobs else {}
        if self._cluster:
            given = {f.path.name: read_submission(f, self._cluster) or "" for f in folders}
        runs = [self._seen(folder, jobs.get(given.get(folder.path.name, ""))) for folder in folders]
        return sorted(runs, key=lambda run: (ORDER.index(run.state), run.run_id))

    def _jobs(self) -> Mapping[str, QueuedJob]:
        try:
            self.trouble = ""
            self._cluster = self._cluster or cluster_name()
            return self._queue.jobs()
        except SsaError as error:
            self.trouble = str(error)
            return {}

    def _seen(self, folder: RunFolder, job: QueuedJob | None) -> WatchedRun:
        name = folder.path.name
        if job is not None and not job.runs:
            where = f"job {job.job} waits ({job.why})"
            return WatchedRun(name, "queued", where, left_s=self._expected_s(folder))
        if job is not None or is_locked(folder):
            owner = owner_of(folder)
            where = f"{job.node}, job {job.job}" if job else owner.host if owner else ""
            return self._running(folder, where, job.left if job else "")
        if folder.record.exists():
            return WatchedRun(name, "done")
        return WatchedRun(name, "failed" if folder.failure.exists() else "stopped")

    def _running(self, folder: RunFolder, where: str, limit: str) -> WatchedRun:
        name, progress = folder.path.name, read_progress(folder.progress)
        if progress is None:
            left_s = self._expected_s(folder)
            return WatchedRun(name, "running", where, left_s=left_s, limit=limit)
        left_s = (progress.iterations - progress.iteration) * progress.iteration_ms / 1000.0
        steps = (progress.iteration, progress.iterations)
        return WatchedRun(name, "running", where, *steps, progress.miou, left_s, limit)

    def _expected_s(self, folder: RunFolder) -> float | None:
        try:
            return self._costs.of(read_spec(folder))
        except (OSError, ValueError):
            return None


def drawn(runs: list[WatchedRun], trouble: str = "") -> RenderableType:
    """The table of what is not done, and one line that counts all."""
    right = ("step", "mIoU", "left", "limit")
    table = RichTable(box=None, pad_edge=False)
    for heading in ("run", "state", "where", "step", "mIoU", "left", "limit"):
        table.add_column(heading, justify="right" if heading in right else "left")
    for run in runs:
        if run.state == "done":
            continue
        table.add_row(
            Text(run.run_id),
            run.state,
            Text(run.where),
            "" if run.iteration is None else f"{run.iteration}/{run.iterations}",
            "" if run.miou is None else f"{run.miou:.1f}",
            "" if run.left_s is None else show_duration(run.left_s),
            run.limit,
        )
    return Group(*([table] if table.row_count else []), Text(summary(runs)), Text(trouble))


def summary(runs: list[WatchedRun]) -> str:
    """``1 running, 2 queued, 4 done; about 3 min left.``"""
    counts = Counter(run.state for run in runs)
    said = ", ".join(f"{counts[state]} {state}" for state in ORDER if counts[state])
    active = [run.left_s or 0.0 for run in runs if run.state == "running"]
    queued = [run.left_s for run in runs if run.state == "queued"]
    if not said:
        return "No run here yet."
    if not active and not queued:
        return f"{said}."
    if None in queued:
        return f"{said}; nothing like them has been run, so nobody knows how long."
    left_s = makespan(active, [each or 0.0 for each in queued], max(1, len(active)))
    return f"{said}; about {show_duration(left_s)} left."


def watch(console: Console, store: Store, costs: PastCosts) -> None:
    """Show the table until nothing waits or runs; where no terminal is, once."""
    looking = RunWatch(store, costs)
    if not console.is_terminal:
        console.print(drawn(looking.look(), looking.trouble))
        return
    with Live(console=console, auto_refresh=False) as live:
        while True:
            runs = looking.look()
            live.update(drawn(runs, looking.trouble), refresh=True)
            if not any(run.state in ("running", "queued") for run in runs):
                return
            time.sleep(EVERY_S)
