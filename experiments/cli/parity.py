"""``./run_all.sh parity``: a line of JSON a file, exit 1 if one differs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from experiments.cli.options import DataRootOption
from experiments.store.workspace import DEFAULT_DATA_ROOT, Workspace

app = typer.Typer(no_args_is_help=True, help="Compare with stored reference values.")

#: mask-classification networks, which have references of their own form
MASK_MODELS = ("yoso_r50", "pem_r50")

Files = Annotated[list[Path], typer.Argument(exists=True, dir_okay=False)]


def _report(reports: Iterable[dict[str, Any]]) -> None:
    ok = True
    for report in reports:
        ok &= bool(report["ok"])
        typer.echo(json.dumps(report))
    raise typer.Exit(0 if ok else 1)


@app.command()
def classifier(files: Files) -> None:
    """Compare the SSA classifier's losses, logits and gradients with FILES of golden/ssa."""
    from experiments.parity.classifier import classifier_parity

    _report(map(classifier_parity, files))


@app.command()
def statistics(
    name: Annotated[str, typer.Argument(metavar="MODEL", help="Name of a model file.")],
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False)],
    data_root: DataRootOption = DEFAULT_DATA_ROOT,
    photographs: Annotated[int, typer.Option(help="How many of FOLDER.")] = 64,
    side: Annotated[int, typer.Option(help="Of their middle parts in pixels.")] = 176,
) -> None:
    """Hold a pretrained backbone's stored batch statistics against those of photographs in FOLDER.

    A line a layer: correlations over its channels. Exit 1 if one of the means is below 0.9, or that
    of the variances in the middle of the layers.
    """
    from experiments.parity.layer_statistics import statistics_report, table_lines

    weights = Workspace(data_root=data_root.resolve()).weights
    report = statistics_report(name, folder, weights, count=photographs, side=side)
    for line in table_lines(report):
        typer.echo(line)
    raise typer.Exit(0 if report["ok"] else 1)


@app.command()
def rival(
    name: Annotated[str, typer.Argument(help="cac, gmmseg, protoseg or dnc.")], files: Files
) -> None:
    """Compare one step of a rival classifier, state included, with FILES of golden/rivals."""
    from experiments.parity.rival import rival_parity

    _report(rival_parity(name, path) for path in files)


@app.command()
def model(
    name: Annotated[str, typer.Argument(metavar="MODEL", help="Name of a model file.")],
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False)],
    classifier: Annotated[
        str, typer.Option(help="softmax or ssa; mask classifiers take none.")
    ] = "softmax",
    salt: Annotated[str | None, typer.Option(help="Of the weights' rule.")] = None,
    size: Annotated[int | None, typer.Option(help="Side of the input in pixels.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the input.")] = None,
) -> None:
    """Compare a whole network's logits with FILE of golden/models.

    What is not given is taken from the json beside FILE, else salt '', size 64, seed 0.
    """
    if name in MASK_MODELS:
        from experiments.parity.mask_model import mask_model_parity

        _report([mask_model_parity(name, file, salt, size, seed)])
    from experiments.parity.model import model_parity

    _report([model_parity(name, classifier, file, salt, size, seed)])
