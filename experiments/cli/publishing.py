"""``./run_all.sh publish TABLE --to hf:USER/NAME``: a table's bundle, or a row's weights."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from experiments.cli.options import STORED, TableArgument, asks

if TYPE_CHECKING:
    from experiments.plan.request import Request


@asks(*STORED)
def publish(
    request: Request,
    table: TableArgument,
    to: Annotated[str, typer.Option("--to", help="hf:USER/NAME, on huggingface.co.")],
    row: Annotated[
        str | None,
        typer.Option(help="The weights of this row's runs with a model card, not the table."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list what would be uploaded.")
    ] = False,
    private: Annotated[
        bool, typer.Option("--private", help="Only you see the repository, if it is made now.")
    ] = False,
) -> None:
    """Upload a table's bundle, or the weights of a row with a model card, to huggingface.co.

    One commit: all of it is there or nothing. The same again changes nothing. Exit code: 0 it is
    there, 1 it is not.
    """
    from rich.markup import escape

    from experiments.show import publish as hub
    from experiments.show.console import make_console
    from experiments.show.published import stage_row, stage_table

    target = hub.Target.parse(to, "model" if row else "dataset")
    console = make_console()
    with tempfile.TemporaryDirectory(prefix="lab-publish-") as staging:
        folder = Path(staging)
        if row is None:
            stage_table(request, table, folder)
        else:
            stage_row(request, table, row, target.name, folder)
        for name, size in hub.files_of(folder):
            console.print(escape(f"{size:>14,}  {name}"), soft_wrap=True)
        if dry_run:
            console.print(escape(f"Nothing was uploaded; without --dry-run: {to}."), soft_wrap=True)
            return
        what = f"{table}/{row}" if row else table
        message = f"Publish {what}, profile {request.profile.name}"
        done = hub.publish(folder, target, message, private=private)
    state = "it is there" if done.changed else "it was there already, nothing has changed"
    console.print(escape(f"{done.url}: {state}."), soft_wrap=True)
