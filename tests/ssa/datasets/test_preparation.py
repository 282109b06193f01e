"""prepare and verify, on small files in the true formats."""

import dataclasses
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.io import savemat

from ssa.datasets import (
    ADE20K,
    CAMVID,
    COCO_STUFF10K,
    DATASETS,
    PASCAL_CONTEXT,
    DataError,
    ScenesParameters,
    content_digest,
    describe,
    find,
)
from ssa.datasets import prepare as prepare_module
from ssa.datasets.coco_stuff10k import NEVER_ANNOTATED, train_ids
from ssa.datasets.convert import LabelFromMat, LinkFile
from ssa.datasets.pascal_context import IDS, class_table
from ssa.datasets.pixels import read_label, read_pair
from ssa.datasets.prepare import PrepareError, prepare
from ssa.datasets.rle import decode_mask, run_lengths
from ssa.datasets.scenes import ensure
from ssa.datasets.verify import verify
from ssa.errors import UnknownNameError

PROJECT = Path(__file__).resolve().parents[3]
SIZE = (7, 9)


@pytest.fixture
def small(monkeypatch):
    """Lets a registered data set have a handful of images: only the expected numbers change."""

    def shrink(name, **counts):
        dataset = dataclasses.replace(DATASETS[name], counts=counts, other_counts={})
        monkeypatch.setitem(DATASETS._things, name, dataset)
        return dataset

    return shrink


def photo(path, size=SIZE, mode="RGB", exif=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(path.name)).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path, exif=exif or b"")


def indexed(path, ids):
    path.parent.mkdir(parents=True, exist_ok=True)
    file = Image.fromarray(ids.astype(np.uint8), mode="P")
    file.putpalette([i * 7 % 256 for i in range(768)])
    file.save(path)


# --- run lengths, against a reference that goes pixel by pixel -----------------------------------


def reference_encode(mask):
    """COCO's compressed text, written from the format's description one number at a time."""
    runs, value, length = [], 0, 0
    for pixel in mask.T.ravel().tolist():
        if pixel != value:
            runs.append(length)
            value, length = pixel, 0
        length += 1
    runs.append(length)
    text = ""
    for i, run in enumerate(runs):
        number = run - runs[i - 2] if i > 2 else run
        while True:
            digit = number & 31
            number >>= 5
            more = number != (-1 if digit & 16 else 0)
            text += chr((digit | 32 if more else digit) + 48)
            if not more:
                break
    return runs, text


class TestRunLengths:
    @settings(max_examples=150)
    @given(
        height=st.integers(1, 40),
        width=st.integers(1, 40),
        share=st.sampled_from([0.0, 0.02, 0.3, 0.9, 1.0]),
        blocks=st.integers(1, 9),
        seed=st.integers(0, 10**6),
    )
    def test_text_and_list_give_the_mask(self, height, width, share, blocks, seed):
        mask = np.random.default_rng(seed).random((height, width)) < share
        mask = mask.repeat(blocks, 0).repeat(blocks, 1)
        runs, text = reference_encode(mask.astype(int))
        assert run_lengths(text).tolist() == runs
        assert (decode_mask(text, *mask.shape) == mask).all()
        assert (decode_mask(runs, *mask.shape) == mask).all()

    def test_long_runs(self):
        mask = np.zeros((2000, 3000), bool)
        mask[5:1990, 2:2990] = True
        assert (decode_mask(reference_encode(mask.astype(int))[1], 2000, 3000) == mask).all()

    @pytest.mark.parametrize("text", ["", "o", "5é", "11", "\x01\x02"])
    def test_broken_text_is_refused(self, text):
        with pytest.raises(ValueError, match="its run"):
            decode_mask(text, 4, 4)


# --- PASCAL-Context -------------------------------------------------------------------------------


