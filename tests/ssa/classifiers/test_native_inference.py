"""The C path of deployed inference equals the PyTorch path, which stays the reference."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ssa.classifiers import build_classifier
from ssa.losses import native

OFF = {"teacher": False, "response_weight": 0, "semantic_weight": 0, "spatial_weight": 0}
SWITCHES: dict[str, dict[str, Any]] = {
    "full": {},
    "inner product": {"cosine_scale": None},
    "one layer": {"projection_layers": 1},
    "softmax over classes": {"spatial_softmax": "classes"},
    "sinusoidal": {"position_encoding": "sinusoidal"},
    "learnable": {"position_encoding": "learnable"},
    "semantic alone": {**OFF, "spatial_adaptation": False},
    "spatial alone": {**OFF, "semantic_adaptation": False},
    "basis alone": {**OFF, "spatial_basis_only": True, "semantic_adaptation": False},
    "no output projection": {"output_projection": False},
    "no coarse bias": {"coarse_bias": False},
}
#: channels, classes, images, height, width
SIZES = {
    "aligned": (24, 16, 2, 32, 32),
    "odd": (13, 19, 3, 9, 37),
    "wide": (7, 3, 1, 3, 500),
    "one cell": (8, 171, 2, 1, 1),
}

needs_compiler = pytest.mark.skipif(
    native.kernel_library(kernel="adapted_inference") is None,
    reason="no C compiler: apt-get install gcc libc6-dev",
)


def deployed(switches: dict[str, Any], channels: int, classes: int) -> Any:
    torch.manual_seed(0)
    classifier = build_classifier("ssa", channels, classes, overrides=switches)
    with torch.no_grad():
        classifier.conv_seg.weight.normal_(std=3 / channels**0.5)  # a coarse mask that decides
    return classifier.deploy()


@needs_compiler
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("switches", SWITCHES)
def test_native_inference_equals_pytorch(
    switches: str, size: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    channels, classes, *shape = SIZES[size]
    model = deployed(SWITCHES[switches], channels, classes)
    features = torch.randn(shape[0], channels, *shape[1:])
    with torch.no_grad():
        by_kernel = model(features)
        assert model._native_weights is not None  # the kernel did run
        monkeypatch.setenv("SSA_NATIVE", "0")
        torch.testing.assert_close(by_kernel, model(features), rtol=2e-5, atol=5e-5)


@needs_compiler
def test_native_inference_does_not_depend_on_threads_and_follows_loaded_weights() -> None:
    model, other = deployed({}, 24, 20), deployed({}, 24, 20)
    features = torch.randn(2, 24, 64, 64)
    threads = torch.get_num_threads()
    try:
        with torch.no_grad():
            torch.set_num_threads(1)
            alone = model(features)
            torch.set_num_threads(4)
            assert torch.equal(model(features), alone)
            for parameter in other.parameters():
                parameter.mul_(1.5)
            model.load_state_dict(other.state_dict())
            torch.testing.assert_close(model(features), other(features))
            assert not torch.allclose(model(features), alone)
    finally:
        torch.set_num_threads(threads)


def test_gradients_and_double_precision_take_the_pytorch_path() -> None:
    model = deployed({}, 8, 5)
    features = torch.randn(1, 8, 6, 6, requires_grad=True)
    model(features).sum().backward()
    assert features.grad is not None
    with torch.no_grad():
        assert model.double()(features.double()).dtype == torch.float64
    assert model._native_weights is None


@pytest.mark.parametrize("name", ["dnc", "gmmseg", "protoseg"])
@pytest.mark.parametrize("preset", ["released", "paper"])
def test_rivals_decide_chunks_as_they_decide_the_whole(name: str, preset: str) -> None:
    torch.manual_seed(0)
    model = build_classifier(name, 16, 7, preset=preset).deploy()
    features = torch.randn(2, 16, 20, 20)  # 400 positions: a whole chunk and a part
    with torch.no_grad():
        chunks = model(features)
    # GMMSeg subtracts large densities from each other; a product rounds by the number of its rows
    tolerance = 1e-3 if name == "gmmseg" else 1e-5
    whole = model(features).detach()
    torch.testing.assert_close(chunks, whole, rtol=tolerance, atol=tolerance)
