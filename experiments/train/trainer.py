"""One run from its spec to its record: build, train or resume, score, write."""

from __future__ import annotations

import hashlib
import io
import json
import resource
import shutil
import statistics
import sys
from typing import TYPE_CHECKING

from experiments.declare.run_spec import RunSpec
from experiments.files import write_atomically
from experiments.store.records import RECORD_VERSION, Record, Timings
from experiments.store.store import Store

if TYPE_CHECKING:
    from mmengine.runner import Runner
    from torch import nn

    from experiments.store.areas import ImageAreas
    from experiments.train.config import Surroundings
from experiments.store.records import now


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

    from experiments.train.components import register_components
    from experiments.train.config import runner_config
    from experiments.train.plain_config import PlainConfig

    started = now()
    print(f"{started} {'resuming' if around.resume else 'training'} {spec.run_id}", flush=True)
    register_components()
    if around.device == "cpu":
        # warn_only: a few of mmsegmentation's operations have no deterministic form
        torch.use_deterministic_algorithms(True, warn_only=True)
        # filling fresh memory guards against reading it unwritten; nothing here does, it costs 5 %
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    config = PlainConfig(runner_config(spec, around))
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
        deviations=(*spec.deviations, *deviations_of(spec, around, network)),
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
    )


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