def pascal_scene(rng, size=SIZE):
    """Overlapping masks of the 459 classes in an order, and the map that a pixel loop gives."""
    masks = []
    for _ in range(rng.randint(0, 6)):
        mask = np.zeros(size, int)
        y, x = rng.randrange(size[0]), rng.randrange(size[1])
        mask[y : y + rng.randint(1, 6), x : x + rng.randint(1, 6)] = 1
        masks.append((rng.choice([*IDS.values(), 1, 459, 100]), mask))
    expected = np.zeros(size, int)
    order = sorted(IDS, key=str)
    names = {number: name for name, number in IDS.items()}
    for y in range(size[0]):
        for x in range(size[1]):
            for category, mask in masks:
                if mask[y, x]:
                    name = names.get(category)
                    expected[y, x] = 0 if name is None else order.index(name) + 1
    return masks, expected


@pytest.fixture
def pascal_json(tmp_path):
    """VOC 2010 with trainval_merged.json: three training, two validation and one test image."""
    rng = random.Random(4)
    source, expected = tmp_path / "source", {}
    content = {"images": [], "annos_segmentation": []}
    for number, phase in enumerate(["train", "val", "train", "test", "val", "train"]):
        stem = f"2008_{number:06d}"
        size = (7 + number, 9)
        masks, expected[stem] = pascal_scene(rng, size)
        image_id = 2008000000 + number
        photo(source / f"VOCdevkit/VOC2010/JPEGImages/{stem}.jpg", size)
        content["images"].append(
            {"file_name": f"{stem}.jpg", "image_id": image_id, "phase": phase,
             "height": size[0], "width": size[1]}
        )  # fmt: skip
        for category, mask in masks:
            runs, text = reference_encode(mask)
            counts = text if rng.random() < 0.7 else runs
            content["annos_segmentation"].append(
                {"image_id": image_id, "category_id": category, "id": rng.random(),
                 "segmentation": {"size": list(size), "counts": counts}}
            )  # fmt: skip
    (source / "trainval_merged.json").write_text(json.dumps(content))
    return source, expected


