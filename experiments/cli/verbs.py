"""What the main verbs do, step by step: plan, launch, judge, show."""

from __future__ import annotations

from fnmatch import fnmatchcase

from rich.console import Console

from experiments.declare.table import Table
from experiments.errors import UnknownNameError
from experiments.judge.tables import assembled, counter_of
from experiments.plan.plan import Plan
from experiments.plan.request import Request
from experiments.show import console as show
from experiments.show.count_table import count_table, export_counts
from experiments.show.export import export
from experiments.show.progress_bars import train_and_show

COMPLETE, FAILED, INCOMPLETE = 0, 1, 3


def count(request: Request, item: str, console: Console) -> int:
    """Count the paper-size networks of a table; no data, no training. Returns the exit code."""
    for table in request.tables(item):
        result = count_table(table, counter_of(request))
        paths = export_counts(result, request.workspace.results / "tables")
        show.show_counts(console, result)
        show.show_paths(console, paths)
    return COMPLETE


def show_plan(request: Request, item: str, console: Console) -> int:
    """Show what there is and what is to be done; returns the exit code.

    Raises:
        UnknownNameError: no row of ``item`` fits the pattern of this request.
    """
    plan = request.plan(_asked_tables(request, item)).only(request.rows)
    show.show_plan(console, plan, request.jobs, request.hours)
    return COMPLETE


def run(request: Request, item: str, console: Console, style: str | None = None) -> int:
    """Plan, train what is missing, judge, print and export; returns the exit code.

    Args:
        request: the options of the call.
        item: a table, or all.
        console: where tables are printed.
        style: "paper": in the paper's own columns as well.

    Raises:
        UnknownNameError: no row of ``item`` fits the pattern of this request.
    """
    plan = request.plan(_asked_tables(request, item))
    asked = plan.only(request.rows)
    if request.remake_stale:
        asked = asked.remaking()
    outcomes = train_and_show(request, asked) if asked.to_do else []
    plan = plan.after([outcome.spec.run_id for outcome in outcomes], request.store)
    _show_tables(request, plan, console, style)
    if any(outcome.end == "failed" for outcome in outcomes):
        return FAILED
    return COMPLETE if plan.only(request.rows).complete else INCOMPLETE


def cancel_jobs(request: Request, item: str, console: Console) -> int:
    """End the jobs that a cluster has for the runs of ``item``; returns the exit code.

    Raises:
        UnknownNameError: no row of ``item`` fits the pattern of this request.
        SlurmError: Slurm does not answer.
    """
    from experiments.launch.slurm import cancel

    plan = request.plan(_asked_tables(request, item)).only(request.rows)
    jobs = cancel([request.store.folder(run.spec.run_id) for run in plan.runs])
    ended = ", ".join(jobs) or "there were none"
    console.print(f"{len(jobs)} job{'' if len(jobs) == 1 else 's'} cancelled ({ended}).")
    return COMPLETE


def export_stored(request: Request, item: str, console: Console, style: str | None = None) -> int:
    """Judge, print and export what is stored; trains nothing. Returns the exit code."""
    plan = request.plan(request.tables(item))
    _show_tables(request, plan, console, style)
    return COMPLETE if plan.complete else INCOMPLETE


def _asked_tables(request: Request, item: str) -> list[Table]:
    tables = request.tables(item)
    rows = [row.id for table in tables for row in table.rows]
    if request.rows is not None and not any(fnmatchcase(row, request.rows) for row in rows):
        raise UnknownNameError(f"row of {item}", request.rows, rows)
    return tables


def _show_tables(request: Request, plan: Plan, console: Console, style: str | None) -> None:
    for result in assembled(request, plan):
        paths = export(result, request.workspace.results / "tables", style)
        show.show_table(console, result, style)
        show.show_paths(console, paths)
