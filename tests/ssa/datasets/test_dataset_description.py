"""Finding a data set's files and refusing a folder that is not it."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from ssa.datasets import CAMVID, DATASETS, SCENES, DataError, content_digest
from ssa.datasets.base import DataSet, Layout, register
from ssa.datasets.pixels import read_pair
from ssa.errors import ConfigurationError, UnknownNameError


def write_pair(root, image, label, shape=(8, 10), values=(0, 1)):
    rng = np.random.default_rng(0)
    for path in (root / image, root / label):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 255, (*shape, 3), dtype=np.uint8)).save(root / image)
    raw = rng.choice(np.array(values, np.uint8), shape)
    Image.fromarray(raw).save(root / label)
    return raw


@pytest.fixture
def segnet(tmp_path):
    """CamVid in SegNet's layout, two pairs a split."""
    for split in CAMVID.splits:
        for name in ("a.png", "b.png"):
            write_pair(tmp_path, f"{split}/{name}", f"{split}annot/{name}", values=(0, 10, 11))
    return tmp_path


@pytest.mark.parametrize("dataset", DATASETS.values(), ids=lambda d: d.name)
def test_descriptions_are_consistent(dataset):
    assert DATASETS[dataset.name] is dataset
    assert len(dataset.palette) == dataset.num_classes == len(set(dataset.class_names))
    assert len(set(dataset.palette)) == dataset.num_classes
    assert {dataset.training_split, dataset.evaluation_split} <= set(dataset.splits)
    assert all(set(layout.folders) == set(dataset.splits) for layout in dataset.layouts)
    assert set(dataset.counts) <= set(dataset.splits)


def test_name_taken_or_unknown():
    with pytest.raises(ConfigurationError, match="already taken"):
        register(DataSet("camvid", "x", ("a",), ((0, 0, 0),), {}, CAMVID.layouts, (), ""))
    with pytest.raises(UnknownNameError, match="Did you mean 'camvid'"):
        DATASETS["camvit"]


def test_camvid_is_found_checked_and_read(camvid_root, tmp_path):
    assert CAMVID.locate(camvid_root.parent) == CAMVID.locate(camvid_root) == camvid_root
    CAMVID.check(camvid_root)
    for split, count in CAMVID.counts.items():
        pairs = CAMVID.load_index(camvid_root, split)
        assert len(pairs) == count
        assert all(pair.image.stem == pair.label.stem for pair in pairs)
    _, label = read_pair(pairs[0], CAMVID.label_table(camvid_root))
    assert label.shape == (360, 480)
    assert set(np.unique(label)) <= {*range(11), 255}


def test_segnet_layout_marks_the_twelfth_id_as_unlabelled(segnet):
    assert CAMVID.layout(segnet).name == "SegNet"
    pair = CAMVID.load_index(segnet, "train")[0]
    _, label = read_pair(pair, CAMVID.label_table(segnet))
    raw = np.asarray(Image.open(pair.label))
    assert (label == np.where(raw == 11, 255, raw)).all()
    assert (raw == 11).any()


def test_wrong_number_of_images_names_both_numbers(segnet):
    with pytest.raises(DataError, match=r"expected 367 images .* found 2"):
        CAMVID.check(segnet)


def test_missing_folder_names_expected_and_found(segnet):
    shutil.rmtree(segnet / "valannot")
    with pytest.raises(DataError) as error:
        CAMVID.load_index(segnet, "train")
    assert "expected annotations/test" in str(error.value)
    assert "found test, testannot, train, trainannot, val" in str(error.value)


def test_absent_data_set_says_where_it_was_looked_for_and_how_to_get_it(tmp_path):
    with pytest.raises(DataError, match=r"No CamVid in .*camvid or .*CamVid\. Bring your own"):
        CAMVID.locate(tmp_path)
    (tmp_path / "camvid" / "images").mkdir(parents=True)
    with pytest.raises(DataError, match=r"missing .*annotations/train"):
        CAMVID.locate(tmp_path)


def test_every_file_needs_its_partner(segnet):
    (segnet / "train" / "a.png").unlink()
    (segnet / "trainannot" / "b.png").unlink()
    with pytest.raises(DataError, match=r"a\.png has no image in .*\(and 1 more\)"):
        CAMVID.load_index(segnet, "train")
    _, problems = CAMVID.pairs(segnet, "train")
    assert len(problems) == 2
    assert "b.png has no annotation" in problems[1]


