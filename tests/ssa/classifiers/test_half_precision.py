"""Half precision: finite, and within the bounds that docs/method.md states of float32."""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ssa.classifiers import CLASSIFIERS, build_classifier
from ssa.classifiers.parts.position_encoding import SinusoidalPositionEncoding

METHOD = Path(__file__).resolve().parents[3] / "docs" / "method.md"
MEMORY = {"gmmseg": {"memory_size": 32}, "dnc": {"memory_size": 32}}
BANK = {"bank_steps": 3, "bank_pixels": 64}
#: switches that change what is computed, beside every preset
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "ssa": [
        {"position_encoding": "sinusoidal"},
        {"position_encoding": "learnable"},
        {"spatial_softmax": "classes"},
        {"spatial_basis_only": True, "spatial_weight": 0},
        {"projection_layers": 1},
        {"cosine_scale": None},
        {"relation_scale": None},
        {"teacher_guide": "prediction"},
        {"class_split": False},
        {"spatial_adaptation": False, "spatial_weight": 0},
        {"semantic_adaptation": False, "semantic_weight": 0},
    ],
    "softmax": [
        {"coarse_ce_weight": 1, "dice_weight": 1},
        {"cosine_scale": 15.0, "ce_average": "valid"},
    ],
    "protoseg": [{"class_weights": (1.0, 2.0, 3.0)}, {"projection": "none"}],
    "gmmseg": [{"embedding_channels": None}],
}
WAYS = ("autocast", "cast")


def cases() -> Iterator[Any]:
    for name, cls in CLASSIFIERS.items():
        for preset in cls.Config.presets:
            yield pytest.param(name, preset, {}, id=f"{name}-{preset}")
        for change in VARIANTS.get(name, []):
            said = ",".join(f"{key}={value}" for key, value in change.items())
            yield pytest.param(name, None, change, id=f"{name}-{said}")


CASES = list(cases())
IMPROBABLE = [case for case in CASES if "class_weights" not in case.values[2]]


def bounds(row: str) -> dict[torch.dtype, tuple[float, ...]]:
    """The numbers in one row of docs/method.md's table, float16's and bfloat16's."""
    section = METHOD.read_text(encoding="utf-8").split("## Half precision")[1].split("\n## ")[0]
    (cells,) = re.findall(rf"^\| {row} \| ([^|]*) \| ([^|]*) \|$", section, re.M)
    numbers = [tuple(float(one) for one in re.findall(r"[\d.]+", cell)) for cell in cells]
    return dict(zip((torch.float16, torch.bfloat16), numbers, strict=True))


LOGITS = {dtype: numbers[0] for dtype, numbers in bounds("logits").items()}
#: percent of the term, and what is added to that
TERMS = bounds("loss terms")


def build(name: str, preset: str | None, change: dict, classes: int, channels: int) -> nn.Module:
    torch.manual_seed(0)
    size = BANK if (name, preset) == ("dnc", "released") else MEMORY.get(name, {})
    overrides = size | change
    settings: dict[str, Any] = {"overrides": overrides, "preset": preset, "dropout_ratio": 0}
    return build_classifier(name, channels, classes, **settings)


def decide(model: nn.Module, features: Tensor, way: str, dtype: torch.dtype) -> Tensor:
    if way == "autocast":
        with torch.autocast("cpu", dtype):
            return model(features)
    return copy.deepcopy(model).to(dtype)(features.to(dtype))


@pytest.mark.parametrize("dtype", LOGITS, ids=str)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("name", "preset", "change"), IMPROBABLE)
@torch.no_grad()
def test_decision_with_improbable_classes(
    name: str, preset: str | None, change: dict, way: str, dtype: torch.dtype
) -> None:
    """A coarse bias of −18 on 50 of 150 classes leaves them no mass in fp16."""
    model = build(name, preset, change, 150, 32).eval()
    bias = getattr(getattr(model, "conv_seg", None), "bias", None)
    if bias is not None and name in ("ssa", "cac"):
        bias[:50] = -18
    features = torch.randn(2, 32, 32, 32)
    full = model(features)
    for form in (model, model.deploy()):
        half = decide(form, features, way, dtype)
        assert half.isfinite().all()
        error = (half.float() - full).abs().max() / full.std()
        assert error < LOGITS[dtype], error


