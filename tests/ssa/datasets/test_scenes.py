"""The embedded data set: the same bytes everywhere, whole or absent, and what its decision says."""

import hashlib
import json
import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import ssa
from ssa.datasets import SCENES, DataError, ScenesParameters, content_digest
from ssa.datasets.draws import Draws
from ssa.datasets.png import encode_png
from ssa.datasets.scene_appearance import draw_looks
from ssa.datasets.scene_layout import CLASSES, ID, draw_layout
from ssa.datasets.scenes import META, draw_scene, ensure

SMALL = ScenesParameters(seed=3, train=21, val=6, height=60, width=72)  # as small_scenes
ALIKE = [("door", "window"), ("road", "floor"), ("lamp", "sign"), ("car", "cabinet")]


def tree_bytes(root):
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def annotations(count, parameters=None):
    parameters = parameters or ScenesParameters()
    size = (parameters.height, parameters.width)
    return [draw_layout(*size, Draws("layout", parameters.seed, "train", i)) for i in range(count)]


def test_bytes_are_those_of_every_other_machine():
    # A constant on purpose: a change here is a change of the data set, so of every run's identity.
    # Raise GENERATOR with it.
    digest = hashlib.sha256()
    for index in range(3):
        for part in draw_scene(ScenesParameters(), "train", index):
            digest.update(part)
    assert digest.hexdigest() == "0d8378f681c07bf8b0fa4f693ff47cb732ab95590b3972d055df8a67abc48206"


def test_same_parameters_same_files_and_other_seed_other_files(tmp_path, small_scenes):
    again = ensure(tmp_path, SMALL)
    assert tree_bytes(again) == tree_bytes(small_scenes)
    other = ensure(tmp_path, replace(SMALL, seed=4))
    assert other != again
    assert tree_bytes(other)["images/val/00000.png"] != tree_bytes(again)["images/val/00000.png"]


def test_splits_differ(small_scenes):
    files = tree_bytes(small_scenes)
    images = [data for name, data in files.items() if name.startswith("images")]
    assert len(images) == len(set(images)) == SMALL.train + SMALL.val


def test_default_is_made_once(tmp_path):
    root = ensure(tmp_path)
    files = sorted(root.rglob("*"))
    written = {path: path.stat().st_mtime_ns for path in files}
    assert ensure(tmp_path) == root
    assert {path: path.stat().st_mtime_ns for path in sorted(root.rglob("*"))} == written


def test_meta_tells_what_was_made(small_scenes):
    meta = json.loads((small_scenes / META).read_text())
    assert meta["parameters"] == {
        "seed": 3, "train": 21, "val": 6, "height": 60, "width": 72, "shift": SMALL.shift,
    }  # fmt: skip
    assert tuple(meta["class_names"]) == SCENES.class_names
    content = hashlib.sha256()
    for split in ("train", "val"):
        for pair in SCENES.load_index(small_scenes, split):
            content.update(pair.image.read_bytes())
            content.update(pair.label.read_bytes())
    assert meta["content_sha256"] == content.hexdigest()


def test_most_classes_are_absent_from_every_image_and_none_from_the_data_set():
    seen = set()
    for _, labels in annotations(150):
        present = set(np.unique(labels).tolist()) - {255}
        assert 2 <= len(present) < len(CLASSES) / 2
        seen |= present
    assert seen == set(range(len(CLASSES)))
    assert len(CLASSES) >= 12


def test_void_lies_on_borders_only():
    framed = contoured = 0
    for things, labels in annotations(60):
        void = labels == 255
        assert void.mean() < 0.25
        assert (things[~void] == labels[~void]).all()
        frame = np.ones_like(void)
        frame[4:-4, 4:-4] = False
        framed += bool((void & frame).any())
        inner = np.argwhere(void & ~frame)
        contoured += len(inner) > 0
        for y, x in inner:  # a void pixel inside lies where two things meet
            near = things[y : y + 2, x : x + 2]
            assert len(np.unique(near)) > 1
    assert framed > 50
    assert 10 <= contoured <= 35


def test_door_stands_on_the_ground_and_window_does_not():
    doors = windows = 0
    for things, _ in annotations(120):
        ground = np.isin(things, [ID["floor"], ID["road"], ID["pavement"]])
        below = np.roll(ground, -1, axis=0)
        for name in ("door", "window"):
            mask = things == ID[name]
            mask[-1] = False
            touches = bool((mask & below).any())
            if name == "door":
                doors += touches
            elif mask.any():
                assert not touches
                windows += 1
    assert doors > 20
    assert windows > 20


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_look_alike_pairs_have_one_distribution_of_looks(one, other):
    looks = [draw_looks(Draws("t", i), 0.6) for i in range(600)]
    a = np.array([draw[ID[one]].colour for draw in looks])
    b = np.array([draw[ID[other]].colour for draw in looks])
    same = (a == b).all(axis=1).mean()
    assert 0.4 < same < 0.6
    assert np.abs(a.mean(0) - b.mean(0)).max() < 8
    unshifted = draw_looks(Draws("t", 0), 0.0)
    assert unshifted[ID[one]] == unshifted[ID[other]]


def test_shift_moves_looks_between_images_not_within_one():
    def spread(shift):
        """Deviation over images of a class's mean colour, and within one image of its pixels."""
        across, within = [], []
        parameters = ScenesParameters(shift=shift)
        for index in range(60):
            image, label = (
                cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
                for data in draw_scene(parameters, "train", index)
            )
            for name in ("wall", "building"):
                pixels = image[label == ID[name]].astype(float)
                if len(pixels) > 300:
                    across.append(pixels.mean(0))
                    within.append(pixels.std(0).mean())
        return np.array(across).std(0).mean(), np.mean(within)

    (none, within_none), (default, within_default), (full, _) = map(spread, (0.0, 0.6, 1.0))
    assert none < 4
    assert default > 8 * none
    assert full > default
    assert within_default < 2 * within_none
    assert default > 1.5 * within_default