class TestPascalContext:
    def test_ids_are_those_of_the_published_list(self):
        # https://github.com/zhanghang1989/detail-api and every public converter use this set
        published = [
            0, 2, 259, 260, 415, 324, 9, 258, 144, 18, 19, 22, 23, 397, 25, 284, 158, 159, 416,
            33, 162, 420, 454, 295, 296, 427, 44, 45, 46, 308, 59, 440, 445, 31, 232, 65, 354,
            424, 68, 326, 72, 458, 34, 207, 80, 355, 85, 347, 220, 349, 360, 98, 187, 104, 105,
            366, 189, 368, 113, 115,
        ]  # fmt: skip
        table = class_table()
        assert sorted(np.flatnonzero(table)) == sorted(set(published) - {0})
        index = np.digitize(sorted(published), sorted(published), right=True)
        assert (table[sorted(published)] == index).all()

    @pytest.mark.parametrize("jobs", [1, 2])
    def test_json_equals_a_pixel_loop(self, small, pascal_json, tmp_path, jobs):
        small("pascal_context", train=3, val=2)
        source, expected = pascal_json
        root = prepare("pascal_context", source, tmp_path / "data", jobs)
        dataset = DATASETS["pascal_context"]
        assert root == tmp_path / "data/pascal_context"
        stems = {s: [p.image.stem for p in dataset.load_index(root, s)] for s in ("train", "val")}
        assert stems == {
            "train": ["2008_000000", "2008_000002", "2008_000005"],
            "val": ["2008_000001", "2008_000004"],
        }
        for stem in (s for split in stems.values() for s in split):
            label = read_label(root / f"SegmentationClassContext/{stem}.png")
            assert (label == expected[stem]).all()
            image = root / f"JPEGImages/{stem}.jpg"
            assert image.samefile(source / f"VOCdevkit/VOC2010/JPEGImages/{stem}.jpg")
        report = verify("pascal_context", tmp_path / "data")
        assert report.ok, report.problems
        assert report.counts == {"train": 3, "val": 2}
        flat = np.concatenate([expected[s].ravel() for split in stems.values() for s in split])
        assert report.unlabelled_pixels == (flat == 0).sum()
        for index, name in enumerate(dataset.class_names):
            assert report.pixels[name] == (flat == index + 1).sum()

    def test_mat_files_give_the_same_maps(self, small, pascal_json, tmp_path):
        dataset = small("pascal_context", train=2, val=1)
        rng = random.Random(8)
        source, voc = tmp_path / "mat", tmp_path / "mat/VOCdevkit/VOC2010"
        expected = {}
        for stem in ("a", "b", "c", "d"):
            masks, expected[stem] = pascal_scene(rng)
            ids = np.zeros(SIZE, np.uint16)
            for category, mask in masks:
                ids[mask == 1] = category
            (source / "trainval").mkdir(parents=True, exist_ok=True)
            savemat(source / f"trainval/{stem}.mat", {"LabelMap": ids}, do_compression=True)
            photo(voc / f"JPEGImages/{stem}.jpg")
        (voc / "ImageSets/Main").mkdir(parents=True)
        (voc / "ImageSets/Main/train.txt").write_text("c\nx\na\n")  # x has no context annotation
        (voc / "ImageSets/Main/val.txt").write_text("b\n")
        root = prepare("pascal_context", source, tmp_path / "data")
        assert [p.image.stem for p in dataset.load_index(root, "train")] == ["a", "c"]
        for stem in ("a", "b", "c"):
            label = read_label(root / f"SegmentationClassContext/{stem}.png")
            assert (label == expected[stem]).all()
        assert not (root / "JPEGImages/d.jpg").exists()

    def test_both_published_numbers_of_images_are_known(self, tmp_path):
        assert PASCAL_CONTEXT.miscounts(tmp_path, {"train": 4996, "val": 5104}) == []
        assert PASCAL_CONTEXT.miscounts(tmp_path, {"train": 4998, "val": 5105}) == []
        assert len(PASCAL_CONTEXT.miscounts(tmp_path, {"train": 4996, "val": 5105})) == 1
        assert len(PASCAL_CONTEXT.miscounts(tmp_path, {"train": 10, "val": 5})) == 2

    def test_absent_json_names_the_alternative(self, tmp_path):
        photo(tmp_path / "source/JPEGImages/a.jpg")
        with pytest.raises(DataError, match=r"no longer served.*trainval/\*\.mat"):
            prepare("pascal_context", tmp_path / "source", tmp_path / "data")
        with pytest.raises(DataError, match="holds no folder JPEGImages"):
            prepare("pascal_context", tmp_path, tmp_path / "data")

    def test_json_of_another_data_set_is_refused(self, tmp_path):
        photo(tmp_path / "source/JPEGImages/a.jpg")
        for text in ('{"images": []}', "[1]", '{"half', '{"annos_segmentation": [{}]}'):
            (tmp_path / "source/trainval_merged.json").write_text(text)
            with pytest.raises(DataError, match="is not PASCAL in Detail's file"):
                prepare("pascal_context", tmp_path / "source", tmp_path / "data")


# --- COCO-Stuff-10K -------------------------------------------------------------------------------


@pytest.fixture
def coco(tmp_path):
    """The unpacked archive in small: two training images, one test image."""
    source, ids = tmp_path / "cocostuff", {}
    possible = [i for i in range(183) if i not in NEVER_ANNOTATED]
    for number, stem in enumerate(("COCO_train2014_1", "COCO_train2014_2", "COCO_train2014_3")):
        rng = np.random.default_rng(number)
        ids[stem] = rng.choice(possible, SIZE).astype([np.uint8, np.uint16, np.float64][number])
        mode = ("RGB", "L", "CMYK")[number]  # COCO has grey photographs; CMYK is for the reader
        photo(source / f"images/{stem}.jpg", mode=mode)
        (source / "annotations").mkdir(exist_ok=True)
        savemat(
            source / f"annotations/{stem}.mat",
            {"S": ids[stem], "names": np.array(["unlabeled", "person"], object),
             "captions": np.array(["a caption"], object)},
            do_compression=number == 0,
        )  # fmt: skip
    (source / "imageLists").mkdir()
    (source / "imageLists/train.txt").write_text("COCO_train2014_1\nCOCO_train2014_3\n")
    (source / "imageLists/test.txt").write_text("COCO_train2014_2\n")
    return source, ids


