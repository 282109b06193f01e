"""Any decode head of mmsegmentation's registry works behind ClassifierHead or is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.structures import PixelData
from mmseg.models import decode_heads  # noqa: F401  registers every head
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import nn

from ssa.classifiers import CLASSIFIERS
from ssa.errors import UnknownNameError
from ssa.heads import ClassifierHead, GuidedClassifierHead
from ssa.heads.classifier_head import UnsupportedHeadError
from ssa.losses.inputs import LabelRangeError, LossInputError

DOCS = Path(__file__).resolve().parents[3] / "docs" / "models.md"
CLASSES = 5
BN = {"type": "BN"}
ONE: dict[str, Any] = {"in_channels": 16, "in_index": 3, "channels": 8}
FOUR: dict[str, Any] = {"in_channels": [16] * 4, "in_index": [0, 1, 2, 3], "channels": 8}
SMALL = {"gmmseg": {"memory_size": 32}, "dnc": {"memory_size": 32}}
#: the smallest settings that build a head; for a refused one, what a user might write
SETTINGS: dict[str, dict[str, Any]] = {
    "ANNHead": FOUR
    | {
        "in_channels": [16, 16],
        "in_index": [2, 3],
        "project_channels": 8,
        "dropout_ratio": 1e-12,  # the plain head calls its dropout, None at 0
    },
    "APCHead": ONE | {"pool_scales": (1, 2)},
    "ASPPHead": ONE | {"dilations": (1, 2)},
    "DMHead": ONE | {"filter_sizes": (1, 3)},
    "DPTHead": FOUR
    | {"embed_dims": 16, "post_process_channels": [8] * 4, "input_transform": "multiple_select"},
    "DepthwiseSeparableASPPHead": ONE
    | {"dilations": (1, 2), "c1_in_channels": 16, "c1_channels": 4},
    "EMAHead": ONE | {"ema_channels": 8, "num_bases": 4, "num_stages": 2},
    "FPNHead": FOUR | {"feature_strides": [4, 8, 16, 32]},
    "ISAHead": ONE | {"in_index": 2, "isa_channels": 4},
    "LRASPPHead": FOUR
    | {
        "in_channels": [16, 16, 16],
        "in_index": [0, 1, 2],
        "input_transform": "multiple_select",
        "branch_channels": (4, 4),
    },
    "LightHamHead": FOUR
    | {
        "ham_channels": 8,
        "ham_kwargs": {"MD_R": 4},
        "norm_cfg": {"type": "GN", "num_groups": 2},
    },
    "OCRHead": ONE | {"ocr_channels": 4},
    "PSAHead": ONE | {"mask_size": (4, 4)},
    "PSPHead": ONE | {"pool_scales": (1, 2)},
    "SETRMLAHead": FOUR | {"channels": 16, "mla_channels": 4},
    "SETRUPHead": ONE | {"num_convs": 1},
    "SegformerHead": FOUR,
    "SegmenterMaskTransformerHead": ONE | {"num_layers": 1, "num_heads": 2, "embed_dims": 8},
    "UPerHead": FOUR | {"pool_scales": (1, 2)},
}
#: refused, and the words that say why
REASONS = {
    "CCHead": "compiled operators",
    "DAHead": r"its own (loss|predict)_by_feat\(\)|its own predict\(\)",
    "DDRHead": r"its own loss_by_feat\(\)",
    "EncHead": r"its own (loss|predict)_by_feat\(\)|its own predict\(\)",
    "IterativeDecodeHead": r"its own loss_by_feat\(\)",
    "KernelUpdateHead": "no BaseDecodeHead",
    "KernelUpdator": "no BaseDecodeHead",
    "Mask2FormerHead": "no BaseDecodeHead",
    "MaskFormerHead": "no BaseDecodeHead",
    "PIDHead": r"its own loss_by_feat\(\)",
    "PSAHead": "compiled operators",
    "PointHead": r"its own loss\(\)",
    "STDCHead": r"its own loss_by_feat\(\)",
    "SegmenterMaskTransformerHead": "no closing 1×1 convolution",
    "SideAdapterCLIPHead": r"its own loss\(\)",
    "VPDDepthHead": r"its own loss_by_feat\(\)",
}


def documented() -> dict[str, str]:
    """Head → verdict, as the table of docs/models.md has it."""
    section = DOCS.read_text(encoding="utf-8").split("decode heads take a classifier")[1]
    rows = re.findall(r"^\| ([\w, ]+) \| (works|refused) \|", section.split("\n## ")[0], re.M)
    return {name: verdict for names, verdict in rows for name in names.split(", ")}


def registered() -> set[str]:
    """Every class that mmsegmentation registers as a decode head or a part of one."""
    modules = {name: cls.__module__ for name, cls in MODELS.module_dict.items()}
    return {name for name, of in modules.items() if of.startswith("mmseg.models.decode_heads")}


DOCUMENTED = documented()
WORKS = sorted(name for name, verdict in DOCUMENTED.items() if verdict == "works")
REFUSED = sorted(name for name, verdict in DOCUMENTED.items() if verdict == "refused")


def config_of(name: str) -> dict[str, Any]:
    common = {"type": name, "num_classes": CLASSES, "norm_cfg": BN, "dropout_ratio": 0}
    return common | SETTINGS.get(name, ONE)


def samples(size: int = 32) -> list[SegDataSample]:
    made = []
    for seed in range(2):
        torch.manual_seed(seed)
        sample = SegDataSample()
        sample.gt_sem_seg = PixelData(data=torch.randint(0, CLASSES, (1, size, size)))
        made.append(sample)
    return made


def maps(name: str = "FCNHead") -> list[Any]:
    """A backbone's maps as that head takes them."""
    torch.manual_seed(3)
    sizes = [32 // 2**i for i in range(4)]
    if name == "LRASPPHead":  # it pools by windows of 49
        sizes = [64, 56, 50, 4]
    if name in ("SETRMLAHead", "DPTHead"):  # a plain transformer's
        sizes = [8] * 4
    made = [torch.randn(2, 16, size, size, requires_grad=True) for size in sizes]
    if name == "DPTHead":
        return [(one, torch.randn(2, 16)) for one in made]  # with its class token
    return made


def arguments(name: str) -> list[Any]:
    """What the head is called with: the maps, and in a cascade the stage before."""
    torch.manual_seed(4)
    earlier = [torch.randn(2, CLASSES, 4, 4)] if name == "OCRHead" else []
    return [maps(name), *earlier]


def leaf(one: Any) -> torch.Tensor:
    return one[0] if isinstance(one, tuple) else one


def test_the_table_of_the_documentation_has_every_head_of_the_registry() -> None:
    assert set(map(_full, DOCUMENTED)) == registered()
    assert set(map(_full, REFUSED)) == set(REASONS)


def _full(name: str) -> str:
    return name if name == "KernelUpdator" else f"{name}Head"  # FPN alone is a neck


@pytest.mark.parametrize("name", map(_full, WORKS))
def test_behind_a_head_that_works_softmax_is_what_the_head_was(name: str) -> None:
    """Decision, loss and gradients of the plain head, whose closing convolution is taken over."""
    torch.manual_seed(0)
    plain = MODELS.build(config_of(name))
    plain.init_weights()
    with torch.no_grad():
        plain.conv_seg.bias.uniform_(-1, 1)
    wrapped = ClassifierHead(config_of(name), {"name": "softmax"})
    wrapped.init_weights()
    state = plain.state_dict()
    closing = {
        key.removeprefix("conv_seg."): state.pop(key) for key in list(state) if "conv_seg" in key
    }
    wrapped.decode_head.load_state_dict(state)
    wrapped.classifier.conv_seg.load_state_dict(closing)

    gradients = []
    for head in (plain, wrapped):
        inputs = arguments(name)
        torch.manual_seed(5)
        terms = head.loss(*inputs, samples(), None)
        total = sum(value for key, value in terms.items() if key.startswith("loss"))
        total.backward()
        gradients.append((total.detach(), *(leaf(one).grad for one in inputs[0])))
    for expected, got in zip(*gradients, strict=True):
        if expected is None:
            assert got is None
        else:
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)
    assert any(one is not None and one.any() for one in gradients[0][1:])

    plain.eval(), wrapped.eval()
    torch.manual_seed(6)
    expected = plain(*arguments(name))
    torch.manual_seed(6)
    torch.testing.assert_close(wrapped(*arguments(name)), expected)


