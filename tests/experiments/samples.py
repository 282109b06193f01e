"""Small specs, areas, records and tables, made by hand."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from experiments.declare.run_spec import RunSpec
from experiments.declare.training import Augmentation, Evaluation, Optimizer, Schedule, Training
from experiments.store.areas import ImageAreas, per_class_iou, scores
from experiments.store.records import CurvePoint, Environment, Record, Timings
from experiments.store.store import Store

NUM_CLASSES = 4


def make_training(**changes: Any) -> Training:
    fields: dict[str, Any] = {
        "iterations": 40,
        "batch": 8,
        "accumulation": 2,
        "optimizer": Optimizer(
            type="AdamW",
            lr=0.01,
            weight_decay=0.05,
            betas=(0.9, 0.99),
            paramwise={"norm_decay_mult": 0.0},
            grad_clip_norm=1.5,
        ),
        "schedule": Schedule(power=0.9, min_lr=0.0, warmup_iterations=5, warmup_ratio=0.1),
        "augmentation": Augmentation(scale=(96, 64), ratio_range=(0.5, 2.0), crop=(32, 48)),
    }
    return Training(**fields | changes)


def make_spec(**changes: Any) -> RunSpec:
    fields: dict[str, Any] = {
        "model": "segnext_t",
        "model_size": "tiny",
        "segmentor": {"type": "EncoderDecoder", "decode_head": {"channels": 8, "ratios": [1, 2]}},
        "classifier": {"name": "softmax", "overrides": {"dice_weight": 0.0}},
        "dataset": "scenes",
        "dataset_digest": "d" * 64,
        "dataset_settings": {"train": 3},
        "working_size": None,
        "num_classes": NUM_CLASSES,
        "weights": None,
        "weights_sha256": None,
        "training": make_training(),
        "evaluation": Evaluation(interval=20, crop=(32, 32), stride=(16, 16)),
        "profile": "smoke",
        "seed": 0,
    }
    return RunSpec(**fields | changes)


def make_areas(seed: int, images: int = 6, skill: float = 0.7) -> ImageAreas:
    """Areas of random labels and of predictions that are right with probability ``skill``."""
    generator = np.random.default_rng([seed, images])
    labels = generator.integers(0, NUM_CLASSES, size=(images, 400))
    guess = generator.integers(0, NUM_CLASSES, size=labels.shape)
    predictions = np.where(generator.random(labels.shape) < skill, labels, guess)
    classes = np.arange(NUM_CLASSES)
    ours, theirs = predictions[..., None] == classes, labels[..., None] == classes
    return ImageAreas(
        names=tuple(f"{i:05d}" for i in range(images)),
        intersection=(ours & theirs).sum(1),
        predicted=ours.sum(1),
        labelled=theirs.sum(1),
    )


def make_environment(**changes: Any) -> Environment:
    fields: dict[str, Any] = {
        "host": "here",
        "platform": "Linux",
        "python": "3.11",
        "torch": "2.13",
        "packages": {},
        "device": "cpu: a processor",
        "threads": 1,
        "git_commit": "c" * 40,
        "git_dirty": False,
        "code": {},
        "code_digest": "e" * 64,
    }
    return Environment(**fields | changes)


def make_record(
    spec: RunSpec, areas: ImageAreas, *, total_s: float = 10.0, **environment: Any
) -> Record:
    final = scores(areas)
    return Record(
        version=1,
        run_id=spec.run_id,
        spec=spec,
        scores=final,
        per_class_iou=tuple(float(v) for v in per_class_iou(areas)),
        class_names=tuple(f"class {k}" for k in range(NUM_CLASSES)),
        curve=(CurvePoint(iteration=40, scores=final, losses={"ce": 0.1 + 0.2}),),
        num_images=len(areas.names),
        per_image_sha256=hashlib.sha256(areas.to_bytes()).hexdigest(),
        result_digest="f" * 64,
        timings=Timings(train_s=8.0, evaluate_s=1.0, total_s=total_s, iteration_ms=5.0),
        peak_memory_mb=100.0,
        resumed_at=(),
        environment=make_environment(**environment),
        deviations=(),
        started="2026-11-23T12:00:00+00:00",
        finished="2026-11-23T12:00:10+00:00",
    )


def put(store: Store, spec: RunSpec, areas: ImageAreas, **changes: Any) -> Record:
    """A finished run in a store."""
    store.write_spec(spec)
    record = make_record(spec, areas, **changes)
    store.write_record(record, areas.to_bytes())
    return record
