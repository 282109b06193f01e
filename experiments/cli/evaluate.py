"""``./run_all.sh evaluate RUN --protocol stock|released``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from experiments.cli.options import asks
from experiments.declare.training import ProtocolName

if TYPE_CHECKING:
    from rich.console import Console

    from experiments.plan.request import Request
    from experiments.store.records import Record
    from experiments.store.store import Store
    from experiments.train.rescore import Rescore


@asks("device", "data_root", "results", "registry")
def evaluate(
    request: Request,
    run: Annotated[str, typer.Argument(help="Id of a finished run: a folder of results/runs.")],
    protocol: Annotated[ProtocolName, typer.Option(help="How test images are prepared.")],
) -> None:
    """Score a finished run anew under another evaluation protocol; its record stays as it is.

    stock: mmsegmentation's own test pipeline. released: SSA-Seg's, which resizes ADE20K to a
    multiple of 32. The result is kept as runs/RUN/evaluations/PROTOCOL.json and .npz.
    """
    from experiments.show.console import make_console
    from experiments.store.store import Store
    from experiments.train.rescore import find_run, rescore

    store, workspace = request.store, request.workspace
    record = find_run(store, Store(workspace.reference), run)
    result = rescore(
        record,
        protocol,
        registry=request.registry,
        store=store,
        workspace=workspace,
        device=request.device,
    )
    _show(make_console(), record, result, store)


def _show(console: Console, record: Record, result: Rescore, store: Store) -> None:
    from experiments.train.rescore import path_of

    own, other = record.spec.evaluation.multiple_of, result.evaluation.multiple_of
    console.print(f"As trained ({_said(own)}): mIoU {record.scores.miou:.2f} %")
    console.print(f"Under {result.protocol} ({_said(other)}): mIoU {result.scores.miou:.2f} %")
    if result.evaluation == record.spec.evaluation:
        equal = result.areas_digest == store.read_areas(record.run_id).digest()
        console.print(
            "This is the protocol that the run was scored under; every area is "
            + ("equal." if equal else "not equal (another machine, device or code).")
        )
    path = path_of(store, record.run_id, ProtocolName(result.protocol))
    console.print(f"Written: {path.with_suffix('')}.{{json,npz}}", soft_wrap=True)


def _said(multiple: int | None) -> str:
    return "images as resized" if multiple in (None, 1) else f"resized to a multiple of {multiple}"
