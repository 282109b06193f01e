"""``./run_all.sh weights list | verify``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from experiments.store.workspace import DEFAULT_DATA_ROOT, Workspace

if TYPE_CHECKING:
    from ssa.released.manifest import WeightsStatus

app = typer.Typer(no_args_is_help=True, help="Pretrained files: which, where from, whether whole.")

DataRootOption = Annotated[Path, typer.Option(help="Folder that holds weights/.")]


@app.command("list")
def list_(data_root: DataRootOption = DEFAULT_DATA_ROOT) -> None:
    """Show every pretrained file, what it starts, its licence and where it is published."""
    from ssa.released.manifest import list_weights

    _show(list_weights(Workspace(data_root=data_root.resolve()).weights))


@app.command()
def verify(data_root: DataRootOption = DEFAULT_DATA_ROOT) -> None:
    """Hold the files that are here against the published digests.

    Exit code 1 if one differs; a missing file is no error until a run needs it.
    """
    from ssa.released.manifest import verify_weights

    statuses = verify_weights(Workspace(data_root=data_root.resolve()).weights)
    _show(statuses)
    raise typer.Exit(int(any(status.check == "different" for status in statuses)))


def _show(statuses: list[WeightsStatus]) -> None:
    from rich.markup import escape

    from experiments.show.console import make_console

    console = make_console()
    for status in statuses:
        entry = status.entry
        state = status.check or ("present" if status.present else "missing")
        console.print(f"{entry.name:<22}{state:<12}{escape(entry.initialises)}", soft_wrap=True)
        console.print(f"{'':<22}{escape(entry.licence)}", soft_wrap=True)
        where = str(status.path) if status.present else f"{entry.url} → {status.path}"
        console.print(f"{'':<22}{escape(where)}", soft_wrap=True)
