"""Which splits of a user's data a run trains and scores on, and which it may not."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from experiments.declare.load import load_registry
from experiments.declare.profile import DataChoice
from experiments.declare.run_spec import RunSpec
from experiments.launch.launcher import Inputs
from experiments.launch.train_plan import inputs_of
from experiments.machine import module_command
from experiments.plan.request import Request
from experiments.plan.resolve import Blocked, Resolver
from experiments.store.store import Store
from experiments.store.workspace import Workspace
from experiments.train.config import Surroundings, runner_config
from ssa.datasets.verify import verify
from ssa.errors import SsaError

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


# --- between the plan and the run ---------------------------------------------------------------


def inputs(folder: Path, spec: RunSpec) -> Inputs:
    """What a training process of the run is started with."""
    registry = load_registry()
    workspace = Workspace(results=folder / "results", data_root=folder)
    call = Request(registry, registry.profile("smoke"), (0,), workspace, 1, "cpu")
    return inputs_of(call, spec)


def test_pictures_that_changed_since_the_plan_are_not_trained_on(tmp_path: Path) -> None:
    root = write(tmp_path / "yard", ALL)
    spec = resolve(tmp_path)
    assert isinstance(spec, RunSpec)
    assert inputs(tmp_path, spec).data == root
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(root / "images" / "train" / "a.jpg")
    with pytest.raises(SsaError, match=r"yard .* have changed since this call began"):
        inputs(tmp_path, spec)


def test_a_description_that_changed_since_the_plan_is_not_trained_with(tmp_path: Path) -> None:
    root = write(tmp_path / "yard", ALL)
    spec = resolve(tmp_path)
    assert isinstance(spec, RunSpec)
    write(root, ALL, label_map={"0": 1, "1": 0})
    with pytest.raises(SsaError, match="described otherwise now"):
        inputs(tmp_path, spec)


def test_the_run_itself_looks_at_the_description_again(tmp_path: Path) -> None:
    """It is read by the training process, seconds after whoever started it has looked."""
    root = write(tmp_path / "yard", ALL)
    spec = resolve(tmp_path)
    assert isinstance(spec, RunSpec)
    folder = Store(tmp_path / "results").write_spec(spec)
    write(root, ALL, label_map={"0": 1, "1": 0})
    command = module_command("experiments.train.attempt", str(folder.path), "--data", str(root))
    ended = subprocess.run(command, capture_output=True, check=False)
    failure = Store(tmp_path / "results").read_failure(spec.run_id)
    assert ended.returncode == 1
    assert failure is not None
    assert "yard is described otherwise now than when this run was planned" in failure.sentence
