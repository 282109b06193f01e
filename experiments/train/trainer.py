"""One run from its spec to its record: build, train or resume, score, write."""

from __future__ import annotations

import hashlib
import io
import json
import os
import resource
import shutil
import statistics
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from experiments.declare.run_spec import RunSpec
from experiments.errors import SsaError
from experiments.files import write_atomically
from experiments.store.folder import RunFolder
from experiments.store.notice import tell
from experiments.store.records import RECORD_VERSION, Record, Timings, now
from experiments.store.resumable import in_words, unlike_checkpoint, write_checkpoint_code
from experiments.store.store import Store, set_file_aside

if TYPE_CHECKING:
    from mmengine.runner import Runner
    from torch import nn

    from experiments.store.areas import ImageAreas
    from experiments.train.config import Surroundings

#: variables of the environment that let torch, its libraries or our losses compute otherwise
TELLING_VARIABLES = (
    "ATEN_CPU_CAPABILITY",
    "CUBLAS_WORKSPACE_CONFIG",
    "DNNL_DEFAULT_FPMATH_MODE",
    "DNNL_MAX_CPU_ISA",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "NVIDIA_TF32_OVERRIDE",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "ONEDNN_MAX_CPU_ISA",
    "SSA_NATIVE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)


class EditedError(SsaError):
    """Code that was edited while a run started."""


def train(spec: RunSpec, store: Store, around: Surroundings) -> Record | None:
    """Train and score one run and write its record; resumes from its checkpoint if there is one.

    Of several processes the first one writes and returns the record, the others return None.

    The caller holds the run's lock.

    Raises:
        SsaError: diverged, disk full, weights missing.
    """
    import torch
    from mmengine.dist import get_rank
    from mmengine.runner import Runner

    from experiments.store.provenance import code_used
    from experiments.train.components import register_components
    from experiments.train.config import runner_config
    from experiments.train.hooks import StateHook
    from experiments.train.plain_config import PlainConfig

    started = now()
    register_components()
    if around.device == "cpu":
        # warn_only: a few of mmsegmentation's operations have no deterministic form
        torch.use_deterministic_algorithms(True, warn_only=True)
        # filling fresh memory guards against reading it unwritten; nothing here does, it costs 5 %
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    settings = runner_config(spec, around)
    config = PlainConfig(settings)
    if get_rank() == 0:
        write_atomically(store.folder(spec.run_id).config, config.pretty_text)
    runner = Runner.from_cfg(config)
    if spec.training.channels_last:
        network = _network(runner).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if around.processes > 1:  # gradients lie in memory as the parameters did when wrapped
            runner.model = runner.wrap_model(config.model_wrapper_cfg, network)
    state = next(hook for hook in runner.hooks if isinstance(hook, StateHook))
    state.device = around.device
    state.deviations = deviations_of(spec, around, _network(runner))
    folder = store.folder(spec.run_id)
    if not _goes_on(folder, code_used(_objects(runner), settings), resume=around.resume):
        runner._load_from, runner._resume = None, False
    words = "resuming" if runner._resume else "training"
    print(f"{started} {words} {spec.run_id}", flush=True)
    runner.train()
    if get_rank() != 0:
        return None
    record, areas = _record(spec, runner, around, started, settings)
    store.write_record(record, areas.to_bytes(), _weights(_network(runner)))
    shutil.rmtree(around.work, ignore_errors=True)
    return record


def _goes_on(folder: RunFolder, code: Mapping[str, str], *, resume: bool) -> bool:
    """Whether the run goes on from its checkpoint; else what follows is tied to this code.

    Of several processes the first one decides for all.

    Args:
        folder: of the run.
        code: what this process runs.
        resume: whether there is a whole checkpoint.

    Raises:
        EditedError: the processes of this run do not all run the same code.
    """
    from mmengine.dist import all_gather_object, broadcast_object_list, get_rank

    if any(each != code for each in all_gather_object(dict(code))):
        raise EditedError(
            "The code was edited while the processes of this run started, and they do not all run "
            "the same; give the same command again."
        )
    decision = [resume]
    if get_rank() == 0:
        if resume and (unlike := unlike_checkpoint(folder, code)):
            aside = set_file_aside(folder.checkpoint, "other")
            tell(
                folder,
                f"{folder.path.name} starts anew: its checkpoint was made with other code "
                f"({in_words(unlike)}); it is kept as {aside.name}.",
            )
            decision = [False]
        if not decision[0]:
            write_checkpoint_code(folder, code)
    broadcast_object_list(decision)
    return decision[0]


def _objects(runner: Runner) -> list[object]:
    """What a run's code is found by; the loops are built if they are not yet."""
    loops = (runner.train_loop, runner.val_loop)
    return [*_network(runner).modules(), *(loop.dataloader.dataset for loop in loops)]


def _record(
    spec: RunSpec, runner: Runner, around: Surroundings, started: str, settings: dict[str, Any]
) -> tuple[Record, ImageAreas]:
    from experiments.store.areas import per_class_iou
    from experiments.store.provenance import environment
    from experiments.train.hooks import CurveHook, StateHook
    from experiments.train.loops import StatelessTrainLoop, StatelessValLoop

    curve = next(hook for hook in runner.hooks if isinstance(hook, CurveHook))
    state = next(hook for hook in runner.hooks if isinstance(hook, StateHook))
    train_loop, val_loop = runner.train_loop, runner.val_loop
    assert isinstance(train_loop, StatelessTrainLoop)
    assert isinstance(val_loop, StatelessValLoop)
    areas = val_loop.evaluator.metrics[0].areas
    dataset = val_loop.dataloader.dataset
    iou = per_class_iou(areas)
    final = curve.points[-1].scores
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
        environment=environment(_objects(runner), around.device, settings),
        deviations=(*spec.deviations, *state.deviations),
        started=started,
        finished=now(),
    )
    return record, areas


