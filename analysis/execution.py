"""``python -m analysis.execution [NAME …]``: execute the notebooks, keep them with their outputs.

A notebook is kept twice: ``analysis/notebooks/<name>.py`` (jupytext's percent format, what is
edited) and ``<name>.ipynb`` (the same cells, executed). Equal results give equal files: no times,
no places of this machine, no versions, cell ids that count.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.notebook import Chosen, default_results
from experiments.declare.figure import figure_stem
from experiments.declare.load import load_registry
from experiments.errors import SsaError, UnknownNameError, sentence_of
from experiments.files import write_atomically
from experiments.machine import cpu_count, search_path
from experiments.store.workspace import REFERENCE

if TYPE_CHECKING:
    from nbformat import NotebookNode

SOURCES = Path(__file__).resolve().parent / "notebooks"
COMPLETE, FAILED, INCOMPLETE = 0, 1, 3
#: seconds that one cell may take; the longest embeds a picture that nobody has embedded yet
PATIENCE_S = 600
METADATA = {
    "jupytext": {"formats": "ipynb,py:percent"},
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


class NotebookError(SsaError):
    """A notebook that cannot be executed."""


@dataclass(frozen=True)
class Job:
    """One notebook to be executed."""

    source: Path
    figure: str | None  # that it shows
    target: Path


def notebooks() -> dict[str, Path]:
    """The sources by their names."""
    return {path.stem: path for path in sorted(SOURCES.glob("*.py"))}


def jobs_for(names: Sequence[str], chosen: Chosen, folder: Path) -> list[Job]:
    """What is to be executed.

    Args:
        names: of notebooks or of the figures that they show; () is all.
        chosen: what they are to show.
        folder: where the executed ones go.

    Raises:
        UnknownNameError: no such notebook.
    """
    known = notebooks()
    stems = {figure_stem(figure, chosen.profile): figure for figure in load_registry().figures}
    figures = {figure_stem(figure, Chosen.profile): figure for figure in stems.values()}
    asked = [figure_stem(name, Chosen.profile) for name in names] or list(known)
    for given, name in zip(names, asked):
        if name not in known:
            raise UnknownNameError("notebook", given, list(known))
    return [
        Job(
            source=known[name],
            figure=figures.get(name),
            target=folder / f"{figure_stem(figures.get(name, name), chosen.profile)}.ipynb",
        )
        for name in dict.fromkeys(asked)
    ]


def read_source(path: Path) -> NotebookNode:
    """A py:percent file as a notebook without outputs.

    Raises:
        NotebookError: the packages of the extra ``notebooks`` are not installed.
    """
    try:
        import ipykernel  # noqa: F401  the kernel runs in a process of its own
        import jupytext
        import nbclient  # noqa: F401  used once this has shown that it is there
    except ImportError as error:
        raise NotebookError(
            f"Executing notebooks needs the package {error.name}; "
            f"`{sys.executable} -m pip install -r requirements/lock-dev.txt` installs it "
            "(the extra `notebooks`). Reading the shipped ones needs nothing."
        ) from None
    return settled(jupytext.read(path))


def settled(notebook: NotebookNode) -> NotebookNode:
    """The notebook with nothing in it that differs between machines or calls."""
    for number, cell in enumerate(notebook.cells, 1):
        cell.id = f"cell-{number:02d}"
        cell.metadata = {}
    notebook.metadata = METADATA
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


def to_text(notebook: NotebookNode) -> str:
    """The text of an .ipynb file."""
    import nbformat

    return nbformat.writes(notebook, version=nbformat.NO_CONVERT).rstrip("\n") + "\n"


async def execute(notebook: NotebookNode, chosen: Chosen, runtime: Path) -> NotebookNode:
    """Execute a notebook in a kernel of its own, in this very environment.

    Args:
        notebook: without outputs.
        chosen: what it is to show.
        runtime: an empty folder for what the kernel keeps while it runs.

    Raises:
        NotebookError: a cell failed or took too long; the sentence is the cell's.
    """
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    # only the kernel of this environment, whatever the user has installed under its name
    kernels = KernelSpecManager(kernel_dirs=[], ensure_native_kernel=True)
    manager = AsyncKernelManager(
        kernel_name="python3",
        kernel_spec_manager=kernels,
        connection_file=str(runtime / "kernel.json"),
        transport="ipc",  # no port that another kernel could take
    )
    client = NotebookClient(
        notebook,
        km=manager,
        timeout=PATIENCE_S,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(SOURCES)}},
    )
    environment = os.environ | {
        **chosen.to_environment(),
        "OMP_NUM_THREADS": "1",  # sums in one order: the same points on every machine
        "IPYTHONDIR": str(runtime),  # no start-up files, no history
        "PYTHONPATH": search_path(),
    }
    try:
        await client.async_execute(env=environment, cleanup_kc=True)
    except CellExecutionError as error:
        raise NotebookError(f"{error.ename}: {error.evalue}") from None
    except (CellTimeoutError, DeadKernelError) as error:
        raise NotebookError(str(error).strip().splitlines()[0]) from None
    return settled(notebook)


async def execute_all(jobs: Sequence[Job], chosen: Chosen, at_once: int) -> int:
    """Execute and keep each that can be; says how far it is, returns the exit code."""
    places, codes, done = asyncio.Semaphore(at_once), [], 0

    async def one(job: Job) -> int:
        nonlocal done
        name, notebook = job.target.stem, read_source(job.source)
        async with places:
            began = time.monotonic()
            try:
                with tempfile.TemporaryDirectory(prefix="ssa-") as runtime:
                    await execute(notebook, chosen, Path(runtime))
                write_atomically(job.target, to_text(notebook))
            except SsaError as error:
                print(f"Error: {name}: {sentence_of(error)}", file=sys.stderr, flush=True)
                return FAILED
        done += 1
        print(f"[{done}/{len(jobs)}] {job.target} ({time.monotonic() - began:.0f} s)", flush=True)
        return COMPLETE

    codes = await asyncio.gather(*(one(job) for job in jobs))
    return max(codes, default=COMPLETE)


def folder_of(chosen: Chosen) -> Path:
    """Beside the sources for what the project ships, else among the user's results."""
    ours = chosen.results.resolve() == REFERENCE.resolve()
    return SOURCES if ours else chosen.results / "notebooks"


