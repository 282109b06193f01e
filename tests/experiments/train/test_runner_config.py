"""The one pure function from a run to mmengine's config."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.optim import CosineAnnealingLR, LinearLR, PolyLR
from samples import make_spec, make_training

from experiments.declare.run_spec import RunSpec
from experiments.declare.training import Evaluation, Optimizer, Schedule
from experiments.train.config import Surroundings, runner_config

NOWHERE = Path("/nowhere")


def around(**changes: Any) -> Surroundings:
    places = {name: NOWHERE / name for name in ("work", "data", "progress", "checkpoint")}
    return Surroundings(**places | changes)


def functions_in(config: Any) -> list[Any]:
    if isinstance(config, dict):
        return [f for value in config.values() for f in functions_in(value)]
    if isinstance(config, (list, tuple)):
        return [f for value in config for f in functions_in(value)]
    return [config] if isinstance(config, Callable) else []  # type: ignore[arg-type]


def test_equal_arguments_give_equal_configs_and_keep_them(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = make_spec()
    before = copy.deepcopy(spec.model_dump())
    first = runner_config(spec, around())
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.chdir("/")
    torch.manual_seed(99)
    assert runner_config(make_spec(), around()) == first
    first["model"]["decode_head"]["channels"] = -1
    first["train_dataloader"]["dataset"]["transform"].clear()
    assert runner_config(spec, around())["model"]["type"] == "EncoderDecoder"
    assert runner_config(spec, around())["train_dataloader"]["dataset"]["transform"]
    assert spec.training.model_dump() == before["training"]


def test_a_config_is_data_and_can_be_written_down() -> None:
    assert functions_in(runner_config(make_spec(), around())) == []


def test_surroundings_change_no_number_of_the_training() -> None:
    one = runner_config(make_spec(), around())
    other = runner_config(
        make_spec(), around(workers=3, cache_images=True, checkpoint_every_s=1.0, resume=True)
    )
    for key in ("optim_wrapper", "param_scheduler", "train_cfg", "val_cfg", "randomness", "model"):
        assert one[key] == other[key]
    samplers = [config["train_dataloader"]["sampler"] for config in (one, other)]
    assert samplers[0] == samplers[1]


@pytest.mark.parametrize(
    ("accumulation", "processes", "each"), [(1, 1, 8), (2, 1, 4), (1, 2, 4), (2, 4, 1)]
)
def test_a_global_batch_is_shared_by_processes_and_micro_batches(
    accumulation: int, processes: int, each: int
) -> None:
    spec = make_spec(training=make_training(accumulation=accumulation))
    loader = runner_config(spec, around(processes=processes))["train_dataloader"]
    assert loader["batch_size"] == each
    assert loader["sampler"]["batch_size"] == 8


def test_mixed_precision_is_for_a_gpu_only() -> None:
    spec = make_spec(training=make_training(amp=True))
    assert runner_config(spec, around())["optim_wrapper"]["type"] == "OptimWrapper"
    assert runner_config(spec, around(device="cuda"))["optim_wrapper"]["type"] == "AmpOptimWrapper"


def test_the_declared_optimiser_arrives() -> None:
    wrapper = runner_config(make_spec(), around())["optim_wrapper"]
    declared = make_spec().training.optimizer
    assert wrapper["optimizer"]["lr"] == declared.lr
    assert wrapper["optimizer"]["weight_decay"] == declared.weight_decay
    assert tuple(wrapper["optimizer"]["betas"]) == declared.betas
    assert wrapper["paramwise_cfg"] == declared.paramwise
    assert wrapper["clip_grad"]["max_norm"] == declared.grad_clip_norm
    assert wrapper["accumulative_counts"] == 2


def test_parameter_groups_can_be_made_by_a_named_constructor() -> None:
    usual = runner_config(make_spec(), around())["optim_wrapper"]
    assert usual["constructor"] == "MergedGroups"
    optimizer = Optimizer(type="AdamW", lr=1e-4, weight_decay=0.0, constructor="LayerDecay")
    spec = make_spec(training=make_training(optimizer=optimizer))
    assert runner_config(spec, around())["optim_wrapper"]["constructor"] == "LayerDecay"
    assert make_spec().run_id != spec.run_id


def test_what_came_later_and_is_not_named_is_no_part_of_a_run() -> None:
    """Runs from before there was a choice keep their identity."""
    assert "constructor" not in make_spec().canonical()
    assert "cosine_to" not in make_spec().canonical()
    assert RunSpec.model_validate_json(make_spec().canonical()) == make_spec()


def test_the_declared_evaluation_arrives() -> None:
    slide = Evaluation(interval=7, mode="slide", crop=(8, 8), stride=(4, 4), scale=(64, 32))
    config = runner_config(make_spec(evaluation=slide), around())
    assert config["model"]["test_cfg"] == {"mode": "slide", "crop_size": (8, 8), "stride": (4, 4)}
    assert config["val_dataloader"]["dataset"]["transform"]["scale"] == (64, 32)
    loader = config["val_dataloader"]
    assert loader["sampler"] == {"type": "WholeBatchSampler", "batch_size": loader["batch_size"]}
    assert config["train_cfg"]["val_interval"] == 7


def learning_rates(schedule: Schedule, lr: float, iterations: int) -> list[float]:
    """What mmengine's schedulers give, step after step."""
    spec = make_spec(training=make_training(iterations=iterations, schedule=schedule))
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=lr)
    kinds = {"PolyLR": PolyLR, "LinearLR": LinearLR, "CosineAnnealingLR": CosineAnnealingLR}
    chain = []
    for config in runner_config(spec, around())["param_scheduler"]:
        config = dict(config)
        chain.append(kinds[config.pop("type")](optimizer, **config))
    rates = []
    for _ in range(iterations):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        for scheduler in chain:
            scheduler.step()
    return rates


