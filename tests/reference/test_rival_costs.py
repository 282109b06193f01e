"""The printed costs of Tables 2 and 3, counted on our networks."""

from pathlib import Path

import pytest

from experiments.judge.complexity import complexity
from ssa.models import load_model_card

MODELS = Path(__file__).resolve().parents[2] / "experiments" / "models"


def count(model, classifier, size=512):
    card = load_model_card(MODELS / f"{model}.yaml")
    return complexity(card, {"name": classifier}, size=size)


@pytest.mark.parametrize(
    ("model", "classifier", "printed"),
    [
        ("fcn_r101", "dnc", 278.5),
        ("fcn_r101", "protoseg", 278.5),
        ("upernet_swin_b", "dnc", 308.6),
        ("upernet_swin_b", "gmmseg", 302.3),
    ],
)
def test_rivals_cost_what_table_2_prints_within_3_percent(model, classifier, printed):
    assert count(model, classifier).macs_g == pytest.approx(printed, rel=0.03)


def test_dnc_costs_exactly_nine_more_products_than_softmax():
    softmax, dnc = (count("fcn_r101", name).macs_g for name in ("softmax", "dnc"))
    bias = 150 * 64 * 64 / 1e9
    assert dnc - softmax == pytest.approx(9 * 150 * 512 * 64 * 64 / 1e9 - bias, abs=1e-3)


@pytest.mark.parametrize(
    ("model", "size", "printed"), [("yoso_r50", 512, 37.3), ("pem_r50", 640, 46.9)]
)
def test_mask_classifiers_cost_what_table_3_prints(model, size, printed):
    assert count(model, "none", size).macs_all_g == pytest.approx(printed, rel=0.03)


@pytest.mark.parametrize(
    ("model", "printed"), [("maskformer_r50", 55.1), ("mask2former_r50", 70.1)]
)
def test_printed_costs_of_two_include_semantic_inference_at_full_resolution(model, printed):
    pytest.importorskip("transformers", reason="pip install transformers")
    products = count(model, "none").macs_all_g
    inference = 150 * 100 * (512**2 - 128**2) / 1e9  # classes × queries × positions
    assert products == pytest.approx(printed, rel=0.08)
    assert products + inference == pytest.approx(printed, rel=0.01)
