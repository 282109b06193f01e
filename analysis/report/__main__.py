"""``python -m analysis.report``: write the report of a results folder. See docs/report.md."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from experiments.errors import SsaError, UnknownNameError, sentence_of
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
    """Write the page; returns its path.

    Raises:
        SsaError: a wrong name; results that cannot be read or written.
    """
    from analysis.report.gather import Request, gather
    from analysis.report.page import render
    from experiments.declare.load import load_registry
    from experiments.files import write_atomically

    workspace = Workspace(results=options.results.resolve(), data_root=options.data_root.resolve())
    request = Request(
        load_registry(options.registry),
        workspace,
        tuple(options.profile),
        tuple(options.items),
        tuple(options.registry),
    )
    path = workspace.results / "report" / "index.html"
    write_atomically(path, render(gather(request)))
    return path


if __name__ == "__main__":
    sys.exit(main())
