"""Every model file's small network, whole, with its own classifier and with SSA-Seg."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import nn

from ssa.errors import UnknownNameError
from ssa.heads import CGRHead, ClassifierHead, GuidedClassifierHead, LightHead
from ssa.heads.guided_head import ContextGate
from ssa.meta import meta_device
from ssa.models import build_segmentor, build_segmentor_config, load_model_card

MODELS = Path(__file__).resolve().parents[3] / "experiments" / "models"
NAMES = [
    path.stem
    for path in sorted(MODELS.glob("*.yaml"))
    if yaml.safe_load(path.read_text()).get("pixel_classifier", True)
]
#: heads written here
OWN_HEADS = ("seaformer_l", "afformer_b", "cgrseg_b")
CLASSIFIERS = ({"name": "softmax"}, {"name": "ssa", "preset": "released"})


def build(name: str, classifier: dict, size: str = "tiny", **settings) -> nn.Module:
    torch.manual_seed(0)
    card = load_model_card(MODELS / f"{name}.yaml")
    return build_segmentor(card, classifier=classifier, num_classes=7, size=size, **settings)


def samples(count: int, side: tuple[int, int], num_classes: int = 7) -> list[SegDataSample]:
    found = []
    for index in range(count):
        labels = (torch.arange(side[0])[:, None] // 9 + torch.arange(side[1]) // 11 + index) % (
            num_classes
        )
        sample = SegDataSample(metainfo={"img_shape": side, "ori_shape": side, "pad_shape": side})
        sample.gt_sem_seg = PixelData(data=labels[None])
        found.append(sample)
    return found


@pytest.mark.parametrize("classifier", CLASSIFIERS, ids=lambda one: one["name"])
@pytest.mark.parametrize("name", NAMES)
def test_a_step_trains_every_parameter(name, classifier):
    network = build(name, classifier)
    network.init_weights()
    with torch.no_grad():  # scales that start at zero would hide what lies behind them
        for parameter in network.parameters():
            if parameter.ndim == 1 or not parameter.any():
                parameter.add_(0.1 * torch.randn_like(parameter))
    network.train()
    losses = network.loss(torch.randn(2, 3, 96, 96), samples(2, (96, 96)))
    total = sum(value for key, value in losses.items() if "loss" in key)
    assert total.isfinite()
    total.backward()
    without = [
        key
        for key, parameter in network.named_parameters()
        if parameter.requires_grad and parameter.grad is None
    ]
    # MSCAN declares an output norm for stage 0, which the head does not read
    assert [key for key in without if not key.startswith("backbone.norm1.")] == []


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_prediction_has_the_image_size_whatever_it_is(name):
    network = build(name, CLASSIFIERS[1]).eval()
    side = (75, 98)
    predictions = network.predict(torch.randn(1, 3, *side), samples(1, side))
    assert predictions[0].seg_logits.data.shape == (7, *side)
    assert predictions[0].seg_logits.data.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_sizes_of_small_networks(name):
    """``tiny`` trains in seconds on one core, ``small`` has a million parameters or so."""
    with meta_device():
        tiny, small = (build(name, CLASSIFIERS[0], size) for size in ("tiny", "small"))
    count = [sum(one.numel() for one in network.parameters()) for network in (tiny, small)]
    assert count[0] < 1e6
    assert 0.6e6 < count[1] < 2e6
    with pytest.raises(UnknownNameError, match="Did you mean 'small'"):
        build(name, CLASSIFIERS[0], "smal")


@pytest.mark.slow
@pytest.mark.parametrize("name", OWN_HEADS)
@pytest.mark.parametrize("classifier", CLASSIFIERS, ids=lambda one: one["name"])
@torch.no_grad()
def test_heads_compile_into_one_graph(name, classifier):
    """No graph break: ``fullgraph`` raises at the first one; backbones have such a test, too."""
    torch.compiler.reset()
    network = build(name, classifier).eval()
    features = network.backbone(torch.randn(1, 3, 64, 64))
    compiled = torch.compile(network.decode_head, fullgraph=True, backend="aot_eager")
    expected = network.decode_head(features)
    torch.testing.assert_close(compiled(features), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@torch.no_grad()
def test_a_network_compiles_into_one_graph():
    torch.compiler.reset()
    network = build("seaformer_l", CLASSIFIERS[1]).eval()
    image = torch.randn(1, 3, 64, 64)

    def logits(images: torch.Tensor) -> torch.Tensor:
        return network.decode_head(network.backbone(images))

    compiled = torch.compile(logits, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(image), logits(image), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", OWN_HEADS)
@torch.no_grad()
def test_eval_is_independent_of_the_batch(name):
    network = build(name, CLASSIFIERS[1]).eval()
    images = torch.randn(3, 3, 64, 64)
    whole, one = (network(part, mode="tensor") for part in (images, images[1:2]))
    torch.testing.assert_close(whole[1:2], one, rtol=1e-3, atol=1e-3)


def test_cgrseg_is_guided_only_where_the_classifier_is_its_own():
    assert type(build("cgrseg_b", CLASSIFIERS[0]).decode_head) is GuidedClassifierHead
    adapted = build("cgrseg_b", CLASSIFIERS[1]).decode_head
    assert type(adapted) is ClassifierHead
    assert not any("guidance" in key for key, _ in adapted.named_parameters())


@torch.no_grad()
def test_guidance_follows_its_definition():
    """Class context by masks over positions, a gate from it, twice the classifier."""
    network = build("cgrseg_b", CLASSIFIERS[0]).eval()
    head = network.decode_head
    for parameter in head.guidance.parameters():
        parameter.normal_(std=0.1)
    features = network.backbone(torch.randn(1, 3, 64, 64))
    maps = head.decode_head.reconstruct(features)
    first = head.classifier(head.decode_head.fuse(maps))
    context = torch.zeros(1, maps.shape[1], 7)
    for k in range(7):
        mask = first[0, k].flatten().softmax(0).reshape(maps.shape[2:])
        context[0, :, k] = (maps[0] * mask).sum((1, 2))
    expected = head.classifier(maps * head.guidance(context) + maps)
    torch.testing.assert_close(head(features), expected)


def test_gates_start_at_one_half():
    torch.testing.assert_close(ContextGate(8)(torch.randn(2, 8, 5)), torch.full((2, 8, 1, 1), 0.5))


def test_the_unused_convolution_of_afformer_is_there_but_frozen():
    head = build("afformer_b", CLASSIFIERS[0]).decode_head.decode_head
    assert {key for key, one in head.named_parameters() if not one.requires_grad} == {
        key for key, _ in head.named_parameters() if key.startswith("align.")
    }


@torch.no_grad()
def test_a_closed_gate_lets_nothing_through():
    head = LightHead([8], in_channels=[4, 6], in_index=[0, 1], channels=8, num_classes=3)
    gate = head.fusions[0]
    gate.context.conv.weight.zero_()
    gate.context.conv.bias.fill_(-3)  # the hard sigmoid's zero
    assert not gate(torch.randn(1, 4, 8, 8), torch.randn(1, 6, 2, 2)).any()
    gate.context.conv.bias.fill_(3)
    detail = torch.randn(1, 4, 8, 8)
    torch.testing.assert_close(gate(detail, torch.randn(1, 6, 2, 2)), gate.detail(detail))


def test_fusions_must_match_the_inputs():
    with pytest.raises(ValueError, match="zip"):
        LightHead([8, 8, 8], in_channels=[4, 6], in_index=[0, 1], channels=8, num_classes=3)


def test_sync_norm_is_kept_or_replaced_everywhere():
    card = load_model_card(MODELS / "ocrnet_hr48.yaml")
    choice = {"classifier": CLASSIFIERS[0], "num_classes": 7}
    assert "SyncBN" not in str(build_segmentor_config(card, **choice))
    assert "SyncBN" in str(build_segmentor_config(card, sync_norm=True, **choice))
    assert "SyncBN" in str(card)  # the card itself is left alone


def test_overrides_come_last_and_lists_are_replaced():
    card = load_model_card(MODELS / "seaformer_l.yaml")
    config = build_segmentor_config(
        card,
        classifier=CLASSIFIERS[1],
        num_classes=7,
        size="tiny",
        model_overrides={"backbone": {"depths": [2, 2, 2]}, "test_cfg": {"mode": "slide"}},
    )
    assert config["backbone"]["depths"] == [2, 2, 2]
    assert config["backbone"]["num_heads"] == 4
    assert config["test_cfg"] == {"mode": "slide"}
    assert config["decode_head"]["decode_head"]["num_classes"] == 7
    assert isinstance(build("cgrseg_b", CLASSIFIERS[1]).decode_head.decode_head, CGRHead)