class TestCocoStuff:
    def test_ids_become_classes_in_order(self):
        table = train_ids()
        assert (table >= 0).sum() == 172
        assert table[0] == 0
        assert table[182] == 171
        # by name, from labels.txt: 1 person, 13 stop sign, 90 toothbrush, 92 banner, 182 wood
        for raw, name in [(1, "person"), (13, "stop sign"), (90, "toothbrush"), (92, "banner"),
                          (149, "road"), (157, "sky-other"), (182, "wood")]:  # fmt: skip
            assert COCO_STUFF10K.class_names[table[raw] - 1] == name

    def test_mat_equals_a_pixel_loop(self, small, coco, tmp_path):
        dataset = small("coco_stuff10k", train=2, val=1)
        source, ids = coco
        root = prepare("coco_stuff10k", source, tmp_path / "data", jobs=2)
        known = [i for i in range(1, 183) if i not in NEVER_ANNOTATED]
        table = dataset.label_table(root)
        for split in ("train", "val"):
            for pair in dataset.load_index(root, split):
                image, label = read_pair(pair, table)
                assert image.shape == (*SIZE, 3)
                for y in range(SIZE[0]):
                    for x in range(SIZE[1]):
                        raw = int(ids[pair.image.stem][y, x])
                        assert label[y, x] == (255 if raw == 0 else known.index(raw))
        assert verify("coco_stuff10k", tmp_path / "data").ok

    def test_preparing_twice_gives_one_digest(self, small, coco, tmp_path):
        dataset = small("coco_stuff10k", train=2, val=1)
        roots = [prepare("coco_stuff10k", coco[0], tmp_path / name) for name in "ab"]
        digests = {content_digest(dataset, root, dataset.splits) for root in roots}
        assert len(digests) == 1
        # another compressor writes other bytes of the same picture
        label = dataset.load_index(roots[1], "val")[0].label
        pixels = read_label(label)
        before = label.read_bytes()
        Image.fromarray(pixels).save(label, compress_level=0)
        assert label.read_bytes() != before
        assert content_digest(dataset, roots[1], dataset.splits) in digests
        pixels[0, 0] ^= 1
        Image.fromarray(pixels).save(label)
        assert content_digest(dataset, roots[1], dataset.splits) not in digests

    def test_every_bad_file_is_named_and_mending_continues(self, small, coco, tmp_path):
        small("coco_stuff10k", train=2, val=1)
        source, ids = coco
        annotations = source / "annotations"
        good = {p.name: p.read_bytes() for p in annotations.iterdir()}
        wrong = ids["COCO_train2014_2"].copy()
        wrong[0, :2] = [12, 200]
        savemat(annotations / "COCO_train2014_2.mat", {"S": wrong})
        cut = annotations / "COCO_train2014_1.mat"
        cut.write_bytes(cut.read_bytes()[:200])
        (source / "images/COCO_train2014_3.jpg").rename(tmp_path / "away.jpg")
        with pytest.raises(PrepareError, match="3 of 6 files") as error:
            prepare("coco_stuff10k", source, tmp_path / "data")
        problems = "\n".join(error.value.problems)
        assert "COCO_train2014_2.mat holds the label 12, 200, which no class has" in problems
        assert "COCO_train2014_1.mat" in problems
        assert "COCO_train2014_3.jpg is not there" in problems
        assert not (tmp_path / "data/coco_stuff10k").exists()
        for name, data in good.items():
            (annotations / name).write_bytes(data)
        (tmp_path / "away.jpg").rename(source / "images/COCO_train2014_3.jpg")
        seen = []
        prepare("coco_stuff10k", source, tmp_path / "data", on_progress=lambda *n: seen.append(n))
        assert seen == [(6, 6)]
        assert [p.name for p in (tmp_path / "data").iterdir()] == ["coco_stuff10k"]

    def test_files_already_made_are_not_made_again(self, small, coco, tmp_path):
        small("coco_stuff10k", train=2, val=1)
        source, _ = coco
        broken = source / "annotations/COCO_train2014_2.mat"
        whole = broken.read_bytes()
        broken.write_bytes(b"")
        with pytest.raises(PrepareError):
            prepare("coco_stuff10k", source, tmp_path / "data")
        staging = tmp_path / "data/.coco_stuff10k.partial"
        made = {p: p.stat().st_mtime_ns for p in staging.rglob("*_labelTrainIds.png")}
        assert len(made) == 2
        broken.write_bytes(whole)
        root = prepare("coco_stuff10k", source, tmp_path / "data")
        for path, stamp in made.items():
            assert (root / path.relative_to(staging)).stat().st_mtime_ns == stamp

    @pytest.mark.parametrize(
        ("content", "sentence"),
        [
            ({"T": np.zeros((3, 3))}, "has no matrix 'S'"),
            ({"S": np.zeros((3, 3, 2))}, r"shape \(3, 3, 2\)"),
            ({"S": np.zeros((0, 0))}, r"shape \(0, 0\)"),
            ({"S": np.full((3, 3), 1.5)}, r"holds the label 1\.5"),
            ({"S": np.full((3, 3), -1)}, "holds the label -1"),
        ],
    )
    def test_strange_mat_files_are_one_sentence(self, tmp_path, content, sentence):
        savemat(tmp_path / "a.mat", content)
        task = LabelFromMat(tmp_path / "a.mat", tmp_path / "a.png", "S", train_ids())
        with pytest.raises(DataError, match=sentence):
            task.run()
        assert not (tmp_path / "a.png").exists()

    @pytest.mark.parametrize("size", [0, 10, 130, 170, 250])
    def test_truncated_mat_files_are_one_sentence(self, tmp_path, size):
        ids = np.random.default_rng(0).integers(0, 11, (30, 30))
        savemat(tmp_path / "a.mat", {"S": ids}, do_compression=True)
        data = (tmp_path / "a.mat").read_bytes()
        (tmp_path / "a.mat").write_bytes(data[:size])
        with pytest.raises(DataError, match=r"a\.mat"):
            LabelFromMat(tmp_path / "a.mat", tmp_path / "a.png", "S", train_ids()).run()

    def test_wrong_source_says_what_is_missing(self, tmp_path):
        (tmp_path / "images").mkdir()
        with pytest.raises(DataError, match=r"missing annotations, imageLists/train\.txt"):
            prepare("coco_stuff10k", tmp_path, tmp_path / "data")
        with pytest.raises(DataError, match="needs a source folder"):
            prepare("coco_stuff10k", None, tmp_path / "data")
        with pytest.raises(DataError, match="is not a folder"):
            prepare("coco_stuff10k", tmp_path / "absent", tmp_path / "data")