def test_shift_leaves_the_layout():
    for index in range(5):
        labels = {draw_scene(ScenesParameters(shift=s), "val", index)[1] for s in (0, 0.6, 1)}
        assert len(labels) == 1


def test_leaves_nothing_beside_and_a_damaged_folder_is_named(tmp_path):
    root = ensure(tmp_path, SMALL)
    assert list(tmp_path.iterdir()) == [root]
    (root / "images" / "val" / "00000.png").unlink()
    with pytest.raises(DataError, match=r"00000\.png has no image"):
        ensure(tmp_path, SMALL)
    (root / META).write_text("{")
    with pytest.raises(DataError, match="damaged; delete"):
        ensure(tmp_path, SMALL)


def _make(root):
    return str(ensure(Path(root), SMALL))


def test_processes_at_once_all_get_the_same_whole_folder(tmp_path, small_scenes):
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        roots = pool.map(_make, [str(tmp_path)] * 3, chunksize=1)
    assert len(set(roots)) == 1
    assert [p.name for p in tmp_path.iterdir()] == [Path(roots[0]).name]
    assert tree_bytes(Path(roots[0])) == tree_bytes(small_scenes)


def _make_with_small_files(root, queue):
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))  # every write past 4 KiB fails
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        ensure(Path(root), SMALL)
    except DataError as error:
        queue.put(str(error))
    else:
        queue.put("no error")


def test_failed_write_is_one_sentence_and_leaves_nothing(tmp_path):
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_make_with_small_files, args=(str(tmp_path), queue))
    process.start()
    message = queue.get(timeout=600)
    process.join()
    assert message.startswith(f"Cannot write the scenes data set to {tmp_path}")
    assert "choose another place" in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(
    os.getuid() == 0, reason="root may write anywhere; as another user: ./run_all.sh test"
)
def test_read_only_data_root_is_one_sentence(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(DataError, match="Cannot write the scenes data set"):
        ensure(tmp_path, SMALL)


def test_stale_temporary_folder_of_a_killed_process_goes(tmp_path):
    root = tmp_path / ensure(tmp_path / "elsewhere", SMALL).name
    old, new = tmp_path / f".{root.name}-old", tmp_path / f".{root.name}-new"
    old.mkdir()
    new.mkdir()
    os.utime(old, (0, 0))
    ensure(tmp_path, SMALL)
    assert not old.exists()
    assert new.exists()  # perhaps another process is at it


@pytest.mark.parametrize("wrong", [{"shift": 1.5}, {"shift": -0.1}, {"height": 20}, {"val": 0}])
def test_impossible_parameters_are_refused(wrong):
    with pytest.raises(DataError):
        ScenesParameters(**wrong)


@settings(max_examples=25)
@given(
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    colour=st.booleans(),
    seed=st.integers(0, 99),
)
def test_png_decodes_to_its_pixels(tmp_path_factory, height, width, colour, seed):
    shape = (height, width, 3) if colour else (height, width)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    file = tmp_path_factory.getbasetemp() / "pixels.png"
    file.write_bytes(encode_png(pixels))
    assert (np.asarray(Image.open(file)) == pixels).all()
    decoded = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    assert (decoded == (pixels[..., ::-1] if colour else pixels)).all()


def test_png_does_not_depend_on_a_compressor(monkeypatch):
    pixels = np.zeros((70, 400, 3), np.uint8)
    expected = encode_png(pixels)
    monkeypatch.setattr(zlib, "compress", None)
    monkeypatch.setattr(zlib, "compressobj", None)
    assert encode_png(pixels) == expected
    assert len(expected) > pixels.nbytes


def test_draws_are_known_and_uniform():
    assert Draws("a", 1).fraction() == Draws("a", 1).fractions(2)[0]
    assert Draws("a", 1).fraction() != Draws("a", 2).fraction()
    many = Draws("b").fractions(20000)
    assert many.min() >= 0
    assert many.max() < 1
    assert abs(many.mean() - 0.5) < 0.01
    numbers = [d.integer(3, 5) for d in [Draws("c")] for _ in range(300)]
    assert set(numbers) == {3, 4, 5}
    assert sorted(Draws("d").sample("abcd", 9)) == list("abcd")


def test_content_digest_is_of_the_content(tmp_path, small_scenes):
    other = ensure(tmp_path, SMALL)
    assert content_digest(SCENES, other, ("train",)) == content_digest(
        SCENES, small_scenes, ("train",)
    )


MADE = """
import json, sys
from pathlib import Path
from ssa.datasets.scenes import META, ScenesParameters, ensure
root = ensure(Path(sys.argv[1]), ScenesParameters(train=1, val=1))
print(json.loads((root / META).read_text())["content_sha256"])
"""


def test_images_that_other_code_drew_are_not_taken(tmp_path):
    shutil.copytree(Path(ssa.__file__).parent, tmp_path / "ssa")

    def content():
        command = [sys.executable, "-c", MADE, str(tmp_path / "data")]
        made = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        return made.stdout

    before = content()
    assert content() == before
    drawing = tmp_path / "ssa" / "datasets" / "png.py"
    edited = drawing.read_text().replace("def encode_png(", "def _encode(") + (
        "\n\ndef encode_png(image):\n    return _encode(image // 2)\n"
    )
    drawing.write_text(edited)
    assert content() != before
    assert len(list((tmp_path / "data").iterdir())) == 2, "a run may be at the earlier ones"
