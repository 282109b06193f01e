"""Any decode head of mmsegmentation's registry works behind ClassifierHead or is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mmengine.structures import PixelData
from mmseg.models import decode_heads
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from ssa.heads import ClassifierHead
from ssa.heads.classifier_head import UnsupportedHeadError, require_supported

BN = {"type": "BN"}
ONE: dict[str, Any] = {"in_channels": 16, "in_index": 3, "channels": 8}
FOUR: dict[str, Any] = {"in_channels": [16] * 4, "in_index": [0, 1, 2, 3], "channels": 8}
#: heads that work, with the smallest settings that build them
WORKS: dict[str, dict[str, Any]] = {
    "ANNHead": FOUR | {"in_channels": [16, 16], "in_index": [2, 3], "project_channels": 8},
    "APCHead": ONE | {"pool_scales": (1, 2)},
    "ASPPHead": ONE | {"dilations": (1, 2)},
    "DMHead": ONE | {"filter_sizes": (1, 3)},
    "DNLHead": ONE,
    "DepthwiseSeparableASPPHead": ONE
    | {"dilations": (1, 2), "c1_in_channels": 16, "c1_channels": 4},
    "DepthwiseSeparableFCNHead": ONE,
    "EMAHead": ONE | {"ema_channels": 8, "num_bases": 4, "num_stages": 2},
    "FCNHead": ONE,
    "FPNHead": FOUR | {"feature_strides": [4, 8, 16, 32]},
    "GCHead": ONE,
    "ISAHead": ONE | {"isa_channels": 4},
    "LightHamHead": FOUR | {"ham_channels": 8, "ham_kwargs": {"MD_R": 4}},
    "NLHead": ONE,
    "PSPHead": ONE | {"pool_scales": (1, 2)},
    "SETRUPHead": ONE | {"num_convs": 1},
    "SegformerHead": FOUR,
    "UPerHead": FOUR | {"pool_scales": (1, 2)},
}
#: refused, and the word that says why
REFUSED = {
    "DAHead": "predict|loss_by_feat",
    "DDRHead": "loss_by_feat",
    "EncHead": "predict|loss_by_feat",
    "IterativeDecodeHead": "loss_by_feat",
    "PIDHead": "loss_by_feat",
    "PointHead": "loss",
    "STDCHead": "loss_by_feat",
    "SideAdapterCLIPHead": "loss",
    "VPDDepthHead": "loss_by_feat",
}


def samples() -> list[SegDataSample]:
    made = []
    for seed in range(2):
        torch.manual_seed(seed)
        sample = SegDataSample()
        sample.gt_sem_seg = PixelData(data=torch.randint(0, 5, (1, 32, 32)))
        made.append(sample)
    return made


def maps() -> list[torch.Tensor]:
    torch.manual_seed(3)
    return [torch.randn(2, 16, 32 // 2**i, 32 // 2**i, requires_grad=True) for i in range(4)]


@pytest.mark.parametrize("classifier", ["softmax", "ssa"])
@pytest.mark.parametrize("name", WORKS)
def test_works(name: str, classifier: str) -> None:
    torch.manual_seed(0)
    config = {"type": name, "num_classes": 5, "norm_cfg": BN} | WORKS[name]
    if name == "LightHamHead":
        config["norm_cfg"] = {"type": "GN", "num_groups": 2}
    model = ClassifierHead(config, {"name": classifier})
    model.init_weights()
    inputs = maps()
    if name == "ISAHead":
        inputs[3] = torch.randn(2, 16, 8, 8, requires_grad=True)
    total = sum(model.loss(inputs, samples(), None).values())
    total.backward()
    assert total.isfinite()
    assert any(one.grad is not None and one.grad.any() for one in inputs)
    model.eval()
    assert model(inputs).shape[1] == 5


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_a_sentence(name: str) -> None:
    cls = getattr(decode_heads, name, None) or MODELS.get(name)
    head = cls.__new__(cls)
    with pytest.raises(UnsupportedHeadError, match=f"{name} cannot hold .*({REFUSED[name]})"):
        require_supported(head)


def fcn(**settings: Any) -> dict[str, Any]:
    return {
        "type": "FCNHead",
        "num_classes": 5,
        "norm_cfg": BN,
        "dropout_ratio": 0,
        **ONE,
    } | settings


CE = {"type": "CrossEntropyLoss"}
OWN_LOSSES = {
    "class weights": {"loss_decode": CE | {"class_weight": [1.0, 2.0, 3.0, 4.0, 5.0]}},
    "several": {"loss_decode": [CE, {"type": "DiceLoss", "loss_weight": 3.0}]},
    "valid pixels": {"loss_decode": CE | {"avg_non_ignore": True}},
    "sigmoid": {"loss_decode": CE | {"use_sigmoid": True}},
    "sampler": {"sampler": {"type": "OHEMPixelSampler", "thresh": 0.9, "min_kept": 10}},
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
    with pytest.raises(UnsupportedHeadError, match="loss or sampler of its own"):
        ClassifierHead(fcn(**settings), {"name": "ssa"})


@pytest.mark.parametrize("classifier", ["softmax", "ssa"])
def test_the_weight_of_the_wrapped_heads_loss_counts(classifier: str) -> None:
    totals = []
    for weight in (1.0, 0.4):
        torch.manual_seed(0)
        head = fcn(loss_decode=CE | {"loss_weight": weight})
        model = ClassifierHead(head, {"name": classifier})
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
    other = {"type": "Normal", "std": 0.5, "override": {"name": "conv_seg"}}
    with pytest.raises(UnsupportedHeadError, match="initialises conv_seg"):
        ClassifierHead(fcn(init_cfg=other), {"name": "softmax"})


def test_every_head_of_the_registry_is_accounted_for() -> None:
    exported = {
        name
        for name in decode_heads.__all__
        if isinstance(getattr(decode_heads, name), type)
        and issubclass(getattr(decode_heads, name), BaseDecodeHead)
        and name not in ("BaseDecodeHead", "BaseCascadeDecodeHead")
    }
    assert exported - set(WORKS) - set(REFUSED) == ELSEWHERE


#: works, but in its own test below or only with compiled operators or a backbone's dictionary
ELSEWHERE = {
    "CCHead",
    "DPTHead",
    "LRASPPHead",
    "OCRHead",
    "PSAHead",
    "SETRMLAHead",
    "SegmenterMaskTransformerHead",
}