# --- taken over as they are -----------------------------------------------------------------------


@pytest.fixture
def ade(tmp_path):
    source = tmp_path / "ADEChallengeData2016"
    for split, stems in {"training": "abc", "validation": "d"}.items():
        for number, stem in enumerate(stems):
            photo(source / f"images/{split}/{stem}.jpg")
            ids = np.random.default_rng(number).integers(0, 151, SIZE)
            indexed(source / f"annotations/{split}/{stem}.png", ids)
    return source


class TestAsTheyAre:
    def test_ade20k(self, small, ade, tmp_path):
        dataset = small("ade20k", train=3, val=1)
        root = prepare("ade20k", ade, tmp_path / "data", jobs=2)
        pair = dataset.load_index(root, "train")[0]
        _, label = read_pair(pair, dataset.label_table(root))
        raw = np.asarray(Image.open(pair.label))
        assert ((label == 255) == (raw == 0)).all()
        assert (label[raw > 0] == raw[raw > 0] - 1).all()
        assert verify("ade20k", tmp_path / "data").ok
        digests = {content_digest(dataset, r, dataset.splits) for r in (root, ade)}
        assert len(digests) == 1
        with pytest.raises(DataError, match="already there"):
            prepare("ade20k", ade, tmp_path / "data")

    def test_ade20k_needs_all_its_images(self, ade, tmp_path):
        with pytest.raises(DataError, match=r"expected 20210 images .*found 3"):
            prepare("ade20k", ade, tmp_path / "data")
        assert not (tmp_path / "data/ade20k").exists()

    def test_names_and_their_number(self):
        assert (ADE20K.num_classes, ADE20K.class_names[0], ADE20K.class_names[149]) == (
            150, "wall", "flag",
        )  # fmt: skip

    def test_names_are_mmsegmentations(self):
        from mmseg.datasets import ADE20KDataset, COCOStuffDataset, PascalContextDataset59

        for ours, theirs in [
            (ADE20K, ADE20KDataset),
            (COCO_STUFF10K, COCOStuffDataset),
            (PASCAL_CONTEXT, PascalContextDataset59),
        ]:
            assert ours.class_names == tuple(theirs.METAINFO["classes"])

    def test_another_source_starts_anew(self, small, ade, tmp_path):
        small("ade20k", train=4, val=1)
        with pytest.raises(DataError, match="expected 4"):
            prepare("ade20k", ade, tmp_path / "data")
        other = shutil.copytree(ade, tmp_path / "other")
        for kind, suffix in (("images", "jpg"), ("annotations", "png")):
            (other / f"{kind}/training/a.{suffix}").unlink()
        small("ade20k", train=2, val=1)
        root = prepare("ade20k", other, tmp_path / "data")
        assert sorted(p.stem for p in (root / "images/training").iterdir()) == ["b", "c"]

    def test_a_source_file_is_never_written_through_its_link(self, ade, tmp_path):
        source, target = ade / "images/training/a.jpg", tmp_path / "to/a.jpg"
        photo(ade / "images/training/b.jpg", (5, 5))
        source.chmod(0o440)
        LinkFile(source, target).run()
        LinkFile(ade / "images/training/b.jpg", target).run()
        assert source.stat().st_mode & 0o777 == 0o440
        assert source.read_bytes() != target.read_bytes()

    def test_own_folder(self, tmp_path):
        source = tmp_path / "mine"
        for split in ("train", "val", "holdout"):
            photo(source / f"images/{split}/x.png")
            indexed(source / f"annotations/{split}/x_ids.png", np.full(SIZE, 2))
        description = {
            "class_names": ["road", "tree"], "image_suffix": ".png", "label_suffix": "_ids.png",
            "reduce_zero_label": True, "palette": [[1, 2, 3], [4, 5, 6]],
        }  # fmt: skip
        (source / "dataset.json").write_text(json.dumps(description))
        root = prepare("streets", source, tmp_path / "data")
        dataset = find("streets", tmp_path / "data")
        assert dataset.splits == ("holdout", "train", "val")
        assert dataset.palette == ((1, 2, 3), (4, 5, 6))
        _, label = read_pair(dataset.load_index(root, "val")[0], dataset.label_table(root))
        assert (label == 1).all()
        report = verify("streets", tmp_path / "data")
        assert report.ok
        assert report.pixels == {"road": 0, "tree": 3 * SIZE[0] * SIZE[1]}
        assert report.notes == ("No pixel of road.",)

    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            ("{", "is not JSON"),
            ("[]", "must hold an object"),
            ("{}", "class_names: Field required"),
            ('{"class_names": "road"}', "class_names: .* a valid list, not 'road'"),
            ('{"class_names": ["a", "a"]}', "different names"),
            ('{"class_names": ["a"], "palette": [[1, 2]]}', r"palette\.0: .* at least 3 items"),
            ('{"class_names": ["a"], "palette": [[1, 2, 300]]}', r"palette\.0\.2: .* 255, not 300"),
            ('{"class_names": ["a", "b"], "palette": [[1, 2, 3]]}', "palette must be one"),
            ('{"class_names": ["a"]}', "no folder images/val, only train"),
            ('{"class_name": ["a"]}', "Did you mean 'class_names'"),
        ],
    )
    def test_wrong_description_is_one_sentence(self, tmp_path, text, sentence):
        (tmp_path / "images/train").mkdir(parents=True)
        (tmp_path / "dataset.json").write_text(text)
        with pytest.raises((DataError, UnknownNameError), match=sentence):
            describe(tmp_path)

    def test_unknown_name(self, tmp_path):
        with pytest.raises(UnknownNameError, match="Did you mean 'ade20k'"):
            find("ade2k", tmp_path)
        (tmp_path / "mine").mkdir()
        with pytest.raises(DataError, match=r"has no dataset\.json"):
            find("mine", tmp_path)

    def test_scenes(self, tmp_path):
        assert prepare("scenes", None, tmp_path) == ensure(tmp_path)

    def test_interrupted_preparation_leaves_no_half_folder(self, small, ade, tmp_path, monkeypatch):
        small("ade20k", train=3, val=1)

        def stop(tasks):
            prepare_module._problem(tasks[0])
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(prepare_module, "_do", stop)
            with pytest.raises(KeyboardInterrupt):
                prepare("ade20k", ade, tmp_path / "data")
        assert not (tmp_path / "data/ade20k").exists()
        with pytest.raises(DataError, match="No ADE20K"):
            DATASETS["ade20k"].locate(tmp_path / "data")
        root = prepare("ade20k", ade, tmp_path / "data")
        assert sorted(p.name for p in root.iterdir()) == ["annotations", "images"]


