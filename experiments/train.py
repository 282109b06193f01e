"""The training process of one run: ``python -m experiments.train RUN_FOLDER --data DIR``.

With ``--processes N`` it starts N of itself that share every batch (experiments/processes.py).
It holds the run's lock, trains (or resumes), scores and writes the record. Exit codes:
0 the record is there; 1 it failed (failure.json says why); 74 it failed and could not even write
why; 75 another process holds the run.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import datetime
import hashlib
import io
import json
import os
import resource
import shutil
import signal
import statistics
import sys
import traceback
import warnings
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.errors import SsaError
from experiments.extensions import own_line, take_up_for
from experiments.files import disk_sentence, write_atomically
from experiments.records import RECORD_VERSION, Failure, Record, Timings
from experiments.schema import RunSpec
from experiments.store import RunFolder, Store, run_lock

if TYPE_CHECKING:
    from mmengine.runner import Runner
    from torch import nn

    from experiments.config import Surroundings
    from experiments.evaluate import ImageAreas

UNWRITABLE = 74  # EX_IOERR: the run's folder takes nothing more
BUSY = 75  # EX_TEMPFAIL: another process trains this run
_PR_SET_PDEATHSIG = 1


def train(spec: RunSpec, store: Store, around: Surroundings) -> Record | None:
    """Train and score one run and write its record; resumes from its checkpoint if there is one.

    Of several processes the first one writes and returns the record, the others return None.

    The caller holds the run's lock.

    Raises:
        SsaError: diverged, disk full, weights missing.
    """
    import torch
    from mmengine.config import Config
    from mmengine.dist import get_rank
    from mmengine.runner import Runner

    from experiments.components import register_components
    from experiments.config import runner_config

    started = now()
    print(f"{started} {'resuming' if around.resume else 'training'} {spec.run_id}", flush=True)
    register_components()
    if around.device == "cpu":
        # warn_only: a few of mmsegmentation's operations have no deterministic form
        torch.use_deterministic_algorithms(True, warn_only=True)
        # filling fresh memory guards against reading it unwritten; nothing here does, it costs 5 %
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    config = Config(runner_config(spec, around))
    if get_rank() == 0:
        write_atomically(store.folder(spec.run_id).config, config.pretty_text)
    runner = Runner.from_cfg(config)
    if spec.training.channels_last:
        network = _network(runner).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if around.processes > 1:  # gradients lie in memory as the parameters did when wrapped
            runner.model = runner.wrap_model(config.model_wrapper_cfg, network)
    runner.train()
    if get_rank() != 0:
        return None
    record, areas = _record(spec, runner, around, started)
    store.write_record(record, areas.to_bytes(), _weights(_network(runner)))
    shutil.rmtree(around.work, ignore_errors=True)
    return record


def _record(
    spec: RunSpec, runner: Runner, around: Surroundings, started: str
) -> tuple[Record, ImageAreas]:
    from experiments.environment import environment
    from experiments.evaluate import per_class_iou
    from experiments.hooks import CurveHook, StateHook
    from experiments.loops import StatelessTrainLoop, StatelessValLoop

    curve = next(hook for hook in runner.hooks if isinstance(hook, CurveHook))
    state = next(hook for hook in runner.hooks if isinstance(hook, StateHook))
    train_loop, val_loop = runner.train_loop, runner.val_loop
    assert isinstance(train_loop, StatelessTrainLoop)
    assert isinstance(val_loop, StatelessValLoop)
    areas = val_loop.evaluator.metrics[0].areas
    dataset = val_loop.dataloader.dataset
    iou = per_class_iou(areas)
    final = curve.points[-1].scores
    network = _network(runner)
    used = [*network.modules(), dataset, train_loop.dataloader.dataset]
    record = Record(
        version=RECORD_VERSION,
        run_id=spec.run_id,
        spec=spec,
        scores=final,
        per_class_iou=tuple(None if value != value else float(value) for value in iou),
        class_names=tuple(dataset.metainfo["classes"]),
        curve=tuple(curve.points),
        num_images=len(areas.names),
        per_image_sha256=hashlib.sha256(areas.to_bytes()).hexdigest(),
        result_digest=_result_digest(curve, areas),
        timings=Timings(
            train_s=train_loop.train_s,
            evaluate_s=val_loop.evaluate_s,
            total_s=state.total_s,
            iteration_ms=1000.0 * statistics.median(curve.step_s) if curve.step_s else 0.0,
        ),
        peak_memory_mb=_peak_memory_mb(around.device),
        resumed_at=state.resumed_at,
        environment=environment(used, around.device),
        deviations=(*spec.deviations, *_batch_deviations(spec, around, network)),
        started=started,
        finished=now(),
    )
    return record, areas


def _network(runner: Runner) -> nn.Module:
    """The network without what shares it among processes."""
    from mmengine.model import is_model_wrapper

    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def _batch_deviations(spec: RunSpec, around: Surroundings, network: nn.Module) -> tuple[str, ...]:
    """What deviates from the protocol where batch statistics see less than the batch."""
    from torch.nn.modules.batchnorm import SyncBatchNorm, _BatchNorm

    training = spec.training
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    shared = all(isinstance(module, SyncBatchNorm) for module in norms)
    seen = training.batch // (training.accumulation * (1 if shared else around.processes))
    if not norms or seen == training.batch:
        return ()
    return (
        f"BatchNorm saw {seen} of a batch's {training.batch} images at a time "
        f"({training.accumulation} micro-batches, {around.processes} processes)",
    )


def _is_member(folder: RunFolder) -> bool:
    """Whether this is one of several processes, which experiments/processes.py has started."""
    return os.environ.get("TORCHELASTIC_RUN_ID") == folder.path.name


def _weights(network: nn.Module) -> bytes:
    """The network's state_dict on the CPU, as torch saves it."""
    import torch

    buffer = io.BytesIO()
    state = network.state_dict()
    torch.save({name: value.detach().cpu() for name, value in state.items()}, buffer)
    return buffer.getvalue()


