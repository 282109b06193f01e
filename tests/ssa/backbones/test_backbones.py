"""What every backbone written here must do, whatever its architecture."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from mmseg.registry import MODELS
from torch import nn

import ssa.backbones  # noqa: F401  registers them
from ssa.models import load_model_card, merge

ROOT = Path(__file__).resolve().parents[3]
#: model file → strides of the backbone's outputs
BACKBONES = {
    "seaformer_b": (8, 32, 64),
    "seaformer_l": (8, 16, 32, 64),
    "afformer_b": (4, 8, 8, 8),
    "cgrseg_b": (4, 8, 16, 32),
    "vit_adapter_l": (4, 8, 16, 32),
    "efficientnet_lite0": (8, 16),
}


def build(name: str, size: str = "tiny") -> nn.Module:
    card = load_model_card(ROOT / "experiments" / "models" / f"{name}.yaml")
    config = merge(card["segmentor"]["backbone"], card["sizes"][size]["backbone"])
    config["norm_cfg"] = {"type": "BN"}
    torch.manual_seed(0)
    return MODELS.build(config)


def randomise(module: nn.Module) -> nn.Module:
    """Values away from zero everywhere, so that no scale that starts at zero hides a path."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim >= 2:
                parameter.copy_(noise / parameter[0].numel() ** 0.5)
            else:
                parameter.copy_(0.1 * noise + (1 if name.endswith("weight") else 0.1))
    return module


@pytest.fixture(params=list(BACKBONES))
def name(request):
    return request.param


@pytest.mark.parametrize("side", [(64, 64), (65, 97), (100, 40)])
@torch.no_grad()
def test_output_sizes_are_ceilings_of_the_strides(name, side):
    outputs = build(name, "small").eval()(torch.randn(2, 3, *side))
    assert [tuple(out.shape[2:]) for out in outputs] == [
        (-(-side[0] // stride), -(-side[1] // stride)) for stride in BACKBONES[name]
    ]
    assert all(out.isfinite().all() for out in outputs)


def test_gradient_reaches_every_parameter(name):
    backbone = randomise(build(name)).eval()
    torch.manual_seed(1)
    outputs = backbone(torch.randn(1, 3, 96, 96))
    sum((out * torch.randn_like(out)).sum() for out in outputs).backward()
    for key, parameter in backbone.named_parameters():
        assert parameter.grad is not None, key
        # a key's bias shifts all scores of a query alike, which the softmax does not see
        if not key.endswith("key.0.bias"):
            assert parameter.grad.abs().max() > 0, key


@torch.no_grad()
def test_eval_is_independent_of_the_batch(name):
    backbone = randomise(build(name)).eval()
    before = copy.deepcopy(backbone.state_dict())
    images = torch.randn(3, 3, 64, 64)
    together = backbone(images)
    alone = backbone(images[1:2])
    for whole, one in zip(together, alone):
        torch.testing.assert_close(whole[1:2], one, rtol=1e-3, atol=1e-3)
    for key, value in backbone.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_training_updates_the_running_statistics(name):
    backbone = build(name).train()
    before = copy.deepcopy(backbone.state_dict())
    backbone(torch.randn(2, 3, 64, 64) + 1)
    # a rectified layer may see zeros alone, which leaves its mean, but never its variance, at one
    variances = [key for key in before if key.endswith("running_var")]
    assert variances
    assert all(not torch.equal(backbone.state_dict()[key], before[key]) for key in variances)


@torch.no_grad()
def test_init_weights_keeps_activations_in_scale(name):
    """From scratch, no output may vanish or explode before training starts."""
    backbone = build(name, "small")
    backbone.init_weights()
    for out in backbone.train()(torch.randn(4, 3, 96, 96)):
        assert 1e-3 < out.std() < 1e3


@pytest.mark.parametrize(
    "name",
    [
        one if one in ("seaformer_l", "afformer_b") else pytest.param(one, marks=pytest.mark.slow)
        for one in BACKBONES
    ],
)
@torch.no_grad()
def test_compiles_into_one_graph(name):
    """No graph break: ``fullgraph`` raises at the first one."""
    torch.compiler.reset()
    backbone = randomise(build(name)).eval()
    images = torch.randn(1, 3, 64, 64)
    compiled = torch.compile(backbone, fullgraph=True, backend="aot_eager")
    for mine, expected in zip(compiled(images), backbone(images)):
        torch.testing.assert_close(mine, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@torch.no_grad()
def test_compiles_with_the_default_compiler():
    torch.compiler.reset()
    backbone = randomise(build("seaformer_b")).eval()
    images = torch.randn(1, 3, 64, 64)
    for mine, expected in zip(torch.compile(backbone)(images), backbone(images)):
        torch.testing.assert_close(mine, expected, rtol=1e-3, atol=1e-4)


def test_channels_last_gives_the_same(name):
    backbone = randomise(build(name)).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = backbone(images)
        backbone.to(memory_format=torch.channels_last)
        found = backbone(images.to(memory_format=torch.channels_last))
    for one, other in zip(found, expected):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
