"""What the main verbs do, step by step: plan, launch, judge, show."""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatchcase

from rich.console import Console

from experiments.declare.table import Table
from experiments.errors import UnknownNameError
from experiments.judge.assemble import TableResult, assemble
from experiments.judge.detection import detection
from experiments.judge.tables import assembled, counter_of
from experiments.launch.decide import Budget
from experiments.launch.decide import decide as decide_table
from experiments.machine import PROJECT
from experiments.plan.plan import Plan
from experiments.plan.request import Request, without_weights
from experiments.show import console as show
from experiments.show.appendix import Artefact, export_appendix
from experiments.show.console import make_console
from experiments.show.count_table import count_table, export_counts
from experiments.show.course import CourseWatcher, end_sentence
from experiments.show.detection import show_needed
from experiments.show.export import export
from experiments.show.progress_bars import train_and_show

COMPLETE, FAILED, INCOMPLETE = 0, 1, 3
#: of a call: what chooses the rates of rows, then what has them
STAGES = 2


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


def show_detection(request: Request, item: str, points: float, console: Console) -> int:
    """Show what it takes to see a gain of so many points; returns the exit code.

    Raises:
        UnknownNameError: no row of ``item`` fits the pattern of this request.
    """
    known = [
        show_needed(console, detection(request, table, points), request.jobs)
        for table in _asked_tables(request, item)
    ]
    return COMPLETE if all(known) else INCOMPLETE


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
    tables, failed = _asked_tables(request, item), False
    for _ in range(STAGES):
        plan = request.plan(tables)
        asked = plan.only(request.rows)
        if request.remake_stale:
            asked = asked.remaking()
        outcomes = train_and_show(request, asked) if asked.to_do else []
        plan = plan.after([outcome.spec.run_id for outcome in outcomes], request.store)
        failed = any(outcome.end == "failed" for outcome in outcomes)
        if failed or not (outcomes and asked.waiting):
            break
    _show_tables(request, plan, console, style)
    if failed:
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


def decide(request: Request, item: str, console: Console, budget_s: float | None, most: int) -> int:
    """Add seeds where they are worth most, judge, print and export; returns the exit code.

    Args:
        request: the options of the call.
        item: a table, or all: one table after another within the budget.
        console: where tables are printed.
        budget_s: seconds of the clock; None: no end.
        most: seeds of a row.

    Raises:
        UnclearNameError: a table that claims nothing.
    """
    tables, budget = request.tables(item), Budget(budget_s)
    if len(tables) > 1:
        tables = [table for table in tables if table.claims]
    told = make_console(stderr=True)
    code = COMPLETE
    for table in tables:
        watcher = CourseWatcher(told, request)
        end, plan = decide_table(request, table, budget, most, watcher.train, watcher.told)
        results = _show_tables(request, plan, console, None)
        told.print(end_sentence(end, f"./run_all.sh decide {item}"), soft_wrap=True)
        if end == "failed":
            return FAILED
        if any(claim.word == "undecided" for result in results for claim in result.claims):
            code = INCOMPLETE
    return code


def export_stored(
    request: Request, item: str, console: Console, style: str | None = None, macros: bool = False
) -> int:
    """Judge, print and export what is stored; trains nothing. Returns the exit code.

    Args:
        request: the options of the call.
        item: a table, or all.
        console: where tables are printed.
        style: "paper": in the paper's own columns as well.
        macros: one LaTeX command a number as well.
    """
    plan = request.plan(request.tables(item))
    _show_tables(request, plan, console, style, macros)
    return COMPLETE if plan.complete else INCOMPLETE


def write_appendix(request: Request, console: Console) -> int:
    """Write the appendix of an artefact evaluation; trains nothing. Returns the exit code.

    Expected results are those of the request's folder; of the shipped ones where it has no run.
    """
    if request.reference is not None and next(iter(request.store.run_ids()), None) is None:
        workspace = replace(request.workspace, results=request.workspace.reference)
        folder, request = request.workspace.results, replace(request, workspace=workspace)
    else:
        folder = request.workspace.results
    printed = request.registry.paper.items
    tables = sorted(request.tables("all"), key=lambda table: table.name not in printed)
    plan = request.stored_plan(tables)
    results = [assemble(planned, request.store, request.reference) for planned in plan.tables]
    hours, basis = _published_cost(request)
    place = str(request.workspace.results).removeprefix(f"{PROJECT}/")
    artefact = Artefact(request.registry, results, place, hours, basis)
    show.show_paths(console, export_appendix(artefact, folder / "tables"))
    return COMPLETE if plan.complete else INCOMPLETE


def _published_cost(request: Request) -> tuple[dict[str, float], str]:
    """Table → GPU-hours under the profile paper, and on what the estimate rests."""
    paper = request.registry.profiles.get("paper")
    if paper is None or paper.cost is None:
        return {}, ""
    profile, _ = without_weights(paper)  # costs the same, and which files there are is not asked
    own = replace(request, profile=profile, seeds=tuple(range(paper.seeds)))
    costs: dict[str, float] = {}
    for planned in own.plan(own.tables("all")).tables:
        hours = [cell.gpu_hours for cell in planned.cells if cell.gpu_hours is not None]
        if hours:
            costs[planned.table.name] = sum(hours)
    return costs, own.hours.sentence() if own.hours else ""


def _asked_tables(request: Request, item: str) -> list[Table]:
    tables = request.tables(item)
    rows = [row.id for table in tables for row in table.rows]
    if request.rows is not None and not any(fnmatchcase(row, request.rows) for row in rows):
        raise UnknownNameError(f"row of {item}", request.rows, rows)
    return tables


def _show_tables(
    request: Request, plan: Plan, console: Console, style: str | None, macros: bool = False
) -> list[TableResult]:
    results = assembled(request, plan)
    for result in results:
        paths = export(result, request.workspace.results / "tables", style, macros=macros)
        show.show_table(console, result, style)
        show.show_paths(console, paths)
    return results