def _network(runner: Runner) -> nn.Module:
    """The network without what shares it among processes."""
    from mmengine.model import is_model_wrapper

    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def deviations_of(spec: RunSpec, around: Surroundings, network: nn.Module) -> tuple[str, ...]:
    """What this machine made of a run that another would have made otherwise, in plain words.

    Args:
        spec: the run.
        around: its devices and processes, which are no part of its identity.
        network: as trained.
    """
    return (
        *_batch_deviations(spec, around, network),
        *_term_deviations(spec, around, network),
        *_precision_deviations(spec, around),
        *_variable_deviations(),
    )


def _variable_deviations() -> tuple[str, ...]:
    """Variables of the environment by which a library computes otherwise."""
    given = [f"{name}={os.environ[name]}" for name in TELLING_VARIABLES if os.environ.get(name)]
    return (f"trained with {', '.join(given)} in the environment",) if given else ()


def _term_deviations(spec: RunSpec, around: Surroundings, network: nn.Module) -> tuple[str, ...]:
    """Terms of the objective that several devices define each on its own images."""
    from ssa.classifiers.base import PixelClassifier

    classifiers = [each for each in network.modules() if isinstance(each, PixelClassifier)]
    terms = list(dict.fromkeys(name for each in classifiers for name in each.terms_per_device))
    if around.processes == 1 or not terms:
        return ()
    share = spec.training.batch // (spec.training.accumulation * around.processes)
    return (
        f"{', '.join(terms)} taken over {share} of a batch's {spec.training.batch} images at a "
        f"time: {around.processes} devices, each on its own images",
    )


def _precision_deviations(spec: RunSpec, around: Surroundings) -> tuple[str, ...]:
    """Mixed precision that is asked for and only GPUs have."""
    if not spec.training.amp or around.device == "cuda":
        return ()
    return ("float32 on the CPU, where the protocol trains in mixed precision (bfloat16) on a GPU",)


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
