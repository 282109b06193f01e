"""Images of several sizes in one batch of an evaluation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from lab import write_registry
from PIL import Image

from experiments.declare.load import load_registry
from experiments.declare.profile import DataChoice
from experiments.declare.run_spec import RunSpec
from experiments.plan.resolve import Resolver
from experiments.store.areas import ImageAreas
from experiments.store.workspace import Workspace
from experiments.train.components import register_components
from experiments.train.config import model_config
from experiments.train.loops import like_sized
from experiments.train.rescore import _runner
from ssa.datasets.base import register
from ssa.datasets.folder import describe
from ssa.datasets.verify import verify

SIZES = [(64, 96), (96, 64), (64, 96), (48, 80), (96, 64)]


def test_a_batch_falls_into_parts_of_one_size() -> None:
    images = [torch.zeros(3, *size) for size in SIZES]
    batch = {"inputs": images, "data_samples": list("abcde")}
    parts = like_sized(batch)
    assert ["".join(part["data_samples"]) for part in parts] == ["ac", "be", "d"]
    assert all(len({image.shape for image in part["inputs"]}) == 1 for part in parts)
    alike = {"inputs": images[::2][:2], "data_samples": ["a", "c"]}
    assert like_sized(alike)[0] is alike


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunSpec, Path]:
    folder = tmp_path_factory.mktemp("unlike")
    root, generator = folder / "sizes", np.random.default_rng(0)
    for split in ("train", "val"):
        for index, size in enumerate(SIZES):
            for kind, picture in (
                ("images", generator.integers(0, 256, (*size, 3), np.uint8)),
                ("annotations", generator.integers(0, 3, size, np.uint8)),
            ):
                path = root / kind / split / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(picture).save(path)
    (root / "dataset.json").write_text(
        json.dumps({"class_names": ["a", "b", "c"], "image_suffix": ".png"})
    )
    registry = load_registry([write_registry(folder / "registry")])
    profile = registry.profile("smoke").model_copy(update={"dataset": DataChoice(name="sizes")})
    resolver = Resolver(registry, profile, Workspace(folder / "results", folder))
    table = registry.table("others")
    resolved = resolver.resolve(table, table.rows[0], 0)
    assert isinstance(resolved, RunSpec), resolved
    assert verify("sizes", folder).ok
    register(describe(root))
    return resolved, root


def evaluated(spec: RunSpec, root: Path, work: Path, batch: int) -> ImageAreas:
    import mmseg.datasets  # noqa: F401
    from mmengine.config import ConfigDict
    from mmengine.registry import init_default_scope
    from mmseg.registry import MODELS

    register_components()
    init_default_scope("mmseg")
    torch.manual_seed(0)
    network = MODELS.build(ConfigDict(model_config(spec)))
    evaluation = spec.evaluation.model_copy(update={"batch": batch})
    changed = spec.model_copy(update={"evaluation": evaluation})
    runner = _runner(changed, network, root, str(work))
    runner.val()
    areas: ImageAreas = runner.val_loop.evaluator.metrics[0].areas
    return areas


def test_images_of_several_sizes_are_scored_as_each_alone(
    spec: tuple[RunSpec, Path], tmp_path: Path
) -> None:
    together = evaluated(*spec, tmp_path / "a", batch=4)
    alone = evaluated(*spec, tmp_path / "b", batch=1)
    assert together.names == alone.names == ("0", "1", "2", "3", "4")
    assert (together.labelled.sum(1) == [height * width for height, width in SIZES]).all()
    assert abs(together.predicted - alone.predicted).sum() <= 20, "but for ties in the argmax"
