"""Which splits of a user's data a run trains and scores on, and which it may not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from experiments.declare.load import load_registry
from experiments.declare.profile import DataChoice
from experiments.declare.run_spec import RunSpec
from experiments.plan.resolve import Blocked, Resolver
from experiments.store.workspace import Workspace
from experiments.train.config import Surroundings, runner_config
from ssa.datasets.verify import verify

SIZE = (8, 12)


def write(root: Path, masks: dict[str, list[int]], **description: Any) -> Path:
    """Splits of one image each, with a mask that holds these values."""
    for split, values in masks.items():
        for kind, picture, name in (
            ("images", np.full((*SIZE, 3), 128, np.uint8), "a.jpg"),
            ("annotations", np.resize(np.array(values, np.uint8), SIZE), "a.png"),
        ):
            folder = root / kind / split
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(folder / name)
    (root / "dataset.json").write_text(json.dumps({"class_names": ["road", "tree"]} | description))
    return root


def resolve(folder: Path, results: str = "results", **evaluation: Any) -> RunSpec | Blocked:
    """The first row of table8 in the smoke profile, on the data set ``folder``/yard."""
    registry = load_registry()
    profile = registry.profile("smoke")
    assert profile.evaluation is not None
    given = profile.evaluation.model_dump(exclude_unset=True) | evaluation
    changes = {
        "dataset": DataChoice(name="yard"),
        "evaluation": type(profile.evaluation)(**given),
    }
    workspace = Workspace(results=folder / results, data_root=folder)
    resolver = Resolver(registry, profile.model_copy(update=changes), workspace)
    table = registry.table("table8")
    return resolver.resolve(table, table.rows[0], 0)


ALL = {"train": [0, 1], "val": [0, 1], "test": [0, 1], "extra": [0, 1]}


def loaders(spec: RunSpec) -> tuple[str, str]:
    here = Path("nowhere")
    config = runner_config(spec, Surroundings(here, here, here, here))
    return tuple(config[f"{kind}_dataloader"]["dataset"]["split"] for kind in ("train", "val"))  # type: ignore[return-value]


def test_the_splits_that_a_data_set_names_are_trained_and_scored_on(tmp_path: Path) -> None:
    write(tmp_path / "yard", ALL)
    plain = resolve(tmp_path)
    assert isinstance(plain, RunSpec)
    assert loaders(plain) == ("train", "val")
    write(tmp_path / "yard", ALL, evaluation_split="test", training_split="extra")
    named = resolve(tmp_path, "other results")  # asks anew
    assert isinstance(named, RunSpec)
    assert loaders(named) == ("extra", "test")
    assert (named.training.train_split, named.evaluation.split) == ("extra", "test")
    assert named.run_id != plain.run_id


def test_a_profile_that_names_a_split_comes_first(tmp_path: Path) -> None:
    write(tmp_path / "yard", ALL, evaluation_split="test")
    spec = resolve(tmp_path, split="val")
    assert isinstance(spec, RunSpec)
    assert spec.evaluation.split == "val"


def test_a_split_that_the_data_set_lacks_blocks_the_run(tmp_path: Path) -> None:
    write(tmp_path / "yard", {"train": [0, 1], "val": [0, 1]})
    blocked = resolve(tmp_path, split="test")
    assert isinstance(blocked, Blocked)
    assert "would score on the split test of yard, which has only train, val" in blocked.reason


UNFIT = {
    "void": ([255], {}, "No pixel of yard, {split}, is labelled: its masks hold 255 only"),
    "background": ([0], {"reduce_zero_label": True}, "its masks hold 0 only, which means unlab"),
    "foreground lost": ([0, 255], {}, "hold 0 and 255 only, and 255 means unlabelled: only road"),
}


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize(("values", "fields", "sentence"), UNFIT.values(), ids=UNFIT)
def test_a_split_of_no_use_is_refused_before_training_and_by_verify(
    tmp_path: Path, split: str, values: list[int], fields: dict[str, Any], sentence: str
) -> None:
    sound = [1, 2] if fields else [0, 1]
    write(tmp_path / "yard", {"train": sound, "val": sound} | {split: values}, **fields)
    for _ in range(2):  # the second time it is remembered
        blocked = resolve(tmp_path)
        assert isinstance(blocked, Blocked)
        assert sentence.format(split=split) in blocked.reason
        assert "label_map" in blocked.reason
    report = verify("yard", tmp_path)
    assert [problem in blocked.reason for problem in report.problems] == [True]


def test_a_split_of_no_use_is_no_matter_where_it_is_not_used(tmp_path: Path) -> None:
    write(tmp_path / "yard", {"train": [0, 1], "val": [0, 1], "test": [255]})
    assert isinstance(resolve(tmp_path), RunSpec)
    report = verify("yard", tmp_path)
    assert report.ok
    assert "No pixel of yard, test, is labelled" in report.notes[0]
    assert isinstance(resolve(tmp_path, split="test"), Blocked)


def test_a_foreground_of_255_is_trained_once_it_is_mapped(tmp_path: Path) -> None:
    write(tmp_path / "yard", {"train": [0, 255], "val": [0, 255]}, label_map={"255": 1})
    assert isinstance(resolve(tmp_path), RunSpec)
    report = verify("yard", tmp_path)
    assert report.ok
    assert set(report.pixels.values()) == {SIZE[0] * SIZE[1]}, "as many pixels of either class"


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_an_image_of_another_size_than_its_mask_blocks_the_run(tmp_path: Path, split: str) -> None:
    path = write(tmp_path / "yard", ALL) / "images" / split / "a.jpg"
    Image.fromarray(np.zeros((9, 12, 3), np.uint8)).save(path)
    blocked = resolve(tmp_path)
    assert isinstance(blocked, Blocked)
    assert f"{path} has 9×12 pixels, its annotation" in blocked.reason
    (sentence,) = verify("yard", tmp_path).problems
    assert sentence in blocked.reason
