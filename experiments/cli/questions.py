"""``./run_all.sh why | explain | diff | status | export``: questions about what is stored."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from experiments.cli.options import (
    DEFAULT_PROFILE,
    DataRootOption,
    ItemArgument,
    JsonOption,
    MetricArgument,
    ProfileOption,
    RegistryOption,
    ResultsOption,
    RowArgument,
    ScratchOption,
    SeedsOption,
    StyleOption,
    TableArgument,
    make_request,
    table_style,
)
from experiments.errors import UnclearNameError
from experiments.store.workspace import DEFAULT_DATA_ROOT, DEFAULT_RESULTS


def register(app: typer.Typer) -> None:
    """Make the functions below verbs of ``app``."""
    for verb in (why, explain, diff, status, export):
        app.command()(verb)


def why(
    table: TableArgument,
    row: RowArgument,
    metric: MetricArgument = "miou",
    profile: ProfileOption = DEFAULT_PROFILE,
    seeds: SeedsOption = None,
    data_root: DataRootOption = DEFAULT_DATA_ROOT,
    results: ResultsOption = DEFAULT_RESULTS,
    registry: RegistryOption = None,
    from_scratch: ScratchOption = False,
) -> None:
    """Show where one printed cell comes from: runs, seeds, commits, machines, verdict, command.

    Exit code: 0 there is a number, 3 there is none yet.
    """
    from experiments.ask.why import show_origin
    from experiments.ask.why import why as look_up
    from experiments.show.console import make_console

    call = make_request(profile, seeds, data_root, results, registry, from_scratch)
    origin = look_up(call, table, row, metric)
    show_origin(make_console(), origin)
    raise typer.Exit(0 if origin.measured is not None else 3)


def explain(
    run: Annotated[str, typer.Argument(help="Id of a run, its beginning, or TABLE/ROW/SEED.")],
    profile: ProfileOption = DEFAULT_PROFILE,
    seeds: SeedsOption = None,
    data_root: DataRootOption = DEFAULT_DATA_ROOT,
    results: ResultsOption = DEFAULT_RESULTS,
    registry: RegistryOption = None,
    from_scratch: ScratchOption = False,
) -> None:
    """Show why a run is or is not there: fields that differ from the nearest stored run.

    Exit code: 0 it is stored, 3 it is not.
    """
    from experiments.ask.explain import explain as look_up
    from experiments.ask.explain import show_explanation
    from experiments.plan.plan import DONE
    from experiments.show.console import make_console

    call = make_request(profile, seeds, data_root, results, registry, from_scratch)
    found = look_up(call, run)
    show_explanation(make_console(), found)
    raise typer.Exit(0 if found.state in DONE else 3)


def diff(
    first: Annotated[Path, typer.Argument(metavar="A", help="A results folder.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another.")],
) -> None:
    """Show how two results folders differ: runs, scores, environments, cells of tables.

    Exit code: 0 nothing differs, 1 something does, 3 equal as far as both have it.
    """
    from experiments.ask.difference import difference, show_difference
    from experiments.show.console import make_console

    found = difference(first, second)
    show_difference(make_console(), found, first, second)
    raise typer.Exit(found.exit_code)


def status(
    profile: ProfileOption = DEFAULT_PROFILE,
    seeds: SeedsOption = None,
    data_root: DataRootOption = DEFAULT_DATA_ROOT,
    results: ResultsOption = DEFAULT_RESULTS,
    registry: RegistryOption = None,
    from_scratch: ScratchOption = False,
    json: JsonOption = False,
) -> None:
    """Show how much of the paper there is: cells reported, measured, blocked, stale, verdicts.

    Trains nothing and counts nothing. Exit code: 0.
    """
    from experiments.ask.coverage import coverage, show_coverage, to_json
    from experiments.show.console import make_console

    call = make_request(profile, seeds, data_root, results, registry, from_scratch)
    found = coverage(call)
    if json:
        sys.stdout.write(to_json(found) + "\n")
    else:
        show_coverage(make_console(), found)


def export(
    item: ItemArgument,
    profile: ProfileOption = DEFAULT_PROFILE,
    seeds: SeedsOption = None,
    data_root: DataRootOption = DEFAULT_DATA_ROOT,
    results: ResultsOption = DEFAULT_RESULTS,
    registry: RegistryOption = None,
    from_scratch: ScratchOption = False,
    style: StyleOption = None,
) -> None:
    """Assemble ITEM from what is stored, print and write it; nothing is trained.

    Exit code: 0 complete, 3 incomplete.
    """
    from experiments.cli.verbs import export_stored
    from experiments.show.console import make_console

    call = make_request(profile, seeds, data_root, results, registry, from_scratch)
    if item in call.registry.figures:
        raise UnclearNameError(f"{item} is a figure; draw what is stored with `figures`.")
    raise typer.Exit(export_stored(call, item, make_console(), table_style(style)))
