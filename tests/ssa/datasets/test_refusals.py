"""Pictures, labels and folders that are not what they seem."""

import json
import os
import struct
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, PngImagePlugin

from ssa.datasets import CAMVID, DataError, content_digest
from ssa.datasets.folder import describe
from ssa.datasets.pixels import image_sizes, label_size, read_image, read_label

MANY = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
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


def absurd_png(path, width, height):
    """A whole PNG of one pixel whose header tells of another size."""
    Image.new("L", (1, 1)).save(path)
    data = bytearray(path.read_bytes())
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("size", [(1 << 21, 4), (1 << 20, 1 << 20), (40_000, 40_000)])
def test_a_picture_of_absurd_size_is_an_error_of_ours(tmp_path, size):
    path = absurd_png(tmp_path / "a.png", *size)
    with pytest.raises(DataError, match=r"Cannot decode the image .*a\.png"):
        read_image(path)


@pytest.mark.parametrize("size", [(20_000, 10_000), (1 << 20, 1 << 20)])
def test_the_header_of_a_picture_of_absurd_size_is_enough(tmp_path, size):
    path = absurd_png(tmp_path / "a.png", *size)
    with pytest.raises(DataError, match=r"Cannot read the image .*a\.png"):
        image_sizes(path)
    with pytest.raises(DataError, match=r"Cannot read the annotation .*a\.png"):
        label_size(path)


MODES = ("1", "L", "P", "LA", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", "I", "F")
MODES += ("I;16", "I;16B")
DTYPES = [kind + bits for kind in "iu" for bits in ("1", "2", "4", "8")]


def value_or_our_error(path):
    """What a label file is read to; anything but pixels or an error of ours fails the test."""
    refusal = ""
    try:
        pixels = read_label(path)
    except DataError as error:
        refusal = str(error)
    if refusal:
        assert str(path) in refusal
        return None
    assert pixels.dtype == np.uint8
    assert pixels.shape == label_size(path)
    return pixels


@given(
    mode=st.sampled_from(MODES),
    suffix=st.sampled_from(["PNG", "TIFF", "BMP", "GIF", "JPEG", "WEBP"]),
    pixels=hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=6)),
    cut=st.one_of(st.none(), st.floats(0, 1)),
)
@MANY
def test_a_label_of_any_mode_and_format_is_read_or_refused(tmp_path, mode, suffix, pixels, cut):
    path = tmp_path / "label"
    picture = Image.fromarray(pixels)
    try:
        (picture if mode == "L" else Image.new(mode, picture.size)).save(path, format=suffix)
    except (OSError, ValueError, KeyError):
        return  # a format that has no such mode
    if cut is not None:
        data = path.read_bytes()
        path.write_bytes(data[: int(cut * len(data))])
    found = value_or_our_error(path)
    if found is not None and mode == "L" and cut is None and suffix in ("PNG", "TIFF", "BMP"):
        assert (found == pixels).all()


@given(dtype=st.sampled_from(DTYPES), data=st.data())
@MANY
def test_a_label_of_any_integer_type_keeps_its_values_or_is_refused(tmp_path, dtype, data):
    pixels = data.draw(hnp.arrays(np.dtype(dtype), (3, 4)))
    try:
        Image.fromarray(pixels).save(tmp_path / "label.png")
    except (TypeError, OSError, ValueError):
        return  # no picture holds such pixels
    found = value_or_our_error(tmp_path / "label.png")
    if found is not None:
        assert (found == pixels).all(), "a value that does not fit into 8 bits is never cut"


@given(data=st.binary(max_size=200))
@MANY
def test_bytes_that_are_no_picture_are_refused(tmp_path, data):
    path = tmp_path / "label.png"
    path.write_bytes(data)
    assert value_or_our_error(path) is None
    for read in (read_image, image_sizes):
        with pytest.raises(DataError, match="the image"):
            read(path)
