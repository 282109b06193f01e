"""From a resolved run to mmengine's config: one pure function, one path for every size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.declare.run_spec import RunSpec
from experiments.declare.training import Evaluation, Training

#: ImageNet statistics in RGB, 0..255 (spec/protocol.json, normalisation)
MEAN = [123.675, 116.28, 103.53]
STD = [58.395, 57.12, 57.375]
IGNORE_INDEX = 255


@dataclass(frozen=True)
class Surroundings:
    """What a run may differ in without being another run: places, device, processes."""

    work: Path  # where the runner may write
    data: Path  # the data set's folder
    progress: Path
    checkpoint: Path
    weights: Path | None = None  # pretrained file, if the run starts from one
    device: str = "cpu"  # "cpu" or "cuda"
    workers: int = 0  # loading processes
    processes: int = 1  # that share a global batch
    cache_images: bool = False  # keep decoded images in memory
    packed: Path | None = None  # folder of packed, memory-mapped copies of data sets
    checkpoint_every_s: float = 60.0
    resume: bool = False  # from the checkpoint


def runner_config(spec: RunSpec, around: Surroundings) -> dict[str, Any]:
    """The config of mmengine's Runner that trains and evaluates ``spec``.

    Equal arguments give equal configs; nothing is read from disk or environment.
    """
    training, evaluation = spec.training, spec.evaluation
    return {
        "default_scope": "mmseg",
        "work_dir": str(around.work),
        "model": model_config(spec),
        "train_dataloader": _train_loader(spec, around),
        "val_dataloader": _evaluation_loader(spec, around),
        "train_cfg": {
            "type": "StatelessTrainLoop",
            "max_iters": training.iterations,
            "val_interval": evaluation.interval,
            "seed": spec.seed,
            "accumulation": training.accumulation,
        },
        "val_cfg": {"type": "StatelessValLoop", "seed": spec.seed},
        "val_evaluator": {
            "type": "AreaMetric",
            "num_classes": spec.num_classes,
            "ignore_index": IGNORE_INDEX,
        },
        "optim_wrapper": _optimizer(training, around),
        "param_scheduler": _schedulers(training),
        "default_hooks": {
            "param_scheduler": {"type": "ParamSchedulerHook"},
            "runtime_info": None,
            "timer": None,
            "sampler_seed": None,
            "logger": None,
            "checkpoint": None,
        },
        "custom_hooks": [
            *_pretrained(spec, around),
            {"type": "CurveHook"},
            {"type": "ProgressHook", "path": str(around.progress)},
            {
                "type": "StateHook",
                "path": str(around.checkpoint),
                "every_s": around.checkpoint_every_s,
            },
        ],
        **_processes(around),
        "randomness": {"seed": spec.seed},
        "env_cfg": {"cudnn_benchmark": False, "mp_cfg": {"opencv_num_threads": 0}},
        "log_level": "WARNING",
        "load_from": str(around.checkpoint) if around.resume else None,
        "resume": around.resume,
    }


def _processes(around: Surroundings) -> dict[str, Any]:
    """How several processes train one network: DDP, its batch statistics over the whole batch.

    Batch statistics are shared on GPUs only: torch has no SyncBatchNorm for the CPU.
    """
    if around.processes == 1:
        return {}
    wrapper: dict[str, Any] = {
        "type": "MMDistributedDataParallel",
        "broadcast_buffers": False,  # the loop shares them before it evaluates
        "find_unused_parameters": True,  # switches and stochastic depth leave some out
    }
    if around.device == "cpu":
        return {"launcher": "pytorch", "model_wrapper_cfg": wrapper | {"device_ids": None}}
    return {"launcher": "pytorch", "model_wrapper_cfg": wrapper, "sync_bn": "torch"}


def model_config(spec: RunSpec) -> dict[str, Any]:
    """mmsegmentation's config of the network of ``spec``, preprocessor and test mode included."""
    return {
        **spec.segmentor,
        "data_preprocessor": _preprocessor(spec.training, spec.evaluation),
        "test_cfg": _test_config(spec.evaluation),
    }


def _pretrained(spec: RunSpec, around: Surroundings) -> list[dict[str, Any]]:
    if spec.weights is None:
        return []
    hook = {"type": "PretrainedHook", "entry": spec.weights, "path": str(around.weights)}
    return [hook | {"sha256": spec.weights_sha256}]


def _preprocessor(training: Training, evaluation: Evaluation) -> dict[str, Any]:
    return {
        "type": "SegDataPreProcessor",
        "mean": MEAN,
        "std": STD,
        "bgr_to_rgb": True,  # OpenCV reads BGR
        "size": list(training.augmentation.crop),
        "pad_val": 0,
        "seg_pad_val": IGNORE_INDEX,
    }


