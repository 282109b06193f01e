"""A run on kept features has the result of one that computes them, to the last bit."""

from __future__ import annotations

from pathlib import Path

import pytest
from lab import Lab, Trainer, assert_clear, write_registry

from experiments.declare.load import load_registry

PROFILE = """
name: frozen
title: frozen
description: Head and classifier on features that are computed once.
dataset: {name: scenes, settings: {train: 8, val: 4}}
model: efficientnet_lite0
model_size: frozen
seeds: 1
loading: {cache_images: true}
training:
  iterations: 8
  batch: 4
  channels_last: true
  optimizer: {type: AdamW, lr: 0.002, weight_decay: 0.01, paramwise: {norm_decay_mult: 0.0}}
  schedule: {power: 0.9}
  augmentation:
    scale: [64, 64]
    ratio_range: [1.0, 1.0]
    crop: [64, 64]
    cat_max_ratio: 1.0
    photometric: false
evaluation: {interval: 4, batch: 4, scale: [64, 64]}
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A lab whose run found an empty store."""
    folder = tmp_path_factory.mktemp("frozen")
    registry = write_registry(folder / "registry")
    (registry / "profiles" / "frozen.yaml").write_text(PROFILE)
    made = Lab(folder / "results", registry)
    assert_clear(made.call("one", profile="frozen"), 0, "Baseline")
    return made


def test_a_run_on_kept_features_is_the_run_that_computed_them(
    lab: Lab, trainer: Trainer, tmp_path: Path
) -> None:
    empty = lab.record("softmax")
    kept = sorted((lab.results / "cache" / "features").rglob("*.maps"))
    assert 8 < len(kept) <= 2 * 8 + 4, "every image, its mirror image, and those that are scored"
    full = lab.blank(tmp_path / "full")
    assert_clear(full.call("one", profile="frozen"), 0, "Baseline")
    looked_up = sorted((full.results / "cache" / "features").rglob("*.maps"))
    assert [path.name for path in looked_up] == [path.name for path in kept], "nothing was new"
    none = Lab(tmp_path / "none", lab.registry)
    spec = none.plan("baseline", table="one", profile="frozen")
    assert trainer.train(none, spec) == 0, none.store.folder(spec.run_id).log.read_text()
    assert not (none.results / "cache" / "features").exists()
    for other in (full.record("softmax"), none.record("softmax")):
        assert other.run_id == empty.run_id
        assert other.result_digest == empty.result_digest
        assert other.curve == empty.curve


def test_damaged_features_are_never_used(lab: Lab, tmp_path: Path) -> None:
    spoilt = lab.blank(tmp_path / "spoilt")
    for path in (spoilt.results / "cache" / "features").rglob("*.maps"):
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))
    assert_clear(spoilt.call("one", profile="frozen"), 0, "Baseline")
    assert spoilt.record("softmax").result_digest == lab.record("softmax").result_digest


def test_its_code_is_the_runs_code(lab: Lab) -> None:
    code = lab.record("softmax").environment.code
    for name in ("frozen", "feature_store", "efficientnet_lite"):
        assert f"ssa.backbones.{name}" in code


def test_the_profile_looks_every_picture_up() -> None:
    """Nothing in its training draws other pictures than each image and its mirror image."""
    profile = load_registry().profile("ccp_frozen")
    assert profile.training is not None
    augmentation = profile.training.augmentation
    assert augmentation.ratio_range == (1.0, 1.0)
    assert augmentation.cat_max_ratio == 1.0
    assert not augmentation.photometric
    assert max(augmentation.scale) == augmentation.crop[0], "upright images, as all of ccp are"
    assert min(augmentation.scale) == augmentation.crop[1]
    assert profile.evaluation is not None
    assert profile.evaluation.scale == augmentation.scale
