"""The classes that evaluation counts are those of mmsegmentation's own prediction."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from lab import write_registry
from mmengine.config import ConfigDict
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from experiments.declare.load import load_registry
from experiments.declare.run_spec import RunSpec
from experiments.plan.resolve import Resolver
from experiments.store.workspace import Workspace
from experiments.train.components import register_components
from experiments.train.config import model_config
from experiments.train.predictions import classified


def segmentor(mode: str, tmp_path: Path) -> Any:
    from mmengine.registry import init_default_scope

    registry = load_registry([write_registry(tmp_path / "registry")])
    resolver = Resolver(registry, registry.profile("smoke"), Workspace(tmp_path, tmp_path))
    table = registry.table("pair")
    spec = resolver.resolve(table, table.rows[0], 0)
    assert isinstance(spec, RunSpec), spec
    if mode == "slide":
        sliding = {"mode": "slide", "crop": (64, 64), "stride": (32, 32)}
        spec = spec.model_copy(update={"evaluation": spec.evaluation.model_copy(update=sliding)})
    register_components()
    init_default_scope("mmseg")
    torch.manual_seed(0)
    return MODELS.build(ConfigDict(model_config(spec))).eval()


def batch(size: tuple[int, int], read: tuple[int, int], padding: tuple[int, ...]) -> dict[str, Any]:
    """Two images of (h, w) pixels, with padding, that were read with ``read``."""
    images = [torch.randint(0, 256, (3, *size), dtype=torch.uint8) for _ in range(2)]
    place = {"ori_shape": read, "img_shape": size, "pad_shape": size, "padding_size": padding}
    samples = [SegDataSample(metainfo=place) for _ in images]
    for sample in samples:
        sample.gt_sem_seg = PixelData(data=torch.zeros(1, *read, dtype=torch.uint8))
    return {"inputs": images, "data_samples": samples}


@pytest.mark.parametrize("mode", ["whole", "slide"])
@pytest.mark.parametrize(
    ("size", "read", "padding"),
    [
        ((96, 96), (96, 96), (0, 0, 0, 0)),
        ((96, 128), (50, 61), (0, 0, 0, 0)),
        ((96, 128), (80, 120), (3, 5, 7, 9)),
    ],
    ids=["as read", "resized", "padded"],
)
@torch.no_grad()
def test_classes_are_those_of_val_step(
    mode: str,
    size: tuple[int, int],
    read: tuple[int, int],
    padding: tuple[int, ...],
    tmp_path: Path,
) -> None:
    model = segmentor(mode, tmp_path)
    given = batch(size, read, padding)
    torch.manual_seed(1)  # the head draws its bases
    expected = model.val_step(copy.deepcopy(given))
    torch.manual_seed(1)
    samples = classified(model, given)
    for sample, other in zip(samples, expected):
        classes = sample.pred_sem_seg.data
        assert classes.shape == (1, *read)
        assert classes.unique().numel() > 1
        assert torch.equal(classes, other.pred_sem_seg.data)
        assert torch.equal(sample.gt_sem_seg.data, other.gt_sem_seg.data)


@torch.no_grad()
def test_of_equal_logits_the_first_class_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = segmentor("whole", tmp_path)
    logits = torch.zeros(2, 16, 96, 96)
    logits[:, 5:9, 10:20] = 1.0
    monkeypatch.setattr(model, "inference", lambda inputs, places: logits)
    for sample in classified(model, batch((96, 96), (96, 96), (0, 0, 0, 0))):
        assert sample.pred_sem_seg.data[0, 10:20].unique().tolist() == [5]
        assert sample.pred_sem_seg.data[0, :10].unique().tolist() == [0]
