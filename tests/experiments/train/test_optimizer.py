"""Merged groups: few of them, each parameter with its own settings, the same updates."""

import pytest
import torch
from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from experiments.train.optimizer import MergedGroups, merged
from experiments.train.plain_config import PlainConfig

SETTINGS = {
    "optimizer": {"type": "AdamW", "lr": 1e-2, "weight_decay": 0.1, "fused": True},
}
PARAMWISE = [
    {"norm_decay_mult": 0.0},
    {"norm_decay_mult": 0.0, "custom_keys": {"2": {"lr_mult": 10.0}, "1": {"decay_mult": 0.0}}},
    {"bias_lr_mult": 2.0, "bias_decay_mult": 0.0},
]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(5, 7), nn.LayerNorm(7), nn.Linear(7, 7), nn.LayerNorm(7), nn.Linear(7, 3)
    )


@pytest.mark.parametrize("paramwise", PARAMWISE)
def test_updates_are_equal_to_the_bit_in_fewer_groups(paramwise: dict) -> None:
    results, counts = [], []
    for constructor in (DefaultOptimWrapperConstructor, MergedGroups):
        model = network()
        wrapper = constructor(SETTINGS, paramwise)(model)
        for step in range(5):
            torch.manual_seed(step)
            wrapper.update_params(model(torch.randn(4, 5)).square().mean())
        results.append([p.detach().clone() for p in model.parameters()])
        counts.append(len(wrapper.optimizer.param_groups))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    settings = {(g["lr"], g["weight_decay"]) for g in wrapper.optimizer.param_groups}
    assert counts[1] == len(settings) < counts[0] == 10


def test_nothing_is_lost_or_doubled() -> None:
    a, b, c = (nn.Parameter(torch.zeros(1)) for _ in range(3))
    groups = [{"params": [a], "lr": 1}, {"params": b, "lr": 2}, {"params": [c], "lr": 1}]
    assert merged(groups) == [{"params": [a, c], "lr": 1}, {"params": [b], "lr": 2}]


def test_a_config_is_printed_without_yapf_and_reads_back(tmp_path) -> None:
    settings = {"model": {"type": "X", "sizes": [1, 2], "path": None}, "rate": 1e-6}
    path = tmp_path / "config.py"
    path.write_text(PlainConfig(settings).pretty_text)
    assert PlainConfig.fromfile(path).to_dict() == settings