@pytest.mark.parametrize("classifier", [name for name in CLASSIFIERS if name != "softmax"])
@pytest.mark.parametrize("name", map(_full, WORKS))
def test_every_classifier_trains_behind_a_head_that_works(name: str, classifier: str) -> None:
    torch.manual_seed(0)
    chosen = {"name": classifier, "overrides": SMALL.get(classifier, {})}
    model = ClassifierHead(config_of(name), chosen)
    model.init_weights()
    inputs = arguments(name)
    total = sum(model.loss(*inputs, samples(), None).values())
    total.backward()
    assert total.isfinite()
    assert any(leaf(one).grad is not None and leaf(one).grad.any() for one in inputs[0])
    assert model.eval()(*inputs).shape[1] == CLASSES


@pytest.mark.parametrize("classifier", ["softmax", "ssa"])
@pytest.mark.parametrize("name", map(_full, REFUSED))
def test_another_head_is_refused_with_a_sentence(name: str, classifier: str) -> None:
    if REASONS[name] == "compiled operators" and _has_operators():
        pytest.skip("this installation has mmcv's compiled operators")
    sentence = f"^{name} cannot hold a pixel classifier: .*({REASONS[name]}).*docs/models.md"
    with pytest.raises(UnsupportedHeadError, match=sentence):
        ClassifierHead(config_of(name), {"name": classifier})


