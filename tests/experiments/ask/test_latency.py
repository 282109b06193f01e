"""The latency benchmark: interleaved, deployed, with the paper's ratio beside ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.latency import Spread, deployed_network, measure, reported_latency
from benchmarks.record import read
from ssa.errors import SsaError
from ssa.models import build_segmentor, load_model_card

ROOT = Path(__file__).resolve().parents[3]


def card(name: str) -> dict:
    return load_model_card(ROOT / "experiments" / "models" / f"{name}.yaml")


def test_record_holds_what_a_comparison_needs():
    found = measure(
        card("seaformer_l"), size=64, warmup=1, rounds=4, model_size="tiny", num_classes=7
    )
    for spread in (found.baseline_ms, found.method_ms, found.ratio):
        assert 0 < spread.lower_quartile <= spread.median <= spread.upper_quartile
    assert (found.size, found.dtype, found.rounds) == (64, "float32", 4)
    assert found.device
    assert found.reported_ratio == pytest.approx(29.9 / 29.4)


def test_a_mask_classifier_is_measured_against_another_network():
    found = measure(
        card("yoso_r50"),
        against=card("cgrseg_b"),
        size=64,
        warmup=1,
        rounds=3,
        model_size="tiny",
        num_classes=7,
    )
    assert (found.classifier, found.baseline) == ("none", "cgrseg_b softmax")
    assert found.reported_ratio == pytest.approx(28.3 / 36.0)
    with pytest.raises(SsaError, match="--against"):
        measure(card("yoso_r50"), model_size="tiny")


def test_a_rival_is_measured_against_softmax():
    found = measure(
        card("segnext_t"), classifier="cac", size=64, warmup=1, rounds=3, model_size="tiny"
    )
    assert (found.classifier, found.baseline) == ("cac", "segnext_t softmax")
    assert found.reported_ratio is None


def test_reported_latencies_are_the_papers():
    assert reported_latency("seaformer_l", "softmax") == 29.4
    assert reported_latency("seaformer_l", "ssa") == 29.9
    assert reported_latency("yoso_r50", "none") == 28.3
    assert reported_latency("upernet_swin_b", "softmax") is None


@torch.no_grad()
def test_the_deployed_network_gives_the_same_logits_without_what_training_needs():
    torch.manual_seed(0)
    deployed = deployed_network(card("upernet_swin_t"), "ssa", num_classes=7, size="tiny")
    whole = build_segmentor(
        card("upernet_swin_t"), classifier={"name": "ssa"}, num_classes=7, size="tiny"
    ).eval()
    assert not any("teacher" in key or "auxiliary" in key for key in deployed.state_dict())
    assert any("teacher" in key for key in whole.state_dict())
    folded = deployed.decode_head.classifier
    deployed.load_state_dict(whole.state_dict(), strict=False)
    deployed.decode_head.classifier = whole.decode_head.classifier.deploy()
    assert type(folded) is type(deployed.decode_head.classifier)
    image = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(
        deployed(image, mode="tensor"), whole(image, mode="tensor"), rtol=1e-4, atol=1e-4
    )


def test_quartiles():
    spread = Spread.of([1.0, 2.0, 3.0])
    assert (spread.lower_quartile, spread.median, spread.upper_quartile) == (1.0, 2.0, 3.0)


def test_errors_are_sentences():
    with pytest.raises(SsaError, match="give at least 2"):
        measure(card("seaformer_l"), rounds=1)
    with pytest.raises(SsaError, match="Did you mean 'float32'"):
        measure(card("seaformer_l"), dtype="float3")
    if not torch.cuda.is_available():
        with pytest.raises(SsaError, match="no CUDA device"):
            measure(card("seaformer_l"), device="cuda")


@pytest.mark.slow
def test_command_writes_a_record(tmp_path):
    command = [sys.executable, "-m", "benchmarks.latency", "seaformer_b", "--out", str(tmp_path)]
    options = ["--size", "64", "--rounds", "3", "--warmup", "1", "--device", "cpu"]
    subprocess.run([*command, *options], cwd=ROOT, check=True, capture_output=True)
    record = read(tmp_path / "latency_seaformer_b_cpu_float32.json")
    assert record.details["model"] == "seaformer_b"
    ratio, milliseconds, _ = record.figures
    assert ratio.unit == "×"
    assert ratio.beside == "seaformer_b softmax"
    assert ratio.value == record.details["ratio"]["median"] > 0
    assert milliseconds.unit == "ms"
    wrong = subprocess.run(
        [*command[:3], "seaformer_x", *options], cwd=ROOT, check=False, capture_output=True
    )
    assert wrong.returncode == 1
    assert b"Did you mean" in wrong.stderr
