"""Training and test items: the same bytes whatever the workers, processes and interruptions."""

import hashlib
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATA_SAMPLERS
from mmseg.models.data_preprocessor import SegDataPreProcessor
from mmseg.registry import DATASETS as MMSEG_DATASETS
from PIL import Image
from torch.utils.data import DataLoader

from ssa.datasets import CAMVID, SCENES, DataError
from ssa.datasets.pixels import read_image, read_label, read_pair
from ssa.datasets.sampler import IterationSampler, Token, WholeBatchSampler, item_generator
from ssa.datasets.segmentation import PairedFolder
from ssa.datasets.transforms import TestTransform, TrainTransform, distort, fitted_size
from ssa.errors import ConfigurationError, UnknownNameError

TRAIN = {"kind": "train", "scale": (72, 60), "crop_size": (48, 48)}
BATCH, ITERATIONS = 4, 9


@pytest.fixture(scope="module")
def training(small_scenes):
    return PairedFolder("scenes", small_scenes, "train", TRAIN, seed=5)


def fingerprint(item):
    digest = hashlib.sha256(item["inputs"].numpy().tobytes())
    digest.update(item["data_samples"].gt_sem_seg.data.numpy().tobytes())
    return digest.hexdigest()


def unbatched(batch):
    return [
        {"inputs": image, "data_samples": sample}
        for image, sample in zip(batch["inputs"], batch["data_samples"])
    ]


def loaded(dataset, sampler, workers=0):
    """Fingerprints of what a loader yields, by micro-batch."""
    loader = DataLoader(
        dataset,
        batch_size=sampler.micro_batch_size,
        sampler=sampler,
        num_workers=workers,
        collate_fn=pseudo_collate,
    )
    return [[fingerprint(item) for item in unbatched(batch)] for batch in loader]


@pytest.fixture(scope="module")
def undisturbed(training):
    """The global batches of a whole run in one process."""
    return loaded(training, IterationSampler(training, 5, BATCH, ITERATIONS))


