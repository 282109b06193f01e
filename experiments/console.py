"""What a person sees: tables, plans, progress. Quiet where nobody looks."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table as RichTable
from typing_extensions import Self

from experiments.assemble import TableResult
from experiments.claim_text import claims_heading, show_claim
from experiments.cost import GpuHours
from experiments.count_table import CountTable, count_columns, count_notes, count_rows
from experiments.estimate import Estimate, Pace
from experiments.export import (
    PAPER_STYLE,
    alignment,
    caption,
    display_columns,
    display_rows,
    footnotes,
    notes_of_rows,
)
from experiments.launch import Outcome
from experiments.layout import LEGEND, lay_out
from experiments.plan import Plan, PlannedRun
from experiments.progress import Progress as Where
from experiments.progress import read_progress
from experiments.store import RunFolder
from experiments.text import Cell, Section

WIDTH_WITHOUT_TERMINAL = 180
TICK_S = 0.5
TENTH = 0.1  # of the work, after which an estimate rests on this call
FRESH_STEPS = 20  # a run first seen later than this was resumed
LONGEST_REASON = 48  # characters in a plan's table; a longer one stands below it, once
MISSING_RUN = "–"


def make_console(*, stderr: bool = False) -> Console:
    """A console that does not fold tables where there is no terminal to fold them for."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else WIDTH_WITHOUT_TERMINAL
    return Console(stderr=stderr, width=width, highlight=False)


def show_table(console: Console, result: TableResult, style: str | None = None) -> None:
    """Print a table with its caption and notes; style "paper" in the paper's own columns."""
    if style == PAPER_STYLE:
        _show_in_paper_columns(console, result)
        return
    table = RichTable(title=escape(result.table.source), caption=escape(caption(result)))
    for name, side in zip(display_columns(result), alignment(result)):
        table.add_column(escape(name), justify="right" if side == "r" else "left")
    for row in display_rows(result):
        table.add_row(*map(escape, row))
    console.print(table)
    for number, text, _ in footnotes(result):
        console.print(escape(f"[{number}] {text}"))
    if result.claims:
        console.print(claims_heading(result.profile))
    for claim in result.claims:
        console.print(escape(f"  {show_claim(claim)}"))


def _show_in_paper_columns(console: Console, result: TableResult) -> None:
    laid = lay_out(result, notes_of_rows(result))
    text = f"{caption(result)} {LEGEND}"
    table = RichTable(title=escape(result.table.source), caption=escape(text))
    for name, side in zip(laid.flat_columns, laid.alignment):
        table.add_column(escape(name), justify="right" if side == "r" else "left")
    for row in laid.rows:
        if isinstance(row, Section):
            table.add_section()
            if row.title:
                table.add_row(escape(row.title), style="bold")
        else:
            table.add_row(*(escape(str(cell)) for cell in row), style=_style_of(row))
    console.print(table)
    for number, note, _ in footnotes(result):
        console.print(escape(f"[{number}] {note}"))


def _style_of(row: Sequence[Cell]) -> str:
    return "italic dim" if row[0].italic else ""


def show_counts(console: Console, result: CountTable) -> None:
    """Print the parameters and multiply-accumulates of a table beside the paper's."""
    heading = f"{result.table.source}: parameters and multiply-accumulates"
    table = RichTable(title=escape(heading))
    for index, name in enumerate(count_columns()):
        table.add_column(escape(name), justify="left" if index in (0, 1) else "right")
    for row in count_rows(result):
        table.add_row(*map(escape, row))
    console.print(table)
    for number, text, _ in count_notes(result):
        console.print(escape(f"[{number}] {text}"))
    console.print(result.summary())


def show_paths(console: Console, paths: Sequence[Path]) -> None:
    """Print where a table was written, in one line."""
    stems = dict.fromkeys(path.with_suffix("") for path in paths)
    files = [
        f"{stem}.{{{','.join(path.suffix[1:] for path in paths if path.with_suffix('') == stem)}}}"
        for stem in stems
    ]
    console.print(f"Written: {', '.join(files)}", soft_wrap=True)


def show_plan(console: Console, plan: Plan, jobs: int, hours: GpuHours | None = None) -> None:
    """Print every cell of a plan with its state and the time that the rest will take."""
    table = RichTable(title="Plan")
    for name in ("Table", "Row", "Seed", "State", "Run", "Why", *(["GPU-h"] if hours else [])):
        table.add_column(name, overflow="fold", justify="right" if name == "GPU-h" else "left")
    notes: dict[str, int] = {}
    for cell in plan.cells:
        if cell.run is None:
            state, run_id, reasons = "blocked", MISSING_RUN, cell.reasons
        else:
            state, run_id, reasons = cell.run.state, cell.run.spec.run_id, (cell.run.reason,)
        why = [
            f"[{notes.setdefault(reason, len(notes) + 1)}]"
            if len(reason) > LONGEST_REASON
            else reason
            for reason in reasons
        ]
        values = [cell.table, cell.row, str(cell.seed), state, run_id, " ".join(why)]
        if hours:
            values.append(MISSING_RUN if cell.gpu_hours is None else f"{cell.gpu_hours:.3g}")
        table.add_row(*map(escape, values))
    console.print(table)
    for text, number in notes.items():
        console.print(escape(f"[{number}] {text}"), soft_wrap=True)
    console.print(plan_sentence(plan, jobs))
    if hours and plan.gpu_hours is not None:
        total = f"About {plan.gpu_hours:,.0f} GPU-hours without a record, each run once."
        console.print(escape(f"{total} {hours.sentence()}"), soft_wrap=True)


def plan_sentence(plan: Plan, jobs: int) -> str:
    """How many runs there are to do and how long they will take."""
    to_do, expected = len(plan.to_do), plan.expected_s(jobs)
    stale = sum(run.state == "stale" for run in plan.runs)
    text = f"{len(plan.runs)} runs, {len(plan.runs) - to_do - stale} cached, "
    text += f"{stale} stale (--remake-stale trains them anew), " if stale else ""
    text += f"{to_do} to do"
    if plan.blocked:
        text += f", {len(plan.blocked)} cells blocked"
    if not to_do:
        return text + "."
    if expected is None:
        return text + "; how long is not known yet: no such run has been recorded."
    return text + f"; about {show_duration(expected)} with {jobs} at once."


def show_duration(seconds: float) -> str:
    """``45 s``, ``7 min``, ``3.2 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


class ProgressWatcher:
    """Shows the runs that are under way and an estimate of the rest.

    On a terminal a live display; elsewhere one line for each tenth of the work and each failure.

    Args:
        console: where to; standard error, so that results can be piped.
        estimate: of the runs to do.
    """

    def __init__(self, console: Console, estimate: Estimate) -> None:
        self.console, self.estimate = console, estimate
        self.total, self._over = len(estimate.kinds), 0
        self._ticked = time.monotonic()
        self._began: dict[str, float] = {}
        self._first_step: dict[str, int] = {}
        self._tasks: dict[str, TaskID] = {}
        self._live = console.is_terminal
        self._tenths = 0  # of the work that have been told
        self._progress = Progress(
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
            self.console.print(f"[red]failed[/red] {run_id}: {escape(outcome.sentence)}")

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
        if not self._live and left and tenths > self._tenths:
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
