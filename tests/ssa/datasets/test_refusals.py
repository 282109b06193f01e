"""Pictures, labels and folders that are not what they seem."""

import json
import os

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from ssa.datasets import CAMVID, DataError, content_digest
from ssa.datasets.folder import describe
from ssa.datasets.pixels import read_label

LABELS = np.zeros((8, 10), np.uint8)


def described(root, folders, **fields):
    for folder in folders:
        (root / folder).mkdir(parents=True)
    (root / "dataset.json").write_text(json.dumps({"class_names": ["a", "b"], **fields}))
    return describe(root).splits


@pytest.mark.parametrize(
    ("folders", "fields"),
    [
        (
            ("train", "trainannot", "val", "valannot"),
            {"images": "{split}", "annotations": "{split}annot"},
        ),
        (
            ("img_train", "img_val", "ann_train", "ann_val"),
            {"images": "img_{split}", "annotations": "ann_{split}"},
        ),
        (
            tuple(f"images/{s}" for s in ("train", "val", ".ipynb_checkpoints", "__MACOSX")),
            {},
        ),
    ],
    ids=["segnet", "prefix", "hidden"],
)
def test_only_the_splits_of_a_layout_are_splits(tmp_path, folders, fields):
    assert described(tmp_path, folders, **fields) == ("train", "val")


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_an_annotation_stored_as_jpeg_is_refused_whatever_its_name(tmp_path, suffix):
    path = tmp_path / f"label{suffix}"
    Image.fromarray(LABELS).save(path, format="JPEG")
    with pytest.raises(DataError, match=r"label.* is stored as JPEG, which alters pixels"):
        read_label(path)


def test_a_png_with_a_large_text_chunk_is_an_error_of_ours(tmp_path):
    text = PngImagePlugin.PngInfo()
    text.add_text("note", "x" * (PngImagePlugin.MAX_TEXT_CHUNK + 1), zip=True)
    Image.fromarray(LABELS).save(tmp_path / "label.png", pnginfo=text)
    with pytest.raises(DataError, match=r"Cannot read the annotation .*label\.png"):
        read_label(tmp_path / "label.png")


def test_a_decompression_bomb_is_an_error_of_ours(tmp_path):
    Image.new("1", (18_000, 10_000)).save(tmp_path / "label.png")
    with pytest.raises(DataError, match=r"Cannot read the annotation .*label\.png"):
        read_label(tmp_path / "label.png")


def test_other_pixels_under_a_restored_time_change_the_digest(tmp_path):
    for split in CAMVID.splits:
        for folder, shape in ((split, (8, 10, 3)), (f"{split}annot", (8, 10))):
            (tmp_path / "d" / folder).mkdir(parents=True)
            Image.fromarray(np.zeros(shape, np.uint8)).save(tmp_path / "d" / folder / "a.png")
    image = tmp_path / "d/train/a.png"
    before = content_digest(CAMVID, tmp_path / "d", CAMVID.splits, tmp_path / "cache")
    stat, data = image.stat(), bytearray(image.read_bytes())
    data[-20] ^= 1
    image.write_bytes(data)
    os.utime(image, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert content_digest(CAMVID, tmp_path / "d", CAMVID.splits, tmp_path / "cache") != before