def _has_operators() -> bool:
    try:
        import mmcv.ops  # noqa: F401
    except ModuleNotFoundError:
        return False
    return True


def test_a_head_that_nobody_registered_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'FCNHead'"):
        ClassifierHead(config_of("FCNHead") | {"type": "FCNHed"}, {"name": "softmax"})


def test_what_is_no_decode_head_is_refused_as_an_object_too() -> None:
    with pytest.raises(UnsupportedHeadError, match="Conv2d cannot hold"):
        ClassifierHead(nn.Conv2d(3, 5, 1), {"name": "softmax"})  # type: ignore[arg-type]


def test_guidance_needs_a_head_with_two_parts() -> None:
    with pytest.raises(UnsupportedHeadError, match=r"FCNHead has no reconstruct\(\)"):
        GuidedClassifierHead(fcn(), {"name": "softmax"})


def fcn(**settings: Any) -> dict[str, Any]:
    return config_of("FCNHead") | settings


CE = {"type": "CrossEntropyLoss"}
OWN_LOSSES = {
    "class weights": {"loss_decode": CE | {"class_weight": [1.0, 2.0, 3.0, 4.0, 5.0]}},
    "several": {"loss_decode": [CE, {"type": "DiceLoss", "loss_weight": 3.0}]},
    "another": {"loss_decode": {"type": "TverskyLoss"}},
    "valid pixels": {"loss_decode": CE | {"avg_non_ignore": True}},
    "sigmoid": {"loss_decode": CE | {"use_sigmoid": True}},
    "sampler": {"sampler": {"type": "OHEMPixelSampler", "thresh": 0.2, "min_kept": 10}},
}