def _result_digest(curve: object, areas: ImageAreas) -> str:
    points = [point.model_dump(mode="json") for point in curve.points]  # type: ignore[attr-defined]
    text = json.dumps([points, areas.digest()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _peak_memory_mb(device: str) -> float:
    import torch

    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes / (2**20 if sys.platform == "darwin" else 2**10)


def now() -> str:
    """The time in UTC as ISO 8601, to the second."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def main(arguments: Sequence[str] | None = None) -> int:
    """Train the run whose folder is given; see the module's text for the exit codes."""
    parser = argparse.ArgumentParser(prog="python -m experiments.train", description=__doc__)
    parser.add_argument("folder", type=Path, help="results/runs/<run id>, with its spec.json")
    parser.add_argument("--data", type=Path, required=True, help="the data set's folder")
    parser.add_argument("--weights", type=Path, help="pretrained file")
    parser.add_argument(
        "--registry", type=Path, action="append", default=[], help="a user's own registry folder"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=0, help="loading processes")
    parser.add_argument("--cache-images", action="store_true", help="keep images in memory")
    parser.add_argument("--packed", type=Path, help="folder of memory-mapped copies of the images")
    parser.add_argument("--processes", type=int, default=1, help="that share every batch")
    parser.add_argument("--checkpoint-every", type=float, default=60.0, help="seconds")
    options = parser.parse_args(arguments)
    _die_with_parent()
    folder = RunFolder(options.folder.resolve())
    store = Store(folder.path.parent.parent)
    if options.processes > 1 and _is_member(folder):  # whoever started us holds the lock
        return _guarded(folder, store, options)
    with run_lock(folder) as mine:
        if not mine:
            return BUSY
        if options.processes > 1:
            from experiments.processes import supervise

            given = sys.argv[1:] if arguments is None else arguments
            return supervise(folder, store, list(given), options.processes)
        return _guarded(folder, store, options)


def _guarded(folder: RunFolder, store: Store, options: argparse.Namespace) -> int:
    """Train; whatever goes wrong is written down with a sentence, and is nobody else's problem."""
    try:
        spec = RunSpec.model_validate_json(folder.spec.read_text())
        if store.read(spec.run_id) is not None:  # another process finished it while we started
            return 0
        take_up_for(spec, options.registry, options.data)
        around = _surroundings(folder, options)
        if around.processes > 1:
            _join(around)
        train(spec, store, around)
    except KeyboardInterrupt:
        return 130
    except SsaError as error:
        return _fail(folder, str(error))
    except OSError as error:
        return _fail(folder, disk_sentence(error, Path(error.filename or folder.path)))
    except Exception as error:  # noqa: BLE001  the process's own boundary: recorded, then over
        text = " ".join(str(error).split())[:300]
        what = f"{own_line(error)}{type(error).__name__}: {text}"
        return _fail(folder, f"{what} (whole story in {folder.log})")
    return 0


def _surroundings(folder: RunFolder, options: argparse.Namespace) -> Surroundings:
    warnings.filterwarnings("ignore", message=".*MultiScaleDeformableAttention.*")
    import torch

    from experiments.config import Surroundings

    torch.set_num_threads(options.threads)
    resume = folder.checkpoint.exists() and _is_whole(folder.checkpoint)
    if folder.checkpoint.exists() and not resume:
        print(f"{folder.checkpoint} is damaged; the run starts anew.", file=sys.stderr)
    return Surroundings(
        work=folder.path / "work",
        data=options.data,
        progress=folder.progress,
        checkpoint=folder.checkpoint,
        weights=options.weights,
        device=options.device,
        workers=options.workers,
        processes=options.processes,
        cache_images=options.cache_images,
        packed=options.packed,
        checkpoint_every_s=options.checkpoint_every,
        resume=resume,
    )


def _join(around: Surroundings) -> None:
    """Meet the other processes of this run; on GPUs, take the one of this process."""
    import torch

    if around.device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    torch.distributed.init_process_group("nccl" if around.device == "cuda" else "gloo")


def _is_whole(checkpoint: Path) -> bool:
    """Whether every part of a checkpoint has the checksum that it was written with."""
    try:
        with zipfile.ZipFile(checkpoint) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, ValueError):
        return False


def _fail(folder: RunFolder, sentence: str) -> int:
    with contextlib.suppress(OSError):  # the log lies on the same disk
        traceback.print_exc()
        print(sentence, file=sys.stderr)
    if _is_member(folder) and folder.failure.exists():
        return 1  # another process failed first, and this one only because of it
    failure = Failure(
        run_id=folder.path.name, sentence=sentence, traceback=traceback.format_exc(), time=now()
    )
    try:
        write_atomically(folder.failure, failure.model_dump_json(indent=1))
    except SsaError:
        return UNWRITABLE
    return 1


def _die_with_parent() -> None:
    """Ask Linux to end this process when its launcher dies, so that no orphan trains on."""
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before we asked
            raise SystemExit(1)


if __name__ == "__main__":
    raise SystemExit(main())
