"""Clothing Co-Parsing and the VOC 2012 subset: made from small files in the originals' formats."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from ssa.datasets import CCP, DATASETS, VOC_SUBSET, DataError
from ssa.datasets.frequent import FREQUENT, LEAST_PICTURES
from ssa.datasets.pixels import read_image, read_label, read_pair
from ssa.datasets.prepare import PrepareError, prepare
from ssa.datasets.reduced import (
    CCP_SHARE,
    TOLERANCE,
    names_of,
    plan_ccp,
    plan_voc_subset,
    reduced_label,
    reduced_size,
)
from ssa.datasets.verify import verify
from ssa.errors import Remedy

REAL = Path(__file__).resolve().parents[4] / "shared" / "data"
HEIGHT, WIDTH = 50, 35  # 2.5 times 20×14
KINDS = 4


def real(name):
    """Marks a test of the real data; `data prepare` makes them from the originals."""
    reason = f"{REAL / name} is not there; bring a copy: ./run_all.sh data prepare {name}"
    return pytest.mark.skipif(not (REAL / name).is_dir(), reason=reason)


def smooth(seed, height=HEIGHT, width=WIDTH):
    """A photograph without a sharp edge, (H, W, 3) RGB."""
    rng = np.random.default_rng(seed)
    few = Image.fromarray(rng.integers(0, 256, (4, 3, 3), dtype=np.uint8))
    return np.asarray(few.resize((width, height), Image.Resampling.BICUBIC))


def averaged(image, pixel=5, copies=2):
    """The average over blocks of 2.5 pixels: 5 of the halves of pixels, counted one by one."""
    fine = image.astype(float).repeat(copies, 0).repeat(copies, 1)
    rows, columns = fine.shape[0] // pixel, fine.shape[1] // pixel
    return fine.reshape(rows, pixel, columns, pixel, 3).mean((1, 3))


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """As many files as the repository has, of four pictures by hard links, and their masks."""
    source = tmp_path_factory.mktemp("clothing")
    photos, masks = source / "photos", source / "annotations" / "pixel-level"
    photos.mkdir()
    masks.mkdir(parents=True)
    stems = [stem for split in CCP.splits for stem in names_of("ccp", split)]
    ids = []
    for kind in range(KINDS):
        rng = np.random.default_rng(kind)
        ids.append(rng.integers(0, 59, (HEIGHT, WIDTH)).astype(np.uint8))
        Image.fromarray(smooth(kind)).save(photos / f"{stems[kind]}.jpg", quality=100)
        savemat(masks / f"{stems[kind]}.mat", {"groundtruth": ids[kind]})
        for stem in stems[kind + KINDS :: KINDS]:
            os.link(photos / f"{stems[kind]}.jpg", photos / f"{stem}.jpg")
            os.link(masks / f"{stems[kind]}.mat", masks / f"{stem}.mat")
    return source, {stem: kind % KINDS for kind, stem in enumerate(stems)}, ids


@pytest.fixture(scope="module")
def ccp(originals, tmp_path_factory):
    return prepare("ccp", originals[0], tmp_path_factory.mktemp("data"))


def test_the_splits_part_the_originals_numbers():
    stems = [stem for split in CCP.splits for stem in names_of("ccp", split)]
    assert sorted(stems) == [f"{number:04d}" for number in range(1, 1005)]
    train, test = (names_of("voc_subset", split) for split in ("train", "test"))
    assert not set(train) & set(test)


@pytest.mark.parametrize("name", ["ccp", "voc_subset"])
def test_the_split_lists_are_as_long_as_the_description_says(name):
    dataset = DATASETS[name]
    assert {s: len(set(names_of(name, s))) for s in dataset.splits} == dataset.counts
    assert dataset.evaluation_split == "test"
    assert dataset.palette[0] == (0, 0, 0)
    assert dataset.palette[1:4] == ((128, 0, 0), (0, 128, 0), (128, 128, 0))  # VOC's rule


@pytest.mark.parametrize(
    ("full", "share", "small"),
    [
        ((375, 500), 0.5, (188, 250)),  # 187.5 and 166.5: half to even
        ((333, 500), 0.5, (166, 250)),
        ((825, 550), 0.4, (330, 220)),
        ((1, 2), 0.4, (1, 1)),
    ],
)
def test_sides_are_rounded(full, share, small):
    assert reduced_size(*full, share) == small


def test_every_photograph_becomes_its_area_average(ccp, originals):
    source, kinds, _ = originals
    worst = 0.0
    for pair in CCP.load_index(ccp, "val")[: 2 * KINDS]:
        photo = np.asarray(Image.open(source / "photos" / pair.image.name).convert("RGB"))
        expected = averaged(photo)
        made = read_image(pair.image)[..., ::-1]
        assert made.shape == (20, 14, 3)
        worst = max(worst, np.abs(made - expected).mean())
    assert 0 < worst < TOLERANCE
    assert set(kinds.values()) == set(range(KINDS))


def test_every_mask_keeps_the_class_under_the_centre_of_each_pixel(ccp, originals):
    _, kinds, ids = originals
    table = CCP.label_table(ccp)
    for pair in CCP.load_index(ccp, "test")[: 2 * KINDS]:
        _, label = read_pair(pair, table)
        full = ids[kinds[pair.image.stem]]
        for y in range(20):
            for x in range(14):
                assert label[y, x] == full[int((y + 0.5) * 2.5), int((x + 0.5) * 2.5)]


def test_a_prepared_copy_is_verified(ccp):
    report = verify("ccp", ccp.parent)
    assert report.ok, report.problems
    assert report.counts == {"train": 704, "val": 100, "test": 200}
    assert report.digest


def test_a_class_is_never_mixed_into_another():
    labels = np.zeros((10, 10), np.uint8)
    labels[:, 5:] = 40
    assert set(np.unique(reduced_label(labels, CCP_SHARE))) == {0, 40}


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda ids: {"groundtruth": np.where(ids == ids[0, 0], 59, ids)}, "holds the label 59"),
        (lambda ids: {"groundtruth": ids[:-1]}, r"has 50×35 pixels, its annotation .* 49×35"),
        (lambda ids: {"tags": ids}, "has no matrix 'groundtruth'"),
    ],
    ids=["no class", "other size", "other file"],
)
def test_a_wrong_mask_is_named(originals, tmp_path, spoil, sentence):
    source, _, ids = originals
    task = next(t for t in plan_ccp(source, tmp_path) if hasattr(t, "variable"))
    bad = tmp_path / "0001.mat"
    savemat(bad, spoil(ids[0]))
    with pytest.raises(DataError, match=sentence):
        type(task)(**{**vars(task), "source": bad}).run()
    assert not task.target.exists()


def test_an_absent_photograph_is_named_and_preparing_continues(originals, tmp_path):
    source = tmp_path / "copy"
    (source / "annotations").mkdir(parents=True)
    masks = source / "annotations" / "pixel-level"
    masks.symlink_to(originals[0] / "annotations" / "pixel-level")
    (source / "photos").mkdir()
    names = sorted(path.name for path in (originals[0] / "photos").iterdir())
    for name in names[1:]:
        os.link(originals[0] / "photos" / name, source / "photos" / name)
    with pytest.raises(PrepareError, match=rf"2 of 2008 files .*{names[0]}"):
        prepare("ccp", source, tmp_path / "data")
    os.link(originals[0] / "photos" / names[0], source / "photos" / names[0])
    CCP.check(prepare("ccp", source, tmp_path / "data"))


def voc(root):
    """VOC's and SBD's folders with two images each of the training and the test split."""
    home, extra = root / "VOCdevkit" / "VOC2012", root / "benchmark_RELEASE" / "dataset" / "cls"
    for folder in (home / "JPEGImages", home / "SegmentationClass", extra):
        folder.mkdir(parents=True)
    ids = {}
    chosen = [(s, stem) for s in VOC_SUBSET.splits for stem in names_of("voc_subset", s)[:2]]
    for number, (split, stem) in enumerate(chosen):
        size = (15 + number, 20)
        ids[stem] = np.random.default_rng(number).integers(0, 21, size).astype(np.uint8)
        Image.fromarray(smooth(number, *size)).save(home / "JPEGImages" / f"{stem}.jpg")
        if split == "train":
            content = {"Segmentation": ids[stem], "CategoriesPresent": np.array([[1.0]])}
            savemat(extra / f"{stem}.mat", {"GTcls": content})
        else:
            ids[stem][:3] = 255
            file = Image.fromarray(ids[stem], mode="P")
            file.putpalette([i * 7 % 256 for i in range(768)])
            file.save(home / "SegmentationClass" / f"{stem}.png")
    return ids


def test_voc_takes_each_splits_own_masks_at_half_size(tmp_path):
    ids = voc(tmp_path / "source")
    tasks = plan_voc_subset(tmp_path / "source", tmp_path / "made")
    assert len(tasks) == 2 * (2694 + 882)
    for task in tasks:
        if task.target.stem in ids:
            task.run()
    for split in VOC_SUBSET.splits:
        for stem in names_of("voc_subset", split)[:2]:
            full = ids[stem]
            label = read_label(tmp_path / "made" / "annotations" / split / f"{stem}.png")
            height, width = round(full.shape[0] / 2), full.shape[1] // 2
            assert label.shape == (height, width)
            ratio = full.shape[0] / height
            for y in range(height):
                for x in range(width):
                    assert label[y, x] == full[int((y + 0.5) * ratio), 2 * x + 1]
            image = read_image(tmp_path / "made" / "images" / split / f"{stem}.jpg")
            assert image.shape == (height, width, 3)
            assert (255 in label) == (split == "test")


def test_sbds_masks_have_no_border(tmp_path):
    ids = voc(tmp_path / "source")
    stem = names_of("voc_subset", "train")[0]
    ids[stem][0, 0] = 255
    mask = tmp_path / "source" / "benchmark_RELEASE" / "dataset" / "cls" / f"{stem}.mat"
    savemat(mask, {"GTcls": {"Segmentation": ids[stem]}})
    tasks = plan_voc_subset(tmp_path / "source", tmp_path / "made")
    (task,) = (t for t in tasks if t.target.name == f"{stem}.png")
    with pytest.raises(DataError, match="holds the label 255"):
        task.run()
    savemat(mask, {"GTcls": {"Boundaries": ids[stem]}})
    with pytest.raises(DataError, match=r"has no matrix 'GTcls\.Segmentation'"):
        task.run()


@pytest.mark.parametrize(
    ("name", "missing", "published"),
    [
        ("ccp", "photos, annotations/pixel-level", "github.com/bearpaw/clothing-co-parsing"),
        ("voc_subset", "JPEGImages, SegmentationClass, SBD's folder cls", "host.robots.ox.ac.uk"),
    ],
)
def test_what_is_missing_is_named_with_where_it_is_published(name, missing, published, tmp_path):
    with pytest.raises(DataError, match=f"missing {missing}.*{published}") as error:
        prepare(name, tmp_path, tmp_path / "data")
    assert error.value.remedy == Remedy("prepare", name)
    with pytest.raises(DataError, match=rf"No {DATASETS[name].title} in .*{published}") as error:
        DATASETS[name].locate(tmp_path)
    assert error.value.remedy == Remedy("prepare", name)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=real(name)) for name in ("ccp", "voc_subset")]
)
def test_the_real_copy_holds_the_names_of_the_lists(name):
    root = DATASETS[name].locate(REAL)
    DATASETS[name].check(root)
    for split in DATASETS[name].splits:
        pairs = DATASETS[name].load_index(root, split)
        assert [pair.image.stem for pair in pairs] == names_of(name, split)


@real("ccp")
def test_the_frequent_classes_are_those_that_twenty_pictures_show():
    root = CCP.locate(REAL)
    pictures = np.zeros(CCP.num_classes, int)
    for split in CCP.splits:
        for pair in CCP.load_index(root, split):
            pictures[np.unique(read_label(pair.label))] += 1
    assert (pictures > 0).sum() == 55
    frequent = np.flatnonzero(pictures >= LEAST_PICTURES)
    assert FREQUENT["ccp"] == tuple(CCP.class_names[k] for k in frequent)
    assert len(frequent) == 42
