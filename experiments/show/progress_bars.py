"""How far the training of a plan is: bars on a terminal, a line a tenth elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
)
from typing_extensions import Self

from experiments.launch.crew import Outcome
from experiments.launch.live_log import followed
from experiments.launch.train_plan import train_plan
from experiments.plan.estimate import Estimate, Pace
from experiments.plan.plan import Plan, PlannedRun, kind_of
from experiments.plan.request import Request
from experiments.show.console import make_console, plan_sentence, show_duration
from experiments.store.folder import RunFolder
from experiments.store.progress import Progress as Where
from experiments.store.progress import read_progress

TICK_S = 0.5


TENTH = 0.1  # of the work, after which an estimate rests on this call


FRESH_STEPS = 20  # a run first seen later than this was resumed


class _Below(Progress):
    """Bars below something else, which stands there as long as they do."""

    def __init__(self, above: RenderableType | None, *columns: ProgressColumn, **more: Any) -> None:
        self._above = above
        super().__init__(*columns, transient=above is not None, **more)

    def get_renderables(self) -> Iterable[RenderableType]:
        """What stands above, then the bars."""
        if self._above is not None:
            yield self._above
        yield from super().get_renderables()


class ProgressWatcher:
    """Shows the runs that are under way and an estimate of the rest.

    On a terminal a live display; elsewhere one line for each tenth of the work and each failure.

    Args:
        console: where to; standard error, so that results can be piped.
        estimate: of the runs to do.
        above: stands above the bars, and all of it is gone when they end; None: bars alone, which
            stay.
        brief: whether to tell failures alone where there is no terminal.
    """

    def __init__(
        self,
        console: Console,
        estimate: Estimate,
        above: RenderableType | None = None,
        *,
        brief: bool = False,
    ) -> None:
        self.console, self.estimate = console, estimate
        self.total, self._over = len(estimate.kinds), 0
        self._ticked = time.monotonic()
        self._began: dict[str, float] = {}
        self._first_step: dict[str, int] = {}
        self._tasks: dict[str, TaskID] = {}
        self._live, self._brief = console.is_terminal, brief
        self._tenths = 0  # of the work that have been told
        self._progress = _Below(
            above,
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=not self._live,
        )
        self._all = self._progress.add_task("all runs", total=self.total, note="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def started(self, run: PlannedRun) -> None:
        """Add a bar for the run."""
        run_id = run.spec.run_id
        self.estimate.started(run_id)
        self._began[run_id] = time.monotonic()
        if run_id not in self._tasks:
            self._tasks[run_id] = self._progress.add_task(
                run_id, total=run.spec.training.iterations, note="starting"
            )

    def said(self, run: PlannedRun, sentence: str) -> None:
        """Print it beside the run's name, unless the sentence has it."""
        run_id = run.spec.run_id
        self.console.print(escape(sentence if run_id in sentence else f"{run_id}: {sentence}"))

    def noted(self, sentence: str) -> None:
        """Print it."""
        self.console.print(escape(sentence))

    def ended(self, outcome: Outcome) -> None:
        """Remove its bar; say so if it failed."""
        run_id = outcome.spec.run_id
        if run_id in self._tasks:
            self._progress.remove_task(self._tasks.pop(run_id))
        # one that was resumed says less about the others than its steps did
        whole = outcome.end == "trained" and self._first_step.get(run_id, 0) <= FRESH_STEPS
        self.estimate.ended(run_id, outcome.seconds if whole else None)
        self._over += 1
        self._progress.advance(self._all)
        if outcome.end == "failed":
            code = "" if outcome.code is None else f"exit code {outcome.code}; "
            more = f" ({code}log: {outcome.log})" if outcome.log else ""
            self.console.print(f"[red]failed[/red] {run_id}: {escape(outcome.sentence + more)}")

    def tick(self, active: Sequence[RunFolder]) -> None:
        """Move the bars and the estimate."""
        now = time.monotonic()
        if now - self._ticked < TICK_S:
            return
        self._ticked = now
        for folder in active:
            run_id = folder.path.name
            progress = read_progress(folder.progress)
            if progress is None or run_id not in self._tasks:
                continue
            self._move(run_id, progress, now - self._began[run_id])
            miou = "" if progress.miou is None else f"mIoU {progress.miou:.1f}, "
            note = f"{miou}{progress.iteration_ms:.0f} ms a step"
            self._progress.update(self._tasks[run_id], completed=progress.iteration, note=note)
        left_s = self.estimate.left_s()
        left = "" if left_s is None else f"about {show_duration(left_s)} left"
        self._progress.update(self._all, note=left)
        tenths = int(self.estimate.done_share() / TENTH)
        if not (self._live or self._brief) and left and tenths > self._tenths:
            self._tenths = tenths
            self.console.print(f"{self._over} of {self.total} runs, {left}.")

    def _move(self, run_id: str, progress: Where, elapsed_s: float) -> None:
        """Tell the estimate how far a run is and what all of it would take at its pace."""
        first = self._first_step.setdefault(run_id, progress.iteration)
        step_s = progress.iteration_ms / 1000.0
        start_s = max(elapsed_s - step_s * (progress.iteration - first), 0.0)
        if first > FRESH_STEPS:
            start_s = 0.0
        whole_s = min(start_s, elapsed_s) + step_s * progress.iterations
        done = progress.iteration / progress.iterations
        self.estimate.moved(run_id, Pace(elapsed_s, done, whole_s))


def train_and_show(
    request: Request, plan: Plan, above: RenderableType | None = None, *, brief: bool = False
) -> list[Outcome]:
    """Train the missing runs of a plan and show on standard error how far they are.

    Args:
        request: where to train.
        plan: what is missing of it is trained.
        above: see :class:`ProgressWatcher`.
        brief: whether to leave out what is to be done; see there.
    """
    console = make_console(stderr=True)
    if not brief:
        console.print(plan_sentence(plan, request.jobs))
    for run in plan.to_do:
        if run.state == "damaged":
            console.print(f"{run.reason} It is set aside and the run is made again.")
    kinds = {run.spec.run_id: kind_of(run.spec) for run in plan.to_do}
    estimate = Estimate(kinds, request.costs.past, request.jobs)
    with (
        ProgressWatcher(console, estimate, above, brief=brief) as shown,
        followed(shown, request.log, request.store, console.print) as watcher,
    ):
        return train_plan(request, plan, watcher)