# --- verify ---------------------------------------------------------------------------------------


def command(*arguments):
    call = [sys.executable, "-c", "from experiments.cli.data import app; app()", *arguments]
    return subprocess.run(call, capture_output=True, text=True, cwd=PROJECT, timeout=600)


@pytest.fixture
def camvid_copy(camvid_root, tmp_path):
    """The whole of CamVid as links, so that single files can be replaced."""
    root = tmp_path / "data/camvid"
    for file in camvid_root.rglob("*.*"):
        copy = root / file.relative_to(camvid_root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.symlink_to(file)
    return root


class TestVerify:
    @pytest.mark.slow
    def test_camvid_with_four_wrong_files_has_four_named_problems(self, camvid_copy, tmp_path):
        arguments = ("verify", "camvid", "--data-root", str(tmp_path / "data"),
                     "--results", str(tmp_path / "results"))  # fmt: skip
        whole = command(*arguments)
        assert whole.returncode == 0, whole.stdout + whole.stderr
        assert whole.stdout.rstrip().endswith("ok")
        assert f"digest   {content_digest(CAMVID, camvid_copy, CAMVID.splits)}" in whole.stdout
        labels = sorted((camvid_copy / "annotations/train").iterdir())[:3]
        images = sorted((camvid_copy / "images/val").iterdir())
        labels[0].unlink()
        data = labels[1].read_bytes()
        labels[1].unlink()
        labels[1].write_bytes(data[: len(data) // 2])
        raw = np.array(Image.open(labels[2]))
        labels[2].unlink()
        raw[3, 4] = 37
        Image.fromarray(raw).save(labels[2])
        images[0].unlink()
        Image.new("RGB", (470, 360)).save(images[0])
        broken = command(*arguments)
        assert broken.returncode == 1, broken.stdout + broken.stderr
        problems = [line for line in broken.stdout.splitlines() if line.startswith("problem: ")]
        assert len(problems) == 4
        text = "\n".join(problems)
        for stem, what in [
            (labels[0].stem, "has no annotation"),
            (labels[1].stem, "Cannot read the annotation"),
            (labels[2].stem, "holds the label 37; the 11 classes are 0 … 10"),
            (images[0].stem, "has 360×470 pixels, its annotation "),
        ]:
            assert any(stem in line and what in line for line in problems), text
        assert "Traceback" not in broken.stdout + broken.stderr
        assert "digest" not in broken.stdout

    @pytest.mark.parametrize("jobs", [1, 2])
    def test_bad_images_are_named(self, small, ade, jobs):
        small("ade20k", train=3, val=1)
        train = ade / "images/training"
        photo(train / "a.jpg", (60, 80))
        indexed(ade / "annotations/training/a.png", np.ones((60, 80)))
        data = (train / "a.jpg").read_bytes()
        (train / "a.jpg").write_bytes(data[: len(data) // 2])
        (train / "b.jpg").write_bytes(b"")
        seen = []
        report = verify("ade20k", ade, jobs, lambda *n: seen.append(n))
        assert not report.ok
        assert [p.split(": ")[0] for p in report.problems] == [
            f"Cannot read the image {train / 'a.jpg'}", f"Cannot read the image {train / 'b.jpg'}",
        ]  # fmt: skip
        assert report.digest is None
        assert seen[-1] == (4, 4)

    def test_turned_photograph_is_right_either_way(self, small, ade):
        small("ade20k", train=3, val=1)
        exif = Image.new("RGB", (1, 1)).getexif()
        exif[0x0112] = 8
        photo(ade / "images/training/a.jpg", exif=exif)  # its annotation fits the stored pixels
        photo(ade / "images/training/b.jpg", SIZE[::-1], exif=exif)  # fits the turned ones
        assert verify("ade20k", ade).problems == ()
        photo(ade / "images/training/b.jpg", SIZE[::-1])
        assert "has 9×7 pixels" in verify("ade20k", ade).problems[0]

    def test_colour_coded_labels_and_wrong_ids(self, small, ade):
        small("ade20k", train=3, val=1)
        folder = ade / "annotations/training"
        Image.new("RGB", SIZE[::-1]).save(folder / "a.png")
        indexed(folder / "b.png", np.full(SIZE, 151))
        problems = verify("ade20k", ade).problems
        assert len(problems) == 2
        assert "has the mode RGB" in problems[0]
        assert "holds the label 151; the 150 classes are 1 … 150" in problems[1]

    def test_numbers_of_images(self, small, ade):
        small("ade20k", train=5, val=1)
        (problem,) = verify("ade20k", ade).problems
        assert "train: expected 5 images" in problem
        assert "found 3" in problem

    def test_empty_split_of_an_own_folder(self, tmp_path):
        for kind in ("images", "annotations"):
            (tmp_path / f"mine/{kind}/val").mkdir(parents=True)
        photo(tmp_path / "mine/images/train/a.jpg")
        indexed(tmp_path / "mine/annotations/train/a.png", np.zeros(SIZE))
        (tmp_path / "mine/dataset.json").write_text('{"class_names": ["a"]}')
        (problem,) = verify("mine", tmp_path).problems
        assert "val holds no *.jpg file" in problem

    def test_scenes_that_were_touched(self, tmp_path):
        root = ensure(tmp_path, ScenesParameters(train=5, val=3, height=50, width=50))
        report = verify("scenes", tmp_path)
        assert report.ok
        assert report.counts == {"train": 5, "val": 3}
        label = root / "annotations/val/00001.png"
        pixels = np.array(Image.open(label))
        pixels[20, 20] = (pixels[20, 20] + 1) % 16
        Image.fromarray(pixels).save(label)
        (problem,) = verify("scenes", tmp_path).problems
        assert "is not what was made there" in problem

    def test_absent_data_set_is_one_sentence(self, tmp_path):
        with pytest.raises(DataError, match=r"No COCO-Stuff-10K in .*Unpack"):
            verify("coco_stuff10k", tmp_path)


class TestCommandLine:
    def test_list_says_what_is_there_and_how_to_get_the_rest(self, camvid_root):
        done = command("list", "--data-root", str(camvid_root.parent))
        assert done.returncode == 0
        for name in DATASETS:
            assert name in done.stdout
        assert f"in {camvid_root}" in done.stdout
        assert "20210 train + 2000 val" in done.stdout

    def test_prepare_names_every_problem(self, coco, tmp_path):
        source, _ = coco
        for stem in (1, 2):
            (source / f"annotations/COCO_train2014_{stem}.mat").write_bytes(b"x")
        done = command("prepare", "coco_stuff10k", "--source", str(source),
                       "--data-root", str(tmp_path / "data"))  # fmt: skip
        assert done.returncode == 1
        assert done.stdout.count("problem: ") == 2
        assert "Traceback" not in done.stdout + done.stderr