def make(names: Sequence[str], chosen: Chosen, folder: Path, at_once: int) -> int:
    """Execute notebooks; returns the exit code, 3 if a figure has not been drawn.

    Raises:
        SsaError: no such notebook, or the packages that execute them are not installed.
    """
    ready, code = [], COMPLETE
    for job in jobs_for(names, chosen, folder):
        sentence = chosen.undrawn(job.figure) if job.figure else None
        if sentence:
            print(f"{job.target.stem} is left out: {sentence}", flush=True)
            code = INCOMPLETE
        else:
            ready.append(job)
    done = asyncio.run(execute_all(ready, chosen, at_once))
    return done or code


def main() -> int:
    """Read the command line; a user's error is one sentence."""
    parser = argparse.ArgumentParser(prog="./run_all.sh notebooks", description=__doc__)
    add: Any = parser.add_argument
    add("names", nargs="*", metavar="NAME", help=f"of: {', '.join(notebooks())}; default: all")
    add("--results", type=Path, default=None, help="default: results, else results/reference")
    add("--profile", default=Chosen.profile, help="quick, camvid, …")
    add("--registry", type=Path, action="append", default=[], help="a folder of your own")
    add("--row", default=Chosen.row, help="that the tour follows, <table>/<row id>")
    add("--jobs", type=int, default=cpu_count(), help="notebooks at once")
    add("--out", type=Path, default=None, help="default: <results>/notebooks")
    given = parser.parse_args()
    results = given.results or default_results()
    chosen = Chosen(results, given.profile, tuple(given.registry), given.row)
    try:
        load_registry(chosen.registry).profile(chosen.profile)
        return make(given.names, chosen, given.out or folder_of(chosen), max(1, given.jobs))
    except UnknownNameError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    except SsaError as error:
        print(f"Error: {sentence_of(error)}", file=sys.stderr)
        return FAILED


if __name__ == "__main__":
    sys.exit(main())
