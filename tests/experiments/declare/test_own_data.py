"""A user's own images and masks: what is wrong with them is said before anything is trained."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.declare.profile import DataChoice
from experiments.errors import sentence_of
from experiments.plan.data import Located, locate
from experiments.store.workspace import Workspace
from ssa.errors import SsaError

SIZE = (8, 12)


def write_data(root: Path, **description: object) -> Path:
    """Two splits of two images, masks of the classes 0 and 1, and their description."""
    for split in ("train", "val"):
        for stem in ("a", "b"):
            (root / "images" / split).mkdir(parents=True, exist_ok=True)
            (root / "annotations" / split).mkdir(parents=True, exist_ok=True)
            photo = np.full((*SIZE, 3), 128, np.uint8)
            Image.fromarray(photo).save(root / "images" / split / f"{stem}.jpg")
            mask(root, split, stem, 1)
    (root / "dataset.json").write_text(json.dumps({"class_names": ["road", "tree"]} | description))
    return root


def mask(root: Path, split: str, stem: str, value: int) -> Path:
    path = root / "annotations" / split / f"{stem}.png"
    picture = np.zeros(SIZE, np.uint8)
    picture[2:4] = value
    Image.fromarray(picture).save(path)
    return path


def found(folder: Path, results: str = "results") -> Located:
    return locate(DataChoice(name="yard"), Workspace(folder / results, folder))


def refused(folder: Path) -> str:
    with pytest.raises(SsaError) as caught:
        found(folder)
    assert "\n" not in str(caught.value)
    return sentence_of(caught.value)


def test_what_the_labels_mean_is_part_of_a_runs_identity(tmp_path: Path) -> None:
    root = write_data(tmp_path / "yard")
    first = found(tmp_path, "one")
    write_data(root, class_names=["street", "tree"], title="A yard", palette=[[0, 0, 0], [9, 9, 9]])
    renamed = found(tmp_path, "two")
    write_data(root, label_map={"7": 1})
    mapped = found(tmp_path, "three")
    assert first.digest == renamed.digest == mapped.digest, "the files are the same"
    settings = [place.settings for place in (first, renamed, mapped)]
    assert settings[0]["class_names"] == ["road", "tree"]
    assert settings[1] == settings[0] | {"class_names": ["street", "tree"]}, "no title, no colours"
    assert settings[2] == settings[0] | {"label_map": {"7": 1}}


def test_a_run_finds_its_data_again_by_its_own_settings(tmp_path: Path) -> None:
    root = write_data(tmp_path / "yard")
    workspace = Workspace(tmp_path / "results", tmp_path)
    first = locate(DataChoice(name="yard"), workspace)
    again = DataChoice(name="yard", settings=json.loads(json.dumps(first.settings)))
    assert locate(again, workspace) == dataclasses.replace(first, working_size=None)
    other = DataChoice(name="yard", settings=first.settings | {"class_names": ["a", "b"]})
    with pytest.raises(SsaError, match="described otherwise now"):
        locate(other, workspace)
    with pytest.raises(SsaError, match="takes no settings, but size was given"):
        locate(DataChoice(name="yard", settings={"size": 3}), workspace)
    assert root.is_dir()


def test_a_missing_mask_is_named(tmp_path: Path) -> None:
    root = write_data(tmp_path / "yard")
    (root / "annotations/train/b.png").unlink()
    sentence = refused(tmp_path)
    assert f"{root / 'images/train/b.jpg'} has no annotation in" in sentence
    assert "data verify yard" in sentence


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_value_that_is_no_class_is_named_with_its_file(tmp_path: Path, split: str) -> None:
    path = mask(write_data(tmp_path / "yard"), split, "b", 2)
    sentence = refused(tmp_path)
    assert sentence == f"{path} holds the label 2; the 2 classes are 0 … 1, unlabelled 255."
    mask(tmp_path / "yard", split, "b", 255)
    assert found(tmp_path).num_classes == 2


def test_too_few_class_names_are_told_by_the_masks(tmp_path: Path) -> None:
    write_data(tmp_path / "yard", class_names=["road"])
    assert "holds the label 1; the 1 classes are 0 … 0" in refused(tmp_path)


def test_a_coloured_mask_is_not_taken_for_class_ids(tmp_path: Path) -> None:
    root = write_data(tmp_path / "yard")
    path = root / "annotations/val/a.png"
    Image.open(path).convert("RGB").save(path)
    assert f"{path} has the mode RGB" in refused(tmp_path)


def test_masks_are_opened_once_a_content(tmp_path: Path) -> None:
    write_data(tmp_path / "yard")
    found(tmp_path)
    other = Workspace(tmp_path / "results", tmp_path, reference=tmp_path)  # asks anew
    (remembered,) = other.cache.glob("labels-*")
    before = remembered.stat()
    assert locate(DataChoice(name="yard"), other).num_classes == 2
    after = remembered.stat()  # checking again would have written it anew
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_mask_damaged_under_its_old_time_is_noticed(tmp_path: Path) -> None:
    root = write_data(tmp_path / "yard")
    found(tmp_path)
    path = root / "annotations/val/a.png"
    before = path.stat()
    path.write_bytes(b"x" * before.st_size)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    other = Workspace(tmp_path / "results", tmp_path, reference=tmp_path)  # asks anew
    with pytest.raises(SsaError, match="Cannot read the annotation"):
        locate(DataChoice(name="yard"), other)
