"""``./run_all.sh data list | prepare | verify``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from experiments.errors import sentence_of
from experiments.store.workspace import DEFAULT_DATA_ROOT, DEFAULT_RESULTS, Workspace

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from ssa.datasets.verify import VerifyReport

PROBLEMS = 1
_SHOWN = 50  # problems printed; a folder of another data set has thousands

app = typer.Typer(no_args_is_help=True, help="Make data sets ready and check them.")

DataRootOption = Annotated[
    Path, typer.Option(help="Folder that holds camvid/, ade20k/, …; prepare writes there.")
]
ResultsOption = Annotated[Path, typer.Option(help="Folder that keeps digests and made data.")]
RegistryOption = Annotated[
    list[Path] | None, typer.Option("--registry", help="Your own folder, with datasets/.")
]
JobsOption = Annotated[
    int | None, typer.Option(min=1, help="Processes to read and convert with. Default: one a core.")
]


@app.command("list")
def list_(data_root: DataRootOption = DEFAULT_DATA_ROOT, registry: RegistryOption = None) -> None:
    """Show every known data set, whether it is there, and how to get it."""
    from rich.markup import escape

    from experiments.declare.extensions import take_up_datasets
    from experiments.show.console import make_console
    from ssa.datasets import DATASETS, DataError

    take_up_datasets(registry or [])
    console = make_console()
    for dataset in DATASETS.values():
        size = " + ".join(f"{count} {split}" for split, count in dataset.counts.items())
        console.print(
            f"{dataset.name:<16}{escape(dataset.title)}: {dataset.num_classes} classes"
            + (f", {size} images" if size else "")
        )
        if dataset.name == "scenes":
            console.print(f"{'':<16}{escape(dataset.obtain)}")
            continue
        try:
            console.print(f"{'':<16}in {escape(str(dataset.locate(data_root)))}", soft_wrap=True)
        except DataError as error:
            console.print(f"{'':<16}{escape(sentence_of(error))}", soft_wrap=True)


@app.command()
def prepare(
    name: str,
    source: Annotated[
        Path | None, typer.Option(help="Folder with what you downloaded, unpacked.")
    ] = None,
    data_root: DataRootOption = DEFAULT_DATA_ROOT,
    results: ResultsOption = DEFAULT_RESULTS,
    jobs: JobsOption = None,
) -> None:
    """Turn what you downloaded into a folder that training reads; interrupted, it continues.

    Exit code: 0 done, 1 not.
    """
    from rich.markup import escape

    from experiments.show.console import make_console
    from ssa.datasets.prepare import PrepareError
    from ssa.datasets.prepare import prepare as make

    console = make_console()
    root = _root(name, data_root, results)
    try:
        with _progress(console) as progress:
            task = progress.add_task(f"preparing {name}", total=None)
            made = make(name, source, root, jobs or _cores(), _report_to(progress, task))
    except PrepareError as error:
        _print_problems(console, error.problems)
        console.print(escape(sentence_of(error)))
        raise typer.Exit(PROBLEMS) from None
    console.print(
        f"{name} is ready in {escape(str(made))}. "
        f"Check every file with `./run_all.sh data verify {name}`."
    )


@app.command()
def verify(
    name: str,
    data_root: DataRootOption = DEFAULT_DATA_ROOT,
    results: ResultsOption = DEFAULT_RESULTS,
    jobs: JobsOption = None,
    registry: RegistryOption = None,
) -> None:
    """Open every file of a data set and name everything that is wrong with it.

    Exit code: 0 right, 1 with problems.
    """
    from experiments.declare.extensions import take_up_datasets
    from experiments.show.console import make_console
    from ssa.datasets.verify import verify as check

    take_up_datasets(registry or [])
    console = make_console()
    root = _root(name, data_root, results)
    cache = Workspace(results=results, data_root=data_root).cache
    with _progress(console) as progress:
        task = progress.add_task(f"verifying {name}", total=None)
        report = check(name, root, jobs or _cores(), _report_to(progress, task), cache)
    _print_report(console, report)
    if not report.ok:
        raise typer.Exit(PROBLEMS)


def _root(name: str, data_root: Path, results: Path) -> Path:
    """Where the data set lies: what we make ourselves is kept with the results."""
    if name == "scenes":
        return Workspace(results=results.resolve(), data_root=data_root).cache
    return data_root.resolve()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


def _progress(console: Console) -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Remaining())
    return Progress(*columns, console=console, transient=True)


def _report_to(progress: Progress, task: int):  # type: ignore[no-untyped-def]
    def report(done: int, total: int) -> None:
        progress.update(task, completed=done, total=total)  # type: ignore[arg-type]

    return report


def _print_problems(console: Console, problems: tuple[str, ...]) -> None:
    for problem in problems[:_SHOWN]:
        console.print(f"problem: {problem}", markup=False, soft_wrap=True)
    if len(problems) > _SHOWN:
        console.print(f"… and {len(problems) - _SHOWN} more.")


def _print_report(console: Console, report: VerifyReport) -> None:
    counts = ", ".join(f"{count} {split}" for split, count in report.counts.items())
    console.print(f"{report.name} in {report.root}: {counts}", markup=False, soft_wrap=True)
    if report.sizes:
        (low, wide), (high, tall) = report.sizes
        console.print(f"sizes    {low}×{wide} … {high}×{tall} pixels (height×width)")
    labelled = sum(report.pixels.values())
    total = labelled + report.unlabelled_pixels
    if total:
        console.print(f"labelled {100 * labelled / total:.2f} % of {total} pixels; of these:")
        width = max(map(len, report.pixels))
        for name, pixels in report.pixels.items():
            console.print(f"  {name:<{width}} {100 * pixels / max(labelled, 1):8.4f} %")
    for note in report.notes:
        console.print(f"note: {note}", markup=False, soft_wrap=True)
    _print_problems(console, report.problems)
    if report.ok:
        console.print(f"digest   {report.digest}", soft_wrap=True)
        console.print("ok")
    else:
        one = len(report.problems) == 1
        console.print(f"{len(report.problems)} problem{'' if one else 's'}: not fit for training.")