def test_empty_split_is_an_error(segnet):
    for folder in ("val", "valannot"):
        for file in (segnet / folder).iterdir():
            file.unlink()
    with pytest.raises(DataError, match=r"val holds no \*\.png file"):
        CAMVID.load_index(segnet, "val")


def test_unknown_split(segnet):
    with pytest.raises(UnknownNameError, match="Did you mean 'train'"):
        CAMVID.load_index(segnet, "trains")


@pytest.mark.skipif(
    os.getuid() == 0, reason="root may read anything; as another user: ./run_all.sh test"
)
def test_unreadable_folder_is_one_sentence(segnet):
    (segnet / "train").chmod(0)
    try:
        with pytest.raises(DataError, match="Cannot read the folder"):
            CAMVID.load_index(segnet, "train")
    finally:
        (segnet / "train").chmod(0o700)


def test_split_lists_order_and_choose(tmp_path):
    layout = Layout(
        name="listed",
        folders={"train": ("img", "lab")},
        label_suffix="_ids.png",
        lists={"train": "lists/train.txt"},
    )
    listed = DataSet("listed", "Listed", ("a", "b"), ((0, 0, 0), (1, 1, 1)), {}, (layout,), (), "")
    for stem in ("1", "2", "3"):
        write_pair(tmp_path, f"img/{stem}.jpg", f"lab/{stem}_ids.png")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/train.txt").write_text("3\n1\n")
    assert [p.image.stem for p in listed.load_index(tmp_path, "train")] == ["3", "1"]
    (tmp_path / "lists/train.txt").write_text("3\n9\n")
    with pytest.raises(DataError, match=r"9\.jpg is in the list but not there"):
        listed.load_index(tmp_path, "train")


def test_reduce_zero_label_table(tmp_path):
    layout = Layout("plain", {"train": ("img", "lab")})
    reduced = DataSet("r", "R", ("a",), ((0, 0, 0),), {}, (layout,), (), "", reduce_zero_label=True)
    for folder in ("img", "lab"):
        (tmp_path / folder).mkdir()
    table = reduced.label_table(tmp_path)
    assert table.dtype == np.uint8
    assert (table[0], table[1], table[150], table[254], table[255]) == (255, 0, 149, 253, 255)


class TestDigest:
    def digest(self, root, cache, splits=("train", "val")):
        return content_digest(SCENES, root, splits, cache)

    @pytest.fixture
    def copy(self, small_scenes, tmp_path):
        return shutil.copytree(small_scenes, tmp_path / "copy")

    def test_depends_on_content_and_names_not_on_place_or_time(self, small_scenes, copy, tmp_path):
        before = self.digest(small_scenes, tmp_path / "c")
        assert self.digest(copy, tmp_path / "c") == before
        os.utime(copy / "images/train/00000.png", (1, 1))
        assert self.digest(copy, tmp_path / "c") == before
        assert self.digest(copy, None) == before
        assert self.digest(copy, None, ("train",)) != before

    def test_sees_a_changed_a_renamed_and_a_swapped_file(self, copy, tmp_path):
        cache = tmp_path / "c"
        seen = {self.digest(copy, cache)}
        file = copy / "annotations/train/00003.png"
        data = bytearray(file.read_bytes())
        data[-20] ^= 1  # the same size
        file.write_bytes(data)
        seen.add(self.digest(copy, cache))
        for kind in ("images", "annotations"):
            (copy / kind / "train/00003.png").rename(copy / kind / "train/x.png")
        seen.add(self.digest(copy, cache))
        assert len(seen) == 3

    def test_second_call_reads_no_file(self, copy, tmp_path, monkeypatch):
        first = self.digest(copy, tmp_path / "c")
        from pathlib import Path

        monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail("file was read"))
        assert self.digest(copy, tmp_path / "c") == first

    def test_damaged_or_unwritable_cache_only_costs_time(self, copy, tmp_path):
        first = self.digest(copy, tmp_path / "c")
        (file,) = (tmp_path / "c").iterdir()
        file.write_text('{"half')
        assert self.digest(copy, tmp_path / "c") == first
        (tmp_path / "plain").write_text("")
        assert self.digest(copy, tmp_path / "plain") == first

    def test_data_root_is_not_written_to(self, copy, tmp_path):
        before = sorted(copy.rglob("*"))
        self.digest(copy, tmp_path / "c")
        assert sorted(copy.rglob("*")) == before
