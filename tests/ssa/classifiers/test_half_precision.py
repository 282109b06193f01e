"""Half precision: finite, and within the bounds that docs/method.md states of float32."""

from __future__ import annotations

import copy

import pytest
import torch

from ssa.classifiers import CLASSIFIERS, build_classifier

SMALL = {"gmmseg": {"memory_size": 32}, "dnc": {"memory_size": 32}}
#: largest difference of the logits from float32, over their standard deviation
BOUNDS = {torch.float16: 0.05, torch.bfloat16: 0.3}


def build(name: str, classes: int, channels: int = 32) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_classifier(name, channels, classes, overrides=SMALL.get(name), dropout_ratio=0)


@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
@pytest.mark.parametrize("way", ["autocast", "cast"])
@pytest.mark.parametrize("name", CLASSIFIERS)
@torch.no_grad()
def test_decision_with_improbable_classes(name: str, way: str, dtype: torch.dtype) -> None:
    """A coarse bias of −18 on 50 of 150 classes leaves them no mass in fp16."""
    model = build(name, 150).eval()
    if name in ("ssa", "cac"):
        model.conv_seg.bias[:50] = -18
    features = torch.randn(2, 32, 32, 32)
    full = model(features)
    if way == "autocast":
        with torch.autocast("cpu", dtype):
            half = model(features)
    else:
        half = copy.deepcopy(model).to(dtype)(features.to(dtype))
    assert half.isfinite().all()
    error = (half.float() - full).abs().max() / full.std()
    assert error < BOUNDS[dtype], error


@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
@pytest.mark.parametrize("name", CLASSIFIERS)
@torch.no_grad()
def test_a_large_map_is_finite(name: str, dtype: torch.dtype) -> None:
    model = build(name, 2, 8).eval().to(dtype)
    assert model(torch.randn(1, 8, 512, 1024).to(dtype)).isfinite().all()


@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
@pytest.mark.parametrize("way", ["autocast", "cast"])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_losses_of_a_large_batch(name: str, way: str, dtype: torch.dtype) -> None:
    """Maps of 128×128 with one class: its sum of features exceeds fp16."""
    features = (torch.randn(2, 8, 128, 128) + 8).requires_grad_()
    labels = torch.zeros(2, 128, 128, dtype=torch.long)
    labels[:, :8] = 1
    full = build(name, 3, 8).loss(features, labels)
    model = build(name, 3, 8)
    if way == "autocast":
        with torch.autocast("cpu", dtype):
            half = model.loss(features, labels)
    else:
        half = model.to(dtype).loss(features.to(dtype), labels)
    assert half.keys() == full.keys()
    for term, value in half.items():
        assert value.isfinite(), term
        assert (value - full[term]).abs() < 0.1 * full[term].abs() + 0.1, term
    torch.stack([value.float() for value in half.values()]).sum().backward()
    assert features.grad.isfinite().all()