class TestStatelessness:
    def test_batches_have_the_asked_shape(self, undisturbed):
        assert [len(batch) for batch in undisturbed] == [BATCH] * ITERATIONS
        # 36 items of 21 images: every one is augmented differently
        assert len({f for batch in undisturbed for f in batch}) == BATCH * ITERATIONS

    def test_workers_change_nothing(self, training, undisturbed):
        sampler = IterationSampler(training, 5, BATCH, ITERATIONS)
        assert loaded(training, sampler, workers=2) == undisturbed

    @pytest.mark.parametrize("world_size", [2, 4])
    def test_processes_share_every_global_batch(self, training, undisturbed, world_size):
        ranks = [
            loaded(
                training,
                IterationSampler(training, 5, BATCH, ITERATIONS, rank=rank, world_size=world_size),
            )
            for rank in range(world_size)
        ]
        assert [[f for part in parts for f in part] for parts in zip(*ranks)] == undisturbed

    @pytest.mark.parametrize(("world_size", "accumulation"), [(1, 2), (1, 4), (2, 2)])
    def test_accumulation_cuts_the_same_batch(
        self, training, undisturbed, world_size, accumulation
    ):
        ranks = [
            loaded(
                training,
                IterationSampler(
                    training, 5, BATCH, ITERATIONS,
                    accumulation=accumulation, rank=rank, world_size=world_size,
                ),
            )
            for rank in range(world_size)
        ]  # fmt: skip
        assert all(len(micro) == ITERATIONS * accumulation for micro in ranks)
        for t, batch in enumerate(undisturbed):
            parts = [micro[t * accumulation : (t + 1) * accumulation] for micro in ranks]
            assert [f for part in parts for micro in part for f in micro] == batch

    @pytest.mark.parametrize("start", [1, 5, 8])
    def test_resuming_continues_the_run(self, training, undisturbed, start):
        sampler = IterationSampler(training, 5, BATCH, ITERATIONS, start_iteration=start)
        assert len(sampler) == (ITERATIONS - start) * BATCH
        assert loaded(training, sampler, workers=2) == undisturbed[start:]

    def test_mmengines_own_resume_continues_the_run(self, training, undisturbed):
        from mmengine.runner.loops import _InfiniteDataloaderIterator

        loader = DataLoader(
            training,
            batch_size=BATCH,
            sampler=IterationSampler(training, 5, BATCH, ITERATIONS),
            collate_fn=pseudo_collate,
        )
        iterator = _InfiniteDataloaderIterator(loader)
        iterator.skip_iter(6)
        rest = [[fingerprint(i) for i in unbatched(next(iterator))] for _ in range(3)]
        assert rest == undisturbed[6:]

    def test_cache_changes_nothing(self, small_scenes, undisturbed):
        cached = PairedFolder("scenes", small_scenes, "train", TRAIN, seed=5, cache=True)
        assert loaded(cached, IterationSampler(cached, 5, BATCH, ITERATIONS)) == undisturbed
        assert loaded(cached, IterationSampler(cached, 5, BATCH, ITERATIONS)) == undisturbed
        assert len(pickle.dumps(cached)) < 100_000  # a spawned worker is not sent the pixels

    def test_packing_changes_nothing(self, small_scenes, undisturbed, tmp_path):
        def build():
            return PairedFolder(
                "scenes", small_scenes, "train", TRAIN, seed=5, packed=tmp_path, digest="d"
            )

        packed = build()
        sampler = IterationSampler(packed, 5, BATCH, ITERATIONS)
        assert loaded(packed, sampler, workers=2) == undisturbed
        (file,) = tmp_path.iterdir()
        stamp = file.stat().st_mtime_ns
        assert loaded(build(), sampler) == undisturbed
        assert file.stat().st_mtime_ns == stamp

    def test_an_item_needs_no_history(self, training, undisturbed):
        tokens = list(IterationSampler(training, 5, BATCH, ITERATIONS))
        assert fingerprint(training[tokens[30]]) == undisturbed[7][2]

    def test_global_random_state_is_neither_used_nor_changed(self, training, undisturbed):
        np.random.seed(1)  # noqa: NPY002
        torch.manual_seed(1)
        before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
        tokens = IterationSampler(training, 5, BATCH, 1)
        assert [fingerprint(training[token]) for token in tokens] == undisturbed[0]
        assert (np.random.get_state()[1] == before[0]).all()  # noqa: NPY002
        assert torch.equal(torch.get_rng_state(), before[1])

    def test_another_seed_is_another_run(self, training):
        one = [t.sample for t in IterationSampler(training, 5, BATCH, ITERATIONS)]
        other = [t.sample for t in IterationSampler(training, 6, BATCH, ITERATIONS)]
        assert one != other
        token = Token(0, 0, 0)
        assert item_generator(5, token).random() != item_generator(6, token).random()


