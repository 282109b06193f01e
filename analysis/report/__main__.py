"""``python -m analysis.report``: write the report of a results folder. See docs/report.md."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from experiments.errors import SsaError, StoreError, UnknownNameError, sentence_of
from experiments.store.store import Store
from experiments.store.workspace import DEFAULT_DATA_ROOT, DEFAULT_RESULTS, Workspace

FAILED, USAGE = 1, 2


def main() -> int:
    """Gather, render, write ``report/index.html``; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="./run_all.sh report",
        description="Write one page, results/report/index.html, that shows the whole state.",
    )
    parser.add_argument("items", nargs="*", help="tables to show (default: all)")
    parser.add_argument(
        "--profile", action="append", default=[], help="only this one; may be given again"
    )
    parser.add_argument("--results", type=Path, default=DEFAULT_RESULTS, help="folder to read")
    parser.add_argument("--data-root", type=Path, default=DEFAULT_DATA_ROOT)
    parser.add_argument("--site", type=Path, help="write a page a table into this folder instead")
    parser.add_argument("--registry", type=Path, action="append", default=[])
    options = parser.parse_args()
    try:
        path = write(options)
    except SsaError as error:
        print(f"Error: {sentence_of(error)}", file=sys.stderr)
        return USAGE if isinstance(error, UnknownNameError) else FAILED
    print(path)
    return 0


def write(options: argparse.Namespace) -> Path:
    """Write the page, or the site; returns its (first) path.

    Raises:
        SsaError: a wrong name; results that cannot be read or written.
    """
    from analysis.report.gather import Request, gather
    from analysis.report.page import render, render_site
    from experiments.declare.load import load_registry
    from experiments.files import write_atomically

    workspace = Workspace(results=options.results.resolve(), data_root=options.data_root.resolve())
    folder = workspace.results / "report"
    nothing = next(iter(Store(workspace.results).run_ids()), None) is None
    shipped = nothing and not options.registry and workspace.reference.is_dir()
    if shipped:
        workspace = replace(workspace, results=workspace.reference)
    request = Request(
        load_registry(options.registry),
        workspace,
        tuple(options.profile),
        tuple(options.items),
        tuple(options.registry),
        shipped,
    )
    data = gather(request)
    if options.site is None:
        write_atomically(folder / "index.html", render(data))
        return folder / "index.html"
    return write_site(render_site(data), options.site)


def write_site(pages: Mapping[str, str], folder: Path) -> Path:
    """Write the pages of a site; returns the first one's path.

    Raises:
        StoreError: a file of that name is somebody else's; the folder may not be written.
    """
    from analysis.report.page import GENERATOR
    from experiments.files import write_atomically, writing

    for path in (folder / name for name in pages):
        with writing(path):
            foreign = path.exists() and GENERATOR not in _beginning(path)
        if foreign:
            raise StoreError(
                f"{path} is no page of a report and stays as it is; "
                "name another folder with --site."
            )
    for name, text in pages.items():
        write_atomically(folder / name, text)
    return folder / "index.html"


def _beginning(path: Path) -> str:
    """As much of a page as says who made it."""
    with path.open("rb") as file:
        return file.read(4096).decode(errors="replace")


if __name__ == "__main__":
    sys.exit(main())
