"""YOSO and PEM as whole networks against their authors' code."""

import shutil

import numpy as np
import pytest
from references import GOLDEN

from experiments.parity.mask_model import PREFIXES, mask_model_parity, our_key
from ssa.errors import SsaError, UnknownNameError

MODELS = GOLDEN / "models"


@pytest.mark.parametrize(("model", "params"), [("yoso_r50", 42_045_631), ("pem_r50", 35_513_128)])
def test_network_equals_the_released_code(model, params):
    report = mask_model_parity(model, MODELS / f"{model}.npz")
    assert report["ok"], report
    assert report["params"] == params


def test_a_shifted_output_is_noticed(tmp_path):
    arrays = dict(np.load(MODELS / "yoso_r50.npz"))
    arrays["pred_masks"][0, 3, 2, 2] += 0.01 * arrays["pred_masks_stat"][1]
    np.savez(tmp_path / "yoso_r50.npz", **arrays)
    shutil.copy(MODELS / "yoso_r50.json", tmp_path)
    report = mask_model_parity("yoso_r50", tmp_path / "yoso_r50.npz")
    assert not report["ok"]
    assert report["errors"]["pred_masks"] > 5e-3
    assert report["errors"]["pred_logits"] < 1e-4


def test_names_of_the_backbone():
    pairs = {
        "backbone.stem.conv1.weight": "backbone.conv1.weight",
        "backbone.stem.conv1.norm.running_var": "backbone.bn1.running_var",
        "backbone.res2.0.shortcut.norm.bias": "backbone.layer1.0.downsample.1.bias",
        "backbone.res5.2.conv3.norm.weight": "backbone.layer4.2.bn3.weight",
        "criterion.empty_weight": None,
    }
    for released, ours in pairs.items():
        assert {our_key(model, released) for model in PREFIXES} == {ours}


def test_mistakes_of_a_user_are_sentences(tmp_path):
    with pytest.raises(UnknownNameError, match="Did you mean 'yoso_r50'"):
        mask_model_parity("yoso_r5", tmp_path)
    with pytest.raises(SsaError, match="Cannot read"):
        mask_model_parity("pem_r50", tmp_path / "absent.npz")
