"""What a person sees: tables, plans, progress. Quiet where nobody looks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from experiments.judge.assemble import TableResult
from experiments.plan.cost import GpuHours
from experiments.plan.plan import Plan
from experiments.show.claims import claims_heading, show_claim
from experiments.show.count_table import CountTable, count_columns, count_notes, count_rows
from experiments.show.export import (
    PAPER_STYLE,
    alignment,
    caption,
    display_columns,
    display_rows,
    footnotes,
    notes_of_rows,
)
from experiments.show.paper_layout import LEGEND, lay_out
from experiments.show.terminal import make_console as make_console  # handed on
from experiments.show.text import Cell, Section

LONGEST_REASON = 48  # characters in a plan's table; a longer one stands below it, once


MISSING_RUN = "–"


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
        console.print(claims_heading(result.profile, sequential=result.sequential))
    for claim in result.claims:
        console.print(escape(f"  {show_claim(claim)}"))


def _show_in_paper_columns(console: Console, result: TableResult) -> None:
    laid = lay_out(result, notes_of_rows(result))
    text = f"{caption(result, gains=False)} {LEGEND}"
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
            state = "waits" if cell.waits else "blocked"
            run_id, reasons = MISSING_RUN, cell.reasons
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
    if plan.waiting:
        text += f", then {len(plan.waiting)} more at the rates that these choose"
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