def _test_config(evaluation: Evaluation) -> dict[str, Any]:
    if evaluation.mode == "whole":
        return {"mode": "whole"}
    return {"mode": "slide", "crop_size": evaluation.crop, "stride": evaluation.stride}


def _loader(batch: int, around: Surroundings) -> dict[str, Any]:
    return {
        "batch_size": batch,
        "num_workers": around.workers,
        "persistent_workers": around.workers > 0,
        "pin_memory": around.device == "cuda",
        "collate_fn": {"type": "pseudo_collate"},
    }


def _train_loader(spec: RunSpec, around: Surroundings) -> dict[str, Any]:
    training = spec.training
    augmentation = training.augmentation.model_dump(mode="json")
    return _loader(training.batch // (training.accumulation * around.processes), around) | {
        "sampler": {
            "type": "IterationSampler",
            "seed": spec.seed,
            "batch_size": training.batch,
            "iterations": training.iterations,
            "accumulation": training.accumulation,
        },
        "dataset": _images(spec, around, training.train_split)
        | {
            "transform": {"kind": "train", "crop_size": augmentation.pop("crop"), **augmentation},
            "seed": spec.seed,
        },
    }


def _evaluation_loader(spec: RunSpec, around: Surroundings) -> dict[str, Any]:
    evaluation = spec.evaluation
    transform = {
        "kind": "test",
        "scale": evaluation.scale,
        "multiple_of": evaluation.multiple_of or 1,
    }
    return _loader(evaluation.batch, around) | {
        "sampler": {"type": "WholeBatchSampler", "batch_size": evaluation.batch},
        "dataset": _images(spec, around, evaluation.split) | {"transform": transform},
    }


def _images(spec: RunSpec, around: Surroundings, split: str) -> dict[str, Any]:
    return {
        "type": "PairedFolder",
        "dataset": spec.dataset,
        "root": str(around.data),
        "split": split,
        "working_size": spec.working_size,
        "cache": around.cache_images,
        "packed": str(around.packed) if around.packed else None,
        "digest": spec.dataset_digest,
    }


def _optimizer(training: Training, around: Surroundings) -> dict[str, Any]:
    declared = training.optimizer
    optimizer: dict[str, Any] = {
        "type": declared.type,
        "lr": declared.lr,
        "weight_decay": declared.weight_decay,
    }
    if declared.type == "AdamW":
        optimizer["fused"] = True  # one kernel instead of one a parameter and operation
    if declared.betas is not None:
        optimizer["betas"] = declared.betas
    if declared.momentum is not None:
        optimizer["momentum"] = declared.momentum
    wrapper: dict[str, Any] = {
        "type": "OptimWrapper",
        "optimizer": optimizer,
        "constructor": declared.constructor or "MergedGroups",
        "paramwise_cfg": declared.paramwise or None,
        "accumulative_counts": training.accumulation,
    }
    if training.amp and around.device == "cuda":
        wrapper |= {"type": "AmpOptimWrapper", "dtype": "bfloat16"}
    if declared.grad_clip_norm is not None:
        wrapper["clip_grad"] = {"max_norm": declared.grad_clip_norm, "norm_type": 2}
    return wrapper


def _schedulers(training: Training) -> list[dict[str, Any]]:
    """Decay over the whole run, times a linear warm-up, as mmsegmentation 0.x has it.

    Step t of T runs at ``(lr − min) · (1 − t/T)^power + min``, times ``r + (1 − r) · t/w`` in the
    w steps of the warm-up. mmengine reaches its last value one step before ``end``, hence the + 1.
    With both a minimum and a warm-up it multiplies in another order, by less than the minimum.
    """
    schedule = training.schedule
    decay: dict[str, Any] = {"begin": 0, "end": training.iterations + 1, "by_epoch": False}
    if schedule.cosine_to is None:
        decay |= {"type": "PolyLR", "power": schedule.power, "eta_min": schedule.min_lr}
    else:  # c + (1 − c) · (1 + cos(π t/T)) / 2
        decay |= {"type": "CosineAnnealingLR", "eta_min_ratio": schedule.cosine_to}
        decay |= {"T_max": training.iterations}
    if not schedule.warmup_iterations:
        return [decay]
    warmup = {
        "type": "LinearLR",
        "start_factor": schedule.warmup_ratio,
        "begin": 0,
        "end": schedule.warmup_iterations + 1,
        "by_epoch": False,
    }
    return [warmup, decay]
