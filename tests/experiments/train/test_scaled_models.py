"""The scaled-down networks: every size of a card builds, and no two networks shrink to the same."""

from __future__ import annotations

import json

import pytest

from experiments.declare.load import load_registry
from ssa.models import build_segmentor, build_segmentor_config

CARDS = load_registry().models
SIZES = ("tiny", "small")


def classifier_of(name: str) -> dict[str, str]:
    return {"name": "softmax" if CARDS[name].pixel_classifier else "none"}


@pytest.mark.parametrize("size", SIZES)
def test_no_two_networks_shrink_to_the_same(size: str) -> None:
    pixel = [name for name, card in CARDS.items() if card.pixel_classifier]
    configs = {
        name: json.dumps(
            build_segmentor_config(
                CARDS[name].model_dump(),
                classifier=classifier_of(name),
                num_classes=16,
                size=size,
            ),
            sort_keys=True,
        )
        for name in pixel
    }
    assert len(set(configs.values())) == len(pixel)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", CARDS)
def test_every_size_builds(name: str, size: str) -> None:
    network = build_segmentor(
        CARDS[name].model_dump(), classifier=classifier_of(name), num_classes=16, size=size
    )
    assert sum(parameter.numel() for parameter in network.parameters()) < 6_000_000