@pytest.mark.parametrize("case", OWN_LOSSES)
def test_losses_of_the_wrapped_head_are_honoured_or_refused(case: str) -> None:
    settings = OWN_LOSSES[case]
    torch.manual_seed(0)
    plain = MODELS.build(fcn(**settings))
    wrapped = ClassifierHead(fcn(**settings), {"name": "softmax"})
    wrapped.classifier.conv_seg.load_state_dict(plain.conv_seg.state_dict())
    wrapped.decode_head.load_state_dict(plain.state_dict(), strict=False)
    expected = plain.loss(maps(), samples(), None)
    expected.pop("acc_seg")
    got = wrapped.loss(maps(), samples(), None)
    assert got.keys() == expected.keys()
    for name, value in got.items():
        torch.testing.assert_close(value, expected[name])
    unweighted = ClassifierHead(fcn(), {"name": "softmax"})
    unweighted.load_state_dict(wrapped.state_dict())
    common = sum(unweighted.loss(maps(), samples(), None).values())
    if case != "valid pixels":  # these labels have no ignored pixel
        assert sum(got.values()).item() != pytest.approx(common.item(), rel=1e-3)
    for other in ("ssa", "cac"):
        with pytest.raises(UnsupportedHeadError, match="loss or sampler of its own"):
            ClassifierHead(fcn(**settings), {"name": other})


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_the_weight_of_the_wrapped_heads_loss_counts(classifier: str) -> None:
    totals = []
    for weight in (1.0, 0.4):
        torch.manual_seed(0)
        head = fcn(loss_decode=CE | {"loss_weight": weight})
        chosen = {"name": classifier, "overrides": SMALL.get(classifier, {})}
        model = ClassifierHead(head, chosen)
        torch.manual_seed(1)
        totals.append(sum(model.loss(maps(), samples(), None).values()).item())
    assert totals[1] == pytest.approx(0.4 * totals[0], rel=1e-5)


def test_one_output_channel_is_refused() -> None:
    for settings in ({"num_classes": 1}, {"num_classes": 2, "out_channels": 1}):
        with pytest.raises(UnsupportedHeadError, match="num_classes: 2"):
            ClassifierHead(fcn(**settings), {"name": "softmax"})


def test_an_initialisation_with_an_override_is_kept() -> None:
    init = {
        "type": "Constant",
        "val": 0.25,
        "layer": "Conv2d",
        "override": {"type": "Normal", "std": 0.01, "name": "conv_seg"},
    }
    model = ClassifierHead(fcn(init_cfg=init, norm_cfg=None), {"name": "softmax"})
    kept = {"type": "Constant", "val": 0.25, "layer": "Conv2d"}
    assert model.decode_head.init_cfg == kept
    model.init_weights()
    plain = MODELS.build(fcn(init_cfg=init, norm_cfg=None))
    plain.init_weights()
    for block, expected in zip(model.decode_head.convs, plain.convs, strict=True):
        assert (block.conv.weight == 0.25).all()
        assert torch.equal(block.conv.weight, expected.conv.weight)
    assert (model.classifier.conv_seg.weight != 0.25).all()
    other = {"type": "Normal", "std": 0.5, "override": {"name": "conv_seg"}}
    with pytest.raises(UnsupportedHeadError, match="initialises conv_seg"):
        ClassifierHead(fcn(init_cfg=other), {"name": "softmax"})


@pytest.mark.parametrize("own_loss", [False, True])
@pytest.mark.parametrize("wrong", ["class", "missing", "sizes", "batch", "type"])
def test_labels_that_do_not_fit_are_refused(wrong: str, own_loss: bool) -> None:
    settings = OWN_LOSSES["class weights"] if own_loss else {}
    model = ClassifierHead(fcn(**settings), {"name": "softmax"})
    batch, error, sentence = samples(), LossInputError, ""
    if wrong == "class":
        batch[1].gt_sem_seg.data[0, 0, 0] = CLASSES
        error, sentence = LabelRangeError, "1 label pixels are neither"
    if wrong == "missing":
        batch[0] = SegDataSample()
        sentence = "1 of 2 images have no labels"
    if wrong == "sizes":
        batch[1] = samples(16)[1]
        sentence = "crop or pad"
    if wrong == "batch":
        batch = batch[:1]
        sentence = "1 label maps for 2 images"
    if wrong == "type":
        batch[0].gt_sem_seg.data = batch[0].gt_sem_seg.data.float()
        batch[1].gt_sem_seg.data = batch[1].gt_sem_seg.data.float()
        sentence = "labels are torch.float32"
    with pytest.raises(error, match=sentence):
        model.loss(maps(), batch, None)
