"""Follows one run for a service: ``python -m experiments.launch.follow RUN_FOLDER SERVICE OUT``.

A process of its own beside the training, which it only reads: it writes where the run stands
(progress.json) while it goes on and its whole curve once there is a record. It ends when its
standard input does. mmengine's backends hold one run a process, hence one process a run.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.declare.run_spec import RunSpec
from experiments.nested import flatten
from experiments.store.folder import RunFolder
from experiments.store.progress import read_progress
from experiments.store.store import Store, read_spec

if TYPE_CHECKING:
    from mmengine.visualization import BaseVisBackend

POLL_S = 2.0


@dataclass(frozen=True)
class Service:
    """One that runs can be followed with."""

    name: str  # on the command line, and of the extra that brings it
    module: str  # that must be importable


SERVICES = {
    service.name: service
    for service in (
        Service("tensorboard", "tensorboard"),
        Service("wandb", "wandb"),
        Service("mlflow", "mlflow"),
    )
}


def make_backend(service: str, out: Path, spec: RunSpec) -> BaseVisBackend:
    """mmengine's backend for one run, its declared settings written.

    Args:
        service: one of :data:`SERVICES`.
        out: folder of all runs of the service.
        spec: of the run.
    """
    from mmengine.config import Config
    from mmengine.visualization import MLflowVisBackend, TensorboardVisBackend, WandbVisBackend

    declared = flatten(spec.model_dump(mode="json", exclude={"segmentor"}))
    folder = out / spec.run_id
    if service == "tensorboard":
        board = TensorboardVisBackend(str(folder))
        board.add_config(Config({"declared": declared}))
        return board
    if service == "wandb":
        return WandbVisBackend(
            str(folder),
            init_kwargs={
                "project": "ssa-seg-lab",
                "name": spec.run_id,
                "id": spec.run_id,
                "resume": "allow",
                "config": declared,
                "mode": os.environ.get("WANDB_MODE", "offline"),
            },
        )
    folder.mkdir(parents=True, exist_ok=True)
    # its store of files needs no database and no server; newer versions ask to be told so
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    flow = MLflowVisBackend(
        str(out),
        exp_name=spec.profile,
        run_name=spec.run_id,
        tracking_uri=os.environ.get("MLFLOW_TRACKING_URI"),
        tracked_config_keys={"declared": declared},
    )
    flow.add_config(Config({"declared": declared, "work_dir": str(folder)}))
    return flow


def follow(folder: RunFolder, backend: BaseVisBackend, waits: Iterator[None]) -> None:
    """Write a run's scalars until ``waits`` is over, then its curve.

    Args:
        folder: of the run.
        backend: where to.
        waits: gives something each time that the run is to be looked at.
    """
    written = 0
    for _ in waits:
        progress = read_progress(folder.progress)
        if progress is None or progress.iteration == written:
            continue
        written = progress.iteration
        scalars = {"live/ms_a_step": progress.iteration_ms, "live/iteration": float(written)}
        if progress.miou is not None:
            scalars["live/miou"] = progress.miou
        backend.add_scalars(scalars, step=written)
    record = Store(folder.path.parent.parent).read(folder.path.name)
    if record is None:
        return
    for point in record.curve:
        scores = {f"curve/{name}": value for name, value in point.scores.model_dump().items()}
        losses = {f"loss/{name}": value for name, value in point.losses.items()}
        iteration = {"curve/iteration": float(point.iteration)}  # wandb counts by itself
        backend.add_scalars(scores | losses | iteration, step=point.iteration)


def _while_input_lasts() -> Iterator[None]:
    while True:
        ready, _, _ = select.select([sys.stdin], [], [], POLL_S)
        if ready and not os.read(sys.stdin.fileno(), 1):
            return
        yield


def main(arguments: Sequence[str]) -> int:
    """Follow the run whose folder is given."""
    place, service, out = arguments
    folder = RunFolder(Path(place))
    spec = read_spec(folder)
    backend: Any = make_backend(service, Path(out), spec)
    follow(folder, backend, _while_input_lasts())
    if service == "wandb":
        backend.experiment.finish()  # what its close() calls, newer versions do not have
    else:
        backend.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
