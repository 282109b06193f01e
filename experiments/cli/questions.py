"""``why | explain | diff | status | export | check | cancel``: questions about what is stored."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from experiments.cli import completion
from experiments.cli.options import (
    STORED,
    ItemArgument,
    JsonOption,
    MetricArgument,
    RowArgument,
    StyleOption,
    TableArgument,
    asks,
    table_style,
)
from experiments.errors import UnclearNameError

if TYPE_CHECKING:
    from experiments.plan.request import Request


def register(app: typer.Typer) -> None:
    """Make the functions below verbs of ``app``."""
    for verb in (why, explain, diff, status, export, check, cancel):
        app.command()(verb)


@asks(*STORED)
def why(
    request: Request, table: TableArgument, row: RowArgument, metric: MetricArgument = "miou"
) -> None:
    """Show where one printed cell comes from: runs, seeds, commits, machines, verdict, command.

    Exit code: 0 there is a number, 3 there is none yet.
    """
    from experiments.ask.why import show_origin
    from experiments.ask.why import why as look_up
    from experiments.show.console import make_console

    origin = look_up(request, table, row, metric)
    show_origin(make_console(), origin)
    raise typer.Exit(0 if origin.measured is not None else 3)


@asks(*STORED)
def explain(
    request: Request,
    run: Annotated[str, typer.Argument(help="Id of a run, its beginning, or TABLE/ROW/SEED.")],
) -> None:
    """Show why a run is or is not there: fields that differ from the nearest stored run.

    Exit code: 0 it is stored, 3 it is not.
    """
    from experiments.ask.explain import explain as look_up
    from experiments.ask.explain import show_explanation
    from experiments.plan.plan import DONE
    from experiments.show.console import make_console

    explanation = look_up(request, run)
    show_explanation(make_console(), explanation)
    raise typer.Exit(0 if explanation.state in DONE else 3)


def diff(
    first: Annotated[Path, typer.Argument(metavar="A", help="A results folder.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another.")],
) -> None:
    """Show how two results folders differ: runs, scores, environments, cells of tables.

    Exit code: 0 nothing differs, 1 something does, 3 equal as far as both have it.
    """
    from experiments.ask.difference import difference, show_difference
    from experiments.show.console import make_console

    differing = difference(first, second)
    show_difference(make_console(), differing, first, second)
    raise typer.Exit(differing.exit_code)


@asks(*STORED)
def status(
    request: Request,
    json: JsonOption = False,
    watch: Annotated[
        bool,
        typer.Option("--watch", help="A live table of runs: queued, running, done, time left."),
    ] = False,
) -> None:
    """Show how much of the paper there is: cells reported, measured, blocked, stale, verdicts.

    With --watch instead where each run of the results folder stands, until none waits or runs.
    Trains nothing and counts nothing. Exit code: 0.
    """
    if watch:
        from experiments.show.terminal import make_console as console_of
        from experiments.show.watch import watch as look

        look(console_of(), request.store, request.costs)
        return
    from experiments.ask.coverage import coverage, show_coverage, to_json
    from experiments.show.console import make_console

    covered = coverage(request)
    if json:
        sys.stdout.write(to_json(covered) + "\n")
    else:
        show_coverage(make_console(), covered)


@asks(*STORED)
def export(
    request: Request,
    item: Annotated[
        str, typer.Argument(help="A table, all, or appendix.", autocompletion=completion.exported)
    ],
    style: StyleOption = None,
    macros: Annotated[
        bool, typer.Option("--macros", help="Write one LaTeX command a number, too.")
    ] = False,
) -> None:
    """Assemble ITEM from what is stored, print and write it; nothing is trained.

    The item "appendix" is that of an artefact evaluation: every table's claims, commands, minutes
    and expected results.

    Exit code: 0 complete, 3 incomplete.
    """
    from experiments.cli.verbs import export_stored, write_appendix
    from experiments.show.appendix import APPENDIX
    from experiments.show.console import make_console

    if item == APPENDIX and item not in request.registry.tables:
        raise typer.Exit(write_appendix(request, make_console()))

    if item in request.registry.figures:
        raise UnclearNameError(f"{item} is a figure; draw what is stored with `figures`.")
    raise typer.Exit(export_stored(request, item, make_console(), table_style(style), macros))


@asks("profile", "data_root", "results", "registry")
def check(
    request: Request,
    texts: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Of .md and .tex.")],
    fix: Annotated[
        bool, typer.Option("--fix", help="Write what is stored into numbers with a named source.")
    ] = False,
) -> None:
    """Find numbers in texts that differ from what is stored, are stale or name no source.

    How a text names a source: docs/prose.md. Exit code: 0 all is as stored, 1 something is not,
    3 all is as stored and some of it stale.
    """
    from experiments.ask.check import check as compare
    from experiments.ask.findings import show_checked
    from experiments.show.console import make_console

    checked = compare(request, texts, fix=fix)
    show_checked(make_console(), checked)
    raise typer.Exit(checked.exit_code)


@asks(*STORED, "rows")
def cancel(request: Request, item: ItemArgument) -> None:
    """End the jobs that a cluster has for ITEM's runs; finished runs and checkpoints stay.

    Exit code: 0.
    """
    from experiments.cli.verbs import cancel_jobs
    from experiments.show.console import make_console

    raise typer.Exit(cancel_jobs(request, item, make_console()))