class TestOrder:
    @settings(max_examples=40)
    @given(size=st.integers(1, 50), batch=st.integers(1, 12), seed=st.integers(0, 2**31))
    def test_every_pass_sees_every_sample_once(self, size, batch, seed):
        iterations = -(-3 * size // batch)
        tokens = list(IterationSampler(range(size), seed, batch, iterations))
        samples = [token.sample for token in tokens]
        for epoch in range(3):
            assert sorted(samples[epoch * size : (epoch + 1) * size]) == list(range(size))
        assert [(t.iteration, t.position) for t in tokens] == [
            (i, p) for i in range(iterations) for p in range(batch)
        ]

    def test_passes_differ(self):
        samples = [t.sample for t in IterationSampler(range(40), 0, 40, 2)]
        assert samples[:40] != samples[40:]

    def test_endless_stream(self):
        stream = iter(IterationSampler(range(3), 0, 2))
        assert [next(stream).iteration for _ in range(100)][-1] == 49
        assert len(IterationSampler(range(3), 0, 2)) == 3

    def test_uneven_batch_and_empty_data_are_refused(self):
        with pytest.raises(ConfigurationError, match="global batch of 5 cannot be divided"):
            IterationSampler(range(9), 0, 5, world_size=2, rank=0)
        with pytest.raises(ConfigurationError, match="global batch of 6"):
            IterationSampler(range(9), 0, 6, accumulation=4)
        with pytest.raises(ConfigurationError, match="empty"):
            IterationSampler([], 0, 4)

    def test_mmengine_builds_both_by_name(self, small_scenes):
        dataset = MMSEG_DATASETS.build(
            {"type": "PairedFolder", "dataset": "scenes", "root": str(small_scenes),
             "split": "train", "transform": TRAIN}
        )  # fmt: skip
        sampler = DATA_SAMPLERS.build(
            {"type": "IterationSampler", "batch_size": 4, "iterations": 2},
            default_args={"dataset": dataset, "seed": 3},
        )
        assert len(list(sampler)) == 8
        assert dataset.metainfo["classes"] == SCENES.class_names

    def test_sampler_and_transform_must_fit(self, training, small_scenes):
        with pytest.raises(ConfigurationError, match="tokens of IterationSampler"):
            training[0]
        test = PairedFolder("scenes", small_scenes, "val", {"kind": "test"})
        with pytest.raises(ConfigurationError, match="tokens of IterationSampler"):
            test[Token(0, 0, 0)]

    def test_wrong_transform_is_named(self, small_scenes):
        with pytest.raises(UnknownNameError, match="Did you mean 'train'"):
            PairedFolder("scenes", small_scenes, "train", {**TRAIN, "kind": "trian"})
        with pytest.raises(ConfigurationError, match="flop"):
            PairedFolder("scenes", small_scenes, "train", {**TRAIN, "flop": 1})


def tagged(height=40, width=56):
    """An image whose blue channel is its label, so that any misalignment shows."""
    label = (np.indices((height, width)).sum(0) // 7 % 5).astype(np.uint8)
    image = np.stack([label * 40] * 3, axis=-1)
    return image, label


class TestTrainTransform:
    @settings(max_examples=60)
    @given(seed=st.integers(0, 2**31), height=st.integers(8, 90), width=st.integers(8, 90))
    def test_image_and_label_stay_together(self, seed, height, width):
        transform = TrainTransform((64, 64), (32, 40), photometric=False)
        # A ramp that is its own label: off by more than the resampling's own few steps means that
        # the two were cropped, scaled or flipped differently.
        label = np.indices((height, width)).sum(0).astype(np.uint8)
        image = np.stack([label] * 3, axis=-1)
        image, label, _ = transform(image, label, np.random.default_rng(seed))
        assert image.shape[:2] == label.shape
        assert label.shape[0] <= 32
        assert label.shape[1] <= 40
        assert np.abs(image[..., 0].astype(int) - label).max() <= 5

    def test_flip_mirrors_both(self):
        image, label = tagged()
        shared = {"ratio_range": (1, 1), "photometric": False, "cat_max_ratio": 1.0}
        plain = TrainTransform((56, 40), (40, 56), flip=0.0, **shared)
        flipped = TrainTransform((56, 40), (40, 56), flip=1.0, **shared)
        a, b, facts = plain(image, label, np.random.default_rng(0))
        c, d, facts_flipped = flipped(image, label, np.random.default_rng(0))
        assert (a == image).all()
        assert (b == label).all()
        assert (c == image[:, ::-1]).all()
        assert (d == label[:, ::-1]).all()
        assert (facts["flip"], facts_flipped["flip"]) == (False, True)
        flips = [
            TrainTransform((56, 40), (40, 56))(image, label, np.random.default_rng(s))[2]["flip"]
            for s in range(300)
        ]
        assert 0.4 < np.mean(flips) < 0.6

    def test_crop_avoids_a_single_class(self):
        # The left nine tenths hold class 0 only: a plain crop would mostly show nothing else.
        label = np.zeros((40, 200), np.uint8)
        label[::2, 180:] = 1
        image = np.zeros((40, 200, 3), np.uint8)
        shared = {"ratio_range": (1, 1), "photometric": False, "flip": 0.0}

        def share(cat_max_ratio):
            transform = TrainTransform((200, 40), (40, 30), cat_max_ratio=cat_max_ratio, **shared)
            rngs = [np.random.default_rng(s) for s in range(200)]
            return np.mean([(transform(image, label, r)[1] == 1).any() for r in rngs])

        assert share(1.0) < 0.3
        assert share(0.75) > 2 * share(1.0)

    def test_ignored_pixels_do_not_count_as_a_class(self):
        label = np.full((30, 30), 255, np.uint8)
        label[:, :10], label[:, 10:14] = 0, 1
        transform = TrainTransform((30, 30), (30, 30), ratio_range=(1, 1), flip=0)
        _, cropped, _ = transform(np.zeros((30, 30, 3), np.uint8), label, np.random.default_rng(0))
        assert (cropped == label).all()

    def test_scales_cover_the_ratio_range(self):
        image, label = tagged(100, 100)
        transform = TrainTransform((100, 100), (400, 400), flip=0, photometric=False)
        sides = [transform(image, label, np.random.default_rng(s))[1].shape[0] for s in range(200)]
        assert min(sides) in range(50, 56)
        assert max(sides) in range(195, 201)


class TestAgainstMmsegmentation:
    @pytest.mark.parametrize("size", [(360, 480), (97, 131), (512, 100), (64, 64)])
    @pytest.mark.parametrize("scale", [(2048, 512), (480, 360), (520, 520)])
    def test_resize_gives_its_pixels(self, size, scale):
        from mmcv.transforms import Resize

        rng = np.random.default_rng(0)
        image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        label = rng.integers(0, 20, size, dtype=np.uint8)
        expected = Resize(scale=scale, keep_ratio=True)(
            {"img": image, "gt_seg_map": label, "seg_fields": ["gt_seg_map"]}
        )
        assert fitted_size(size, scale) == expected["img"].shape[:2]
        resized, _, _ = TestTransform(scale)(image, label)
        assert (resized == expected["img"]).all()
        transform = TrainTransform(scale, (4000, 4000), (1, 1), flip=0, photometric=False)
        _, target, _ = transform(image, label, rng)
        assert (target == expected["gt_seg_map"]).all()

    def test_distortion_gives_its_pixels_for_the_same_draws(self, monkeypatch):
        import mmseg.datasets.transforms.transforms as theirs

        class Replay:
            """numpy.random as mmsegmentation calls it, answering with the draws we logged."""

            def __init__(self, draws):
                self.draws = draws

            def randint(self, low, high=None):
                return self.draws["coins"].pop(0) if high is None else self.draws["hue"]

            def uniform(self, low, high):
                kind = {32: "brightness"}.get(high, "factors")
                return self.draws["brightness"] if kind == "brightness" else self.next_factor()

            def next_factor(self):
                return self.draws["factors"].pop(0)

        class Log:
            """A generator that notes what distort drew."""

            def __init__(self, seed):
                self.rng, self.calls = np.random.default_rng(seed), []

            def random(self):
                value = self.rng.random()
                self.calls.append(("coin", value < 0.5))
                return value

            def uniform(self, low, high):
                value = self.rng.uniform(low, high)
                self.calls.append(("brightness" if low < 0 else "factor", value))
                return value

            def integers(self, low, high):
                value = self.rng.integers(low, high)
                self.calls.append(("hue", int(value)))
                return value

        image = np.random.default_rng(9).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        changed = 0
        for seed in range(80):
            log = Log(seed)
            ours = distort(image, log)
            bright, first, contrast, saturate, hue = (v for k, v in log.calls if k == "coin")
            values = [v for k, v in log.calls if k == "factor"]
            factor = {}
            if contrast:
                factor["contrast"] = values.pop(0)
            if saturate:
                factor["saturation"] = values.pop(0)
            order = ["contrast", "saturation"] if first else ["saturation", "contrast"]
            middle = [contrast] if first else []
            last = [] if first else [contrast]
            coins = [bright, int(first), *middle, saturate, hue, *last]
            replay = Replay(
                {
                    "coins": [int(c) for c in coins],
                    "brightness": next((v for k, v in log.calls if k == "brightness"), None),
                    "hue": next((v for k, v in log.calls if k == "hue"), None),
                    "factors": [factor[name] for name in order if name in factor],
                }
            )
            monkeypatch.setattr(theirs, "random", replay)
            expected = theirs.PhotoMetricDistortion()({"img": image.copy()})["img"]
            assert (ours == expected).all(), seed
            changed += bool((ours != image).any())
        assert changed > 60

    def test_preprocessor_pads_with_ignored_pixels(self, small_scenes):
        dataset = PairedFolder(
            "scenes", small_scenes, "train",
            {"kind": "train", "scale": (72, 60), "crop_size": (64, 80), "ratio_range": (0.5, 0.9)},
        )  # fmt: skip
        loader = DataLoader(
            dataset, 4, sampler=IterationSampler(dataset, 0, 4, 1), collate_fn=pseudo_collate
        )
        (batch,) = loader
        sizes = [image.shape[1:] for image in batch["inputs"]]
        colours = [image[:, 0, 0].clone() for image in batch["inputs"]]
        preprocessor = SegDataPreProcessor(
            mean=[1.0, 2.0, 3.0], std=[1.0, 1.0, 1.0], bgr_to_rgb=True, size=(64, 80)
        )
        out = preprocessor(batch, training=True)
        assert out["inputs"].shape == (4, 3, 64, 80)
        for image, sample, (h, w), bgr in zip(out["inputs"], out["data_samples"], sizes, colours):
            label = sample.gt_sem_seg.data
            assert label.shape == (1, 64, 80)
            assert label.dtype == torch.int64
            assert (label[:, h:] == 255).all()
            assert (label[:, :, w:] == 255).all()
            assert (label[:, :h, :w] != 255).any()
            assert image[:, 0, 0].tolist() == (bgr.flip(0).float() - torch.arange(1, 4)).tolist()


class TestTestItems:
    def test_label_keeps_its_size_and_image_has_the_test_scale(self, small_scenes):
        dataset = PairedFolder(
            "scenes", small_scenes, "val", {"kind": "test", "scale": (100, 40), "multiple_of": 32}
        )
        item = dataset[2]
        sample = item["data_samples"]
        # 60×72 fits into (100, 40) as 40×48, rounded up to 64×64
        assert item["inputs"].shape == (3, 64, 64)
        assert item["inputs"].dtype == torch.uint8
        assert sample.gt_sem_seg.data.shape == (1, 60, 72)
        assert sample.gt_sem_seg.data.dtype == torch.uint8
        assert sample.ori_shape == (60, 72)
        assert sample.img_shape == (64, 64)
        raw = np.asarray(Image.open(dataset.pairs[2].label))
        assert (sample.gt_sem_seg.data[0].numpy() == raw).all()

    def test_items_do_not_share_memory_with_the_cache(self, small_scenes):
        dataset = PairedFolder("scenes", small_scenes, "val", {"kind": "test"}, cache=True)
        first = fingerprint(dataset[0])
        item = dataset[0]
        item["inputs"].zero_()
        item["data_samples"].gt_sem_seg.data.zero_()
        assert fingerprint(dataset[0]) == first

    def test_working_size_becomes_the_original(self, camvid_root):
        dataset = PairedFolder(
            "camvid", camvid_root, "val", {"kind": "test"}, working_size=(240, 180), limit=3
        )
        assert len(dataset) == 3
        item = dataset[0]
        assert item["inputs"].shape == (3, 180, 240)
        assert item["data_samples"].ori_shape == (180, 240)
        label = item["data_samples"].gt_sem_seg.data
        assert label.shape == (1, 180, 240)
        assert set(label.unique().tolist()) <= {*range(11), 255}

    def test_labels_of_a_real_training_run_are_classes(self, camvid_root):
        dataset = PairedFolder(
            "camvid", camvid_root, "train",
            {"kind": "train", "scale": (480, 360), "crop_size": (240, 320)},
        )  # fmt: skip
        for token in IterationSampler(dataset, 0, 4, 3):
            item = dataset[token]
            assert set(item["data_samples"].gt_sem_seg.data.unique().tolist()) <= {
                *range(CAMVID.num_classes), 255,
            }  # fmt: skip
            assert item["inputs"].shape[1:] == item["data_samples"].img_shape


class TestWholeBatches:
    @given(st.integers(0, 40), st.integers(1, 9), st.integers(1, 5))
    def test_processes_share_the_batches_of_one(self, images, batch, processes):
        samplers = [
            WholeBatchSampler(range(images), batch, rank=rank, world_size=processes)
            for rank in range(processes)
        ]
        assert sorted(i for sampler in samplers for i in sampler) == list(range(images))
        whole = [list(range(images))[i : i + batch] for i in range(0, images, batch)]
        for rank, sampler in enumerate(samplers):
            given_ = list(sampler)
            assert len(sampler) == len(given_)
            cut = [given_[i : i + batch] for i in range(0, len(given_), batch)]
            assert cut == whole[rank::processes]


class TestPacked:
    def packed(self, small_scenes, folder, **options):
        transform = {"kind": "test"}
        options = {"digest": "d", **options}
        return PairedFolder("scenes", small_scenes, "val", transform, packed=folder, **options)

    def test_test_items_are_the_same_and_read_no_file(self, small_scenes, tmp_path, monkeypatch):
        plain = PairedFolder("scenes", small_scenes, "val", {"kind": "test"})
        packed = self.packed(small_scenes, tmp_path)
        expected = [fingerprint(plain[i]) for i in range(len(plain))]
        monkeypatch.setattr("ssa.datasets.segmentation.read_pair", None)
        assert [fingerprint(packed[i]) for i in range(len(packed))] == expected

    def test_each_content_split_size_and_limit_has_its_own_file(self, small_scenes, tmp_path):
        for options in ({}, {"digest": "e"}, {"limit": 2}, {"working_size": (36, 30)}):
            self.packed(small_scenes, tmp_path, **options)
        assert len(list(tmp_path.iterdir())) == 4

    def test_processes_at_once_pack_once(self, tmp_path):
        folder = tmp_path / "packed"
        code = (
            "import sys, time; import numpy as np; from pathlib import Path\n"
            "from ssa.datasets.packed import pack\n"
            "def read(index):\n"
            "    time.sleep(0.2); print('read', flush=True)\n"
            "    return np.zeros((2, 3, 3), np.uint8), np.zeros((2, 3), np.uint8)\n"
            "print(pack(read, 3, Path(sys.argv[1]), 'k'))\n"
        )
        command = [sys.executable, "-c", code, str(folder)]
        processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
        said = [process.communicate(timeout=600)[0].split() for process in processes]
        (file,) = folder.iterdir()
        assert {words[-1] for words in said} == {str(file)}
        assert sum(words.count("read") for words in said) == 3

    def test_a_digest_is_needed(self, small_scenes, tmp_path):
        with pytest.raises(ConfigurationError, match="needs the digest"):
            self.packed(small_scenes, tmp_path, digest=None)

    @pytest.mark.parametrize("damage", [lambda d: d[:-1], lambda d: d[100:], lambda d: b""])
    def test_damaged_file_is_one_sentence(self, small_scenes, tmp_path, damage):
        self.packed(small_scenes, tmp_path)
        (file,) = tmp_path.iterdir()
        file.write_bytes(damage(file.read_bytes()))
        with pytest.raises(DataError, match="delete it"):
            self.packed(small_scenes, tmp_path)

    def test_unwritable_folder_is_one_sentence(self, small_scenes, tmp_path):
        (tmp_path / "plain").write_text("")
        with pytest.raises(DataError, match="Cannot pack"):
            self.packed(small_scenes, tmp_path / "plain")

    def test_unreadable_pair_leaves_nothing(self, small_scenes, tmp_path, monkeypatch):
        def fail(pair, table):
            raise DataError("unreadable")

        monkeypatch.setattr("ssa.datasets.segmentation.read_pair", fail)
        with pytest.raises(DataError, match="unreadable"):
            self.packed(small_scenes, tmp_path)
        assert list(tmp_path.iterdir()) == []


class TestPixels:
    def test_colours_are_bgr(self, tmp_path):
        Image.new("RGB", (4, 3), (10, 20, 30)).save(tmp_path / "a.png")
        assert read_image(tmp_path / "a.png").tolist() == [[[30, 20, 10]] * 4] * 3

    @pytest.mark.parametrize("mode", ["L", "CMYK", "RGB"])
    def test_grey_and_cmyk_photographs_have_three_channels(self, tmp_path, mode):
        Image.new("RGB", (16, 8), (200, 100, 50)).convert(mode).save(tmp_path / "a.jpg", quality=95)
        image = read_image(tmp_path / "a.jpg")
        assert image.shape == (8, 16, 3)
        expected = [124, 124, 124] if mode == "L" else [50, 100, 200]
        assert np.abs(image[0, 0].astype(int) - expected).max() <= 6

    def test_indexed_annotation_gives_its_indices(self, tmp_path):
        raw = np.arange(12, dtype=np.uint8).reshape(3, 4)
        file = Image.fromarray(raw, mode="P")
        file.putpalette([200 - i // 3 for i in range(600)])
        file.save(tmp_path / "a.png")
        assert (read_label(tmp_path / "a.png") == raw).all()

    @pytest.mark.parametrize("drawn_on", ["turned", "stored"])
    def test_exif_turned_photograph_fits_its_annotation(self, tmp_path, drawn_on):
        photo = Image.fromarray(np.arange(128, dtype=np.uint8).reshape(8, 16)).convert("RGB")
        exif = photo.getexif()
        exif[0x0112] = 6  # turn by 90° to show
        photo.save(tmp_path / "a.jpg", exif=exif, quality=100)
        shape = (16, 8) if drawn_on == "turned" else (8, 16)
        Image.fromarray(np.zeros(shape, np.uint8)).save(tmp_path / "a.png")
        table = np.arange(256, dtype=np.uint8)
        from ssa.datasets import Pair

        image, label = read_pair(Pair(tmp_path / "a.jpg", tmp_path / "a.png"), table)
        assert image.shape[:2] == label.shape == shape
        corner = image[0, -1, 0] if drawn_on == "turned" else image[0, 0, 0]
        assert corner < 20  # the stored top left corner is dark

    def test_unreadable_files_are_named(self, tmp_path):
        table = np.arange(256, dtype=np.uint8)
        from ssa.datasets import Pair

        Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg")
        Image.new("L", (9, 8)).save(tmp_path / "wide.png")
        Image.new("RGB", (8, 8)).save(tmp_path / "colour.png")
        Image.fromarray(np.random.default_rng(0).integers(0, 9, (90, 90), dtype=np.uint8)).save(
            tmp_path / "whole.png"
        )
        (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:300])
        (tmp_path / "empty.jpg").write_bytes(b"")
        (tmp_path / "text.jpg").write_text("not an image")
        for image, label, sentence in [
            ("a.jpg", "wide.png", r"a\.jpg has 8×8 pixels, its annotation .*wide\.png 8×9"),
            ("a.jpg", "colour.png", r"colour\.png has the mode RGB"),
            ("a.jpg", "cut.png", r"Cannot read the annotation .*cut\.png"),
            ("a.jpg", "absent.png", r"Cannot read the annotation .*absent\.png"),
            ("empty.jpg", "wide.png", r"Cannot decode the image .*empty\.jpg"),
            ("text.jpg", "wide.png", r"Cannot decode the image .*text\.jpg"),
            ("absent.jpg", "wide.png", r"Cannot read the image .*absent\.jpg: No such file"),
        ]:
            with pytest.raises(DataError, match=sentence):
                read_pair(Pair(tmp_path / image, tmp_path / label), table)
