"""``./run_all.sh bundle TABLE --out FILE.zip`` and ``unbundle FILE.zip --out DIR``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from experiments.cli.options import STORED, TableArgument, asks

if TYPE_CHECKING:
    from experiments.plan.request import Request


@asks(*STORED)
def bundle(
    request: Request,
    table: TableArgument,
    out: Annotated[Path, typer.Option(help="A new folder, or a new file that ends in .zip.")],
) -> None:
    """Write a table with its records, declared files and environment as one RO-Crate.

    Exit code: 0 it is written, 1 it could not be.
    """
    from rich.markup import escape

    from experiments.show.bundle import bundle as write
    from experiments.show.console import make_console

    runs = write(request, table, out)
    console = make_console()
    console.print(escape(f"{out}: {table} with {len(runs)} runs."), soft_wrap=True)
    console.print(escape(f"`./run_all.sh unbundle {out} --out DIR` unpacks it."), soft_wrap=True)


def unbundle(
    source: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A folder or a zip file.")],
    out: Annotated[Path, typer.Option(help="A new results folder.")],
) -> None:
    """Check every checksum of a bundle and unpack it into a new results folder.

    Exit code: 0 all is in OUT, 1 the bundle is damaged or not safe, and nothing is.
    """
    from rich.markup import escape

    from experiments.show.console import make_console
    from experiments.store.bundles import unbundle as unpack

    files = unpack(source, out)
    console = make_console()
    console.print(escape(f"{out}: {files} files, every checksum fits."), soft_wrap=True)
    console.print(escape(f"`./run_all.sh diff RESULTS {out}` compares."), soft_wrap=True)
