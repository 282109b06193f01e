"""ViT-Adapter's learning rates fall layer by layer towards the input."""

from __future__ import annotations

from pathlib import Path

import pytest
from mmengine.optim import build_optim_wrapper

from ssa.backbones.layer_decay import layer_of
from ssa.models import build_segmentor, load_model_card

MODELS = Path(__file__).resolve().parents[3] / "experiments" / "models"


def wrapper(network, **paramwise):
    return build_optim_wrapper(
        network,
        {
            "type": "OptimWrapper",
            "constructor": "LayerDecay",
            "optimizer": {"type": "AdamW", "lr": 2e-5, "weight_decay": 0.05},
            "paramwise_cfg": paramwise,
        },
    )


def test_every_parameter_has_the_rate_of_its_layer():
    card = load_model_card(MODELS / "vit_adapter_l.yaml")
    network = build_segmentor(card, classifier={"name": "ssa"}, num_classes=5, size="tiny")
    groups = wrapper(network, num_layers=4, layer_decay_rate=0.9).optimizer.param_groups
    rates, decays = {}, {}
    for group in groups:
        for parameter in group["params"]:
            rates[id(parameter)], decays[id(parameter)] = group["lr"], group["weight_decay"]
    named = dict(network.named_parameters())
    assert set(rates) == {id(parameter) for parameter in named.values()}
    expected = {
        "backbone.position": 5,
        "backbone.patch_embedding.weight": 5,
        "backbone.blocks.0.mlp.0.weight": 4,
        "backbone.blocks.3.mlp.0.weight": 1,
        "backbone.interactions.0.injector_scale": 0,
        "backbone.level_embedding": 0,
        "decode_head.classifier.conv_seg.weight": 0,
    }
    for name, power in expected.items():
        assert rates[id(named[name])] == pytest.approx(2e-5 * 0.9**power), name
    for name, parameter in named.items():
        vector = parameter.ndim == 1 or name.endswith(".bias")
        assert decays[id(parameter)] == (0 if vector else 0.05), name


def test_layers_are_counted_from_the_embeddings():
    assert layer_of("backbone.blocks.23.norm.weight", 24) == 24
    assert layer_of("backbone.norms.0.weight", 24) == 25


def test_settings_must_be_complete():
    card = load_model_card(MODELS / "vit_adapter_l.yaml")
    network = build_segmentor(card, classifier={"name": "softmax"}, num_classes=5, size="tiny")
    with pytest.raises(ValueError, match="LayerDecay needs num_layers"):
        wrapper(network, layer_decay_rate=0.9)
