"""A profile that starts from pretrained files: blocked without them, or from scratch, said so."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml

from experiments.declare.load import OWN, load_registry
from experiments.declare.run_spec import RunSpec
from experiments.plan.request import without_weights
from experiments.plan.resolve import Blocked, Resolver
from experiments.store.workspace import Workspace
from experiments.train.pretrained import PretrainedHook
from ssa.errors import SsaError
from ssa.models import build_segmentor
from ssa.released.manifest import sha256_of


def pretrained_profile(folder: Path) -> Path:
    document = yaml.safe_load((OWN / "profiles" / "smoke.yaml").read_text())
    document |= {"name": "pretrained"}
    document["training"]["from_scratch"] = False
    (folder / "profiles").mkdir(parents=True)
    (folder / "profiles" / "pretrained.yaml").write_text(yaml.safe_dump(document))
    return folder


def test_missing_weights_block_the_run_with_where_to_get_them(tmp_path: Path) -> None:
    registry = load_registry([pretrained_profile(tmp_path / "registry")])
    workspace = Workspace(results=tmp_path / "results", data_root=tmp_path / "data")
    table = registry.table("table8")
    resolver = Resolver(registry, registry.profile("pretrained"), workspace)
    blocked = resolver.resolve(table, table.rows[0], 0)
    assert isinstance(blocked, Blocked)
    assert "https://" in blocked.reason
    assert str(workspace.weights) in blocked.reason
    assert "--from-scratch" in blocked.reason


def test_from_scratch_is_another_run_and_says_what_it_deviates_from(tmp_path: Path) -> None:
    registry = load_registry([pretrained_profile(tmp_path / "registry")])
    workspace = Workspace(results=tmp_path / "results", data_root=tmp_path / "data")
    table = registry.table("table8")
    profile, deviations = without_weights(registry.profile("pretrained"))
    spec = Resolver(registry, profile, workspace, deviations).resolve(table, table.rows[0], 0)
    assert isinstance(spec, RunSpec)
    assert spec.weights is None
    assert spec.deviations == ("from scratch, where pretrained starts from pretrained weights",)
    scratch = Resolver(registry, registry.profile("smoke"), workspace)
    plain = scratch.resolve(table, table.rows[0], 0)
    assert isinstance(plain, RunSpec)
    assert plain.run_id != spec.run_id
    assert plain.deviations == ()


def test_another_file_than_was_planned_is_refused(tmp_path: Path) -> None:
    """It may be exchanged between the plan, which takes its digest, and the run that loads it."""
    card = load_registry().models["seaformer_b"].model_dump()
    network = build_segmentor(card, classifier={"name": "softmax"}, num_classes=3, size="tiny")
    path = tmp_path / "weights.pth"
    torch.save(network.backbone.state_dict(), path)
    runner: Any = SimpleNamespace(iter=0, model=network)
    PretrainedHook("seaformer_b", str(path), sha256_of(path)).before_train(runner)
    with pytest.raises(SsaError, match="is another file than when the run was planned"):
        PretrainedHook("seaformer_b", str(path), "0" * 64).before_train(runner)
