"""Every network equals the authors' released one, as far as the reference values can tell."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from references import GOLDEN, PROTOCOL

from experiments.parity.model import (
    ARRAYS,
    CLASSIFIER_PRESETS,
    TOLERANCE,
    compare,
    fill_by_rule,
    model_parity,
)
from experiments.parity.reference_network import MODEL_FILES, NetworkReference, reference_values
from ssa.errors import SsaError
from ssa.meta import meta_device
from ssa.models import (
    build_segmentor,
    build_segmentor_config,
    load_model_card,
)
from ssa.released.conversion import map_segmentor_keys

MODELS = GOLDEN / "models"
MASK_CLASSIFIERS = ("pem_r50", "yoso_r50")
CASES = [path.stem for path in sorted(MODELS.glob("*.npz")) if path.stem not in MASK_CLASSIFIERS]
#: networks whose attention saturates under random weights, so that float32 does not decide
CHAOTIC = ("cgrseg", "ocrnet")

#: large ones; what they share with others is covered by those
SLOW = ("vit_adapter", "upernet_swin_b", "upernet_swin_l", "cgrseg_l", "ocrnet", "segformer_b5_ssa")


def split(case: str) -> tuple[str, str]:
    model, classifier = case.rsplit("_", 1)
    return model, classifier


def test_all_25_references_are_here():
    assert len(CASES) == 25


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=pytest.mark.slow) if case.startswith(SLOW) else case
        for case in CASES
    ],
)
def test_network_equals_the_released_one(case):
    model, classifier = split(case)
    result = model_parity(model, classifier, MODELS / f"{case}.npz")
    assert result["missing"] == []
    assert result["unexpected"] == []
    assert result["ok"], result
    if not model.startswith(CHAOTIC):
        assert result["max_error"] <= TOLERANCE
        assert "limit" not in result
    json.dumps(result)  # one line on the terminal


@pytest.mark.parametrize("case", CASES)
def test_every_released_key_is_mapped_or_declared_unused(case):
    """Both directions, without weights: on the meta device."""
    model, classifier = split(case)
    facts = json.loads((MODELS / f"{case}.json").read_text())
    card = load_model_card(MODEL_FILES / f"{model}.yaml")
    choice = {"classifier": CLASSIFIER_PRESETS[classifier], "num_classes": 150}
    mapping = map_segmentor_keys(facts["state_dict"], build_segmentor_config(card, **choice))
    with meta_device():
        ours = {
            key: list(value.shape)
            for key, value in build_segmentor(card, **choice).state_dict().items()
        }
    assert set(mapping.ours.values()) == set(ours)
    assert set(mapping.ours) | set(mapping.unused) == set(facts["state_dict"])
    assert all(facts["state_dict"][key] == ours[name] for key, name in mapping.ours.items())
    # nothing that learns may be dropped: only buffers, and the weights of a loss nobody computes
    endings = ("attention_biases", "attention_bias_idxs", "attention_bias_idxs_seg", "empty_weight")
    assert all(key.endswith(endings) for key in mapping.unused)


#: model file → name in spec/protocol.json, for those that were renamed here
RENAMED = {"seaformer_b": "SeaFormer-B", "seaformer_l": "SeaFormer-L", "cgrseg_l": "CGRSeg-L"}


@pytest.mark.parametrize("model", RENAMED)
@pytest.mark.parametrize("classifier", CLASSIFIER_PRESETS)
def test_optimiser_settings_by_name_pick_the_same_parameters(model, classifier):
    """``norm: {decay_mult: 0}`` and the like, as mmengine matches them: the longest key first."""
    settings = json.loads(PROTOCOL.read_text())["models"][RENAMED[model]]["ADE20K"]["paramwise"]
    keys = sorted(sorted(settings["custom_keys"]), key=len, reverse=True)
    facts = json.loads((MODELS / f"{model}_{classifier}.json").read_text())
    config = build_segmentor_config(
        load_model_card(MODEL_FILES / f"{model}.yaml"),
        classifier=CLASSIFIER_PRESETS[classifier],
        num_classes=150,
    )
    picked = set()
    for released, ours in map_segmentor_keys(facts["state_dict"], config).ours.items():
        found = [next((key for key in keys if key in name), None) for name in (released, ours)]
        assert found[0] == found[1], (released, ours)
        picked.add(found[0])
    assert "head" in picked
    assert picked & {"norm", "pos_emb"}


@pytest.mark.parametrize(
    "change",
    [{"salt": "x"}, {"seed": 1}, {"size": 96}],
    ids=["other weights", "other image", "other size"],
)
def test_another_network_or_image_is_not_equal(change):
    result = model_parity("seaformer_b", "ssa", MODELS / "seaformer_b_ssa.npz", **change)
    assert not result["ok"]
    assert result["max_error"] > 0.01


def test_a_chaotic_network_with_a_wrong_weight_is_not_equal():
    """The wider limit of networks that amplify rounding still sees one changed parameter."""
    reference = NetworkReference.read(MODELS / "ocrnet_hr48_softmax.npz", ARRAYS)
    card = load_model_card(MODEL_FILES / "ocrnet_hr48.yaml")
    choice = {"classifier": {"name": "softmax"}, "num_classes": 150}
    network = build_segmentor(card, **choice).eval()
    config = build_segmentor_config(card, **choice)
    fill_by_rule(network, config, reference.shapes, reference.salt)
    with torch.no_grad():
        network.backbone.stage4[2].fuse_layers[0][3][1].running_var.mul_(1.2)
    assert not compare(network, reference.image, reference.arrays)["ok"]


def test_the_rule_is_the_documented_one():
    key = "backbone.layer.weight"
    generator = np.random.default_rng(__import__("zlib").crc32(("salt" + key).encode()))
    normal = generator.standard_normal((4, 3, 2, 2)).astype(np.float32)
    np.testing.assert_allclose(reference_values(key, (4, 3, 2, 2), "salt"), normal / 12**0.5)
    assert reference_values("x.num_batches_tracked", ()).item() == 0
    assert (reference_values("x.running_var", (50,)) >= 1).all()
    assert abs(reference_values("x.weight", (500,)).mean() - 1) < 0.05
    assert abs(reference_values("x.bias", (500,)).mean()) < 0.05


def test_errors_name_the_file_and_the_way_out(tmp_path):
    with pytest.raises(SsaError, match=r"Cannot read reference values from .*none\.npz"):
        model_parity("seaformer_b", "ssa", tmp_path / "none.npz")
    with pytest.raises(SsaError, match="There is no model file"):
        model_parity("seaformer_x", "ssa", MODELS / "seaformer_b_ssa.npz")
    with pytest.raises(SsaError, match="no reference values for the classifier 'cac'"):
        model_parity("seaformer_b", "cac", MODELS / "seaformer_b_ssa.npz")