@given(
    iterations=st.integers(1, 60),
    power=st.sampled_from([0.9, 1.0, 2.0]),
    warmup=st.integers(0, 70),
    ratio=st.sampled_from([1e-6, 0.1, 0.5]),
)
@settings(deadline=None, max_examples=60)
def test_learning_rates_are_poly_times_linear_warm_up(
    iterations: int, power: float, warmup: int, ratio: float
) -> None:
    """mmsegmentation 0.x: lr·(1 − t/T)^p, times r + (1 − r)·t/w before step w."""
    schedule = Schedule(power=power, warmup_iterations=warmup, warmup_ratio=ratio)
    found = learning_rates(schedule, 0.01, iterations)
    for t, rate in enumerate(found):
        factor = ratio + (1 - ratio) * t / warmup if t < warmup else 1.0
        assert rate == pytest.approx(0.01 * (1 - t / iterations) ** power * factor, rel=1e-6)


@given(iterations=st.integers(1, 60), power=st.sampled_from([0.9, 1.0]))
@settings(deadline=None, max_examples=30)
def test_learning_rates_end_at_their_minimum(iterations: int, power: float) -> None:
    found = learning_rates(Schedule(power=power, min_lr=1e-4), 1e-3, iterations)
    for t, rate in enumerate(found):
        assert rate == pytest.approx(9e-4 * (1 - t / iterations) ** power + 1e-4, rel=1e-6)
    assert all(math.isfinite(rate) and rate > 1e-4 for rate in found)


@given(iterations=st.integers(1, 60), end=st.sampled_from([0.0, 0.0025, 0.5]))
@settings(deadline=None, max_examples=30)
def test_learning_rates_can_fall_along_half_a_cosine(iterations: int, end: float) -> None:
    """detectron2's WarmupCosineLR: c + (1 − c)·(1 + cos(π t/T))/2, as PEM trains."""
    for t, rate in enumerate(learning_rates(Schedule(cosine_to=end), 4e-4, iterations)):
        share = end + (1 - end) * (1 + math.cos(math.pi * t / iterations)) / 2
        assert rate == pytest.approx(4e-4 * share, rel=1e-6)


def test_images_may_be_packed() -> None:
    plain = runner_config(make_spec(), around())["train_dataloader"]["dataset"]
    assert plain["packed"] is None
    packed = runner_config(make_spec(), around(packed=Path("there")))
    for loader in ("train_dataloader", "val_dataloader"):
        dataset = packed[loader]["dataset"]
        assert (dataset["packed"], dataset["digest"]) == ("there", make_spec().dataset_digest)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_several_processes_share_the_batch_and_on_gpus_its_statistics(device: str) -> None:
    config = runner_config(make_spec(), around(device=device, processes=4))
    assert config["train_dataloader"]["batch_size"] == 1, "8 images, 2 micro-batches, 4 processes"
    assert config["train_dataloader"]["sampler"]["batch_size"] == 8
    assert config["launcher"] == "pytorch"
    assert config.get("sync_bn") == ("torch" if device == "cuda" else None)
    assert ("device_ids" in config["model_wrapper_cfg"]) == (device == "cpu")
    alone = runner_config(make_spec(), around(device=device))
    assert "launcher" not in alone
    assert "sync_bn" not in alone