@pytest.mark.parametrize("dtype", LOGITS, ids=str)
@pytest.mark.parametrize(("name", "preset", "change"), IMPROBABLE)
@torch.no_grad()
def test_a_large_map_is_within_the_bounds(
    name: str, preset: str | None, change: dict, dtype: torch.dtype
) -> None:
    """512×1024 positions of one sign: sums of the features leave fp16, shares fall below it."""
    model = build(name, preset, change, 3, 4).eval()
    features = torch.randn(1, 4, 512, 1024) + 2
    full = model(features)
    half = decide(model, features, "cast", dtype)
    assert half.isfinite().all()
    # where the scores of all classes nearly tie, a norm over the classes decides by rounding
    error = (half.float() - full).abs().flatten().quantile(0.99)
    assert error / full.std() < LOGITS[dtype]


#: every preset in every way; switches beside them as the fault was seen
TRAINED = [
    pytest.param(*case.values, way, dtype, id=f"{case.id}-{way}-{dtype}")
    for case in CASES
    for way in WAYS
    for dtype in TERMS
    if not case.values[2] or (way, dtype) == ("autocast", torch.float16)
]


@pytest.mark.parametrize(("name", "preset", "change", "way", "dtype"), TRAINED)
def test_losses_of_a_large_batch(
    name: str, preset: str | None, change: dict, way: str, dtype: torch.dtype
) -> None:
    """Eight maps of 128×128, nearly all of one class: the sum of its features leaves fp16."""
    features, labels = batch()
    full = exact_terms(name, preset, tuple(change.items()))
    model = build(name, preset, change, 3, 4)
    values = features.clone().requires_grad_()
    if way == "autocast":
        with torch.autocast("cpu", dtype):
            half = terms_of(model, values, labels)
    else:
        half = terms_of(model.to(dtype), values.to(dtype), labels)
    assert half.keys() == full.keys()
    percent, added = TERMS[dtype]
    for term, value in half.items():
        assert value.isfinite(), term
        bound = percent / 100 * full[term].abs() + added
        assert (value - full[term]).abs() < bound, (term, value, full[term])
    torch.stack([value.float() for value in half.values()]).sum().backward()
    assert values.grad is not None
    assert values.grad.isfinite().all()
    assert values.grad.any()
    for key, parameter in model.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), key
    for key, buffer in model.named_buffers():
        assert buffer.isfinite().all(), key


@functools.cache
def exact_terms(name: str, preset: str | None, change: tuple) -> dict[str, Tensor]:
    terms = terms_of(build(name, preset, dict(change), 3, 4), *batch())
    return {term: value.detach() for term, value in terms.items()}


def batch() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    labels = torch.zeros(8, 128, 128, dtype=torch.long)
    labels[:, :8], labels[:, 8:12], labels[0, 12:20] = 1, 255, 2
    return torch.randn(8, 4, 128, 128) + 8, labels


def terms_of(model: nn.Module, features: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Terms of the second step: the first has moved what the classifier remembers."""
    torch.manual_seed(2)
    with torch.no_grad():
        model.loss(features, labels)
    return model.loss(features, labels)


def test_the_bounds_are_read_from_the_documentation() -> None:
    assert set(LOGITS) == set(TERMS) == {torch.float16, torch.bfloat16}
    assert all(0 < bound <= 0.3 for bound in LOGITS.values())
    assert all(0 < percent <= 10 and 0 < added <= 0.1 for percent, added in TERMS.values())


@pytest.mark.parametrize("dtype", LOGITS, ids=str)
def test_sinusoids_of_a_long_side_stay_those_of_float32(dtype: torch.dtype) -> None:
    """bfloat16 counts exactly to 256, so positions of a longer side coincided."""
    encoding = SinusoidalPositionEncoding(32)
    features = torch.zeros(1, 32, 3, 1000)
    exact = encoding(features)
    half = encoding(features.to(dtype))
    assert half.dtype == dtype
    torch.testing.assert_close(half, exact.to(dtype), rtol=0, atol=0)
