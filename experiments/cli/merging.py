"""``./run_all.sh merge A B --out C``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from experiments.store.merge import Merged

MOST_LINES = 12  # of one kind


def merge(
    sources: Annotated[
        list[Path], typer.Argument(metavar="A B …", help="Results folders; they are only read.")
    ],
    out: Annotated[
        Path,
        typer.Option(help="Results folder, new or not: what it has stays. May be one of A, B."),
    ],
    anonymous: Annotated[
        bool, typer.Option("--anonymous", help="Leave out host names, logs and configs.")
    ] = False,
) -> None:
    """Put the finished runs of several results folders into one.

    A run that several have with the same result is one; of different results each is kept, and the
    one that finished first stands in the tables. Can be repeated and interrupted; the order is no
    matter. Exit code: 0 all is in OUT, 1 something could not be taken.
    """
    from experiments.show.console import make_console
    from experiments.store.merge import merge as put_together

    merged = put_together(sources, out, anonymous=anonymous)
    _show(make_console(), merged, out)
    raise typer.Exit(1 if merged.refused else 0)


def _show(console: Console, merged: Merged, out: Path) -> None:
    from rich.markup import escape

    kept = merged.runs - merged.written
    console.print(
        escape(f"{out}: {merged.runs} runs, {merged.written} written, {kept} as they were."),
        soft_wrap=True,
    )
    lines = [
        f"{each.run_id}: {len(each.others) + 1} different results, each in runs/{each.run_id}/"
        f"variants/; tables show {each.shown.key}, which finished first ({each.shown.finished})"
        for each in merged.different
    ]
    if merged.unfinished:
        lines.append(f"{merged.unfinished} unfinished runs stay where they are.")
    for several, style in ((lines, ""), (merged.refused, "yellow")):
        for line in several[:MOST_LINES]:
            console.print(escape(line), soft_wrap=True, style=style or None)
        if len(several) > MOST_LINES:
            console.print(f"… and {len(several) - MOST_LINES} more.")
    if merged.different:
        console.print(
            escape(f"`./run_all.sh explain RUN --results {out}` names the results of one."),
            soft_wrap=True,
        )
    if merged.refused:
        console.print("Mend or remove what is named, then give the same command again.")
