"""Small mask classifiers."""

from pathlib import Path

import pytest
import torch

from ssa.models import build_segmentor, load_model_card

MODELS = Path(__file__).resolve().parents[3] / "experiments" / "models"


@pytest.fixture
def build():
    """The tiny size of a model card, initialised as the trainer does."""

    def make(name, num_classes=5, seed=0, size="tiny"):
        if "maskformer" in name or "mask2former" in name:
            pytest.importorskip("transformers", reason="pip install transformers")
        torch.manual_seed(seed)
        card = load_model_card(MODELS / f"{name}.yaml")
        network = build_segmentor(
            card, classifier={"name": "none"}, num_classes=num_classes, size=size
        )
        network.init_weights()
        return network

    return make
