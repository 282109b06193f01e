"""Images a second of the training pipeline, against mmsegmentation's own transforms.

    ./run_all.sh bench loading                     # photographs made here, ADE20K's protocol
    ./run_all.sh bench loading camvid --root ../shared/data/camvid --scale 480 360 --crop 360 360

Each variant loads the same images through the same number of DataLoader workers, several times in
turn; medians are reported, and ratios of neighbours, so that a busy machine disturbs all alike.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sized
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from benchmarks.record import Benchmark, Clock, Figure
from ssa.datasets import DataSet, Layout, find
from ssa.datasets.digest import content_digest
from ssa.datasets.palette import colours
from ssa.datasets.sampler import IterationSampler
from ssa.datasets.segmentation import PairedFolder

BATCH = 8
BASE = "mmsegmentation"
GOAL = 1.5  # times its images a second


class Mmsegmentation(Dataset[Any]):
    """The same pairs through mmsegmentation's pipeline of the published configurations."""

    def __init__(self, ours: PairedFolder, scale: tuple[int, int], crop: tuple[int, int]) -> None:
        from mmcv.transforms import Compose
        from mmseg.registry import TRANSFORMS
        from mmseg.utils import register_all_modules

        register_all_modules(init_default_scope=True)
        steps: list[dict[str, Any]] = [
            {"type": "LoadImageFromFile"},
            {"type": "LoadAnnotations", "reduce_zero_label": ours.description.reduce_zero_label},
            {"type": "RandomResize", "scale": scale, "ratio_range": (0.5, 2.0), "keep_ratio": True},
            {"type": "RandomCrop", "crop_size": crop, "cat_max_ratio": 0.75},
            {"type": "RandomFlip", "prob": 0.5},
            {"type": "PhotoMetricDistortion"},
            {"type": "PackSegInputs"},
        ]
        self.transform = Compose([TRANSFORMS.build(step) for step in steps])
        self.reduce_zero_label = ours.description.reduce_zero_label
        self.pairs = ours.pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, token: Any) -> Any:
        image, label = self.pairs[token.sample]
        return self.transform(
            {
                "img_path": str(image),
                "seg_map_path": str(label),
                "reduce_zero_label": self.reduce_zero_label,
                "seg_fields": [],
                "label_map": None,
            }
        )


def images_per_second(dataset: Dataset[Any], images: int, workers: int) -> float:
    """One measurement; the workers' start is not counted."""
    warm = BATCH * max(2 * workers, 1)
    sampler = IterationSampler(
        cast(Sized, dataset), 0, BATCH, iterations=(images + warm) // BATCH, rank=0, world_size=1
    )
    loader = DataLoader(
        dataset,
        batch_size=BATCH,
        sampler=sampler,
        num_workers=workers,
        collate_fn=pseudo_collate,
        worker_init_fn=_single_thread,
    )
    _single_thread(0)
    stream = iter(loader)
    for _ in range(warm // BATCH):
        next(stream)
    start, batches = time.perf_counter(), sum(1 for _ in stream)
    return batches * BATCH / (time.perf_counter() - start)


def _single_thread(worker: int) -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(0)  # mmengine's default for its workers


def make_photographs(root: Path, width: int, height: int, count: int) -> DataSet:
    """A data set of smooth noise in JPEG at quality 92, and labels in large regions."""
    rng = np.random.default_rng(0)
    for folder in ("images/train", "annotations/train"):
        (root / folder).mkdir(parents=True)
    for index in range(count):
        coarse = rng.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
        smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(int)
        image = np.clip(smooth + rng.normal(0, 12, smooth.shape), 0, 255).astype(np.uint8)
        Image.fromarray(image).save(root / f"images/train/{index}.jpg", quality=92)
        blocks = rng.integers(1, 151, (height // 60 + 1, width // 60 + 1), dtype=np.uint8)
        label = np.asarray(cv2.resize(blocks, (width, height), interpolation=cv2.INTER_NEAREST))
        Image.fromarray(label).save(root / f"annotations/train/{index}.png")
    layout = Layout("made", {"train": ("images/train", "annotations/train")})
    names = tuple(map(str, range(150)))
    return DataSet(
        "made", "made", names, colours(150), {}, (layout,), (), "", reduce_zero_label=True
    )


def measure(
    pairs: Callable[..., PairedFolder],
    setting: Mapping[str, Any],
    digest: str,
    folder: Path,
) -> list[dict[str, Any]]:
    """Every variant and number of workers in turn, round after round; one row each.

    Args:
        pairs: makes the data set, with ``packed`` and ``digest`` if they are given.
        setting: ``scale crop images rounds workers``.
        digest: of the data set's content.
        folder: where the packed copy is made.
    """
    start = time.perf_counter()
    packed = pairs(packed=folder, digest=digest)
    packing_s = time.perf_counter() - start
    variants: dict[str, Dataset[Any]] = {
        BASE: Mmsegmentation(pairs(), setting["scale"], setting["crop"]),
        "files": pairs(),
        "packed": packed,
    }
    rows = []
    for workers in setting["workers"]:
        rounds: dict[str, list[float]] = {name: [] for name in variants}
        for _ in range(setting["rounds"]):
            for name, variant in variants.items():
                rounds[name].append(images_per_second(variant, setting["images"], workers))
        for name, values in rounds.items():
            # neighbours in time are compared, so that a busy machine disturbs both alike
            ratios = [ours / theirs for ours, theirs in zip(values, rounds[BASE])]
            row: dict[str, Any] = {
                "variant": name,
                "workers": workers,
                "images_per_second": round(statistics.median(values), 1),
                "lowest": round(min(values), 1),
                "highest": round(max(values), 1),
                "times_mmsegmentation": round(statistics.median(ratios), 2),
            }
            if name == "packed":
                row["packing_s"] = round(packing_s, 2)
            rows.append(row)
    return rows


def main(arguments: list[str] | None = None) -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.loading", description=__doc__.split("\n", maxsplit=1)[0]
    )
    parser.add_argument("name", nargs="?", help="a registered data set; without: see --made")
    parser.add_argument("--root", type=Path, help="its folder")
    parser.add_argument(
        "--made", metavar="WIDTHxHEIGHT", default="640x480", help="photographs made here"
    )
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    parser.add_argument("--split", default="train")
    parser.add_argument("--scale", type=int, nargs=2, default=(2048, 512))
    parser.add_argument("--crop", type=int, nargs=2, default=(512, 512))
    parser.add_argument("--images", type=int, default=200, help="images a measurement")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, nargs="+", default=[1])
    parser.add_argument("--limit", type=int, default=200, help="different images")
    given = parser.parse_args(arguments)
    if given.name and not given.root:
        parser.error("give the data set's folder with --root")
    setting = {
        "data": given.name or f"made {given.made}",
        "scale": tuple(given.scale),
        "crop": tuple(given.crop),
        "batch": BATCH,
        "images": given.images,
        "different_images": given.limit,
        "rounds": given.rounds,
        "workers": given.workers,
    }
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        root = given.root or Path(folder) / "made"
        if given.name:
            dataset = find(given.name, root.parent)
        else:
            width, height = map(int, given.made.split("x"))
            dataset = make_photographs(root, width, height, count=60)
        digest = content_digest(dataset, root, (given.split,))
        transform = {"kind": "train", "scale": setting["scale"], "crop_size": setting["crop"]}

        def pairs(**options: Any) -> PairedFolder:
            return PairedFolder(dataset, root, given.split, transform, limit=given.limit, **options)

        rows = measure(pairs, setting, digest, Path(folder) / "packed")
    for row in rows:
        print(json.dumps(row), flush=True)
    record = Benchmark(
        benchmark="loading",
        part=given.name or "made",
        title=f"Images a second of one worker, {setting['data']}",
        command="./run_all.sh bench loading" + (f" {given.name} --root DIR" if given.name else ""),
        setting=setting | {"opencv": cv2.__version__},
        machine=clock.machine(),
        figures=tuple(_figures(rows)),
        details=rows,
    )
    print(f"Written: {record.write(given.out)}")


def _figures(rows: list[dict[str, Any]]) -> Iterator[Figure]:
    for row in rows:
        name, times = f"{row['variant']}, {row['workers']} workers", row["times_mmsegmentation"]
        yield Figure(
            name=name,
            value=row["images_per_second"],
            unit="images/s",
            low=row["lowest"],
            high=row["highest"],
            better="higher",
        )
        if row["variant"] != BASE:
            yield Figure(name=name, value=times, unit="×", beside=BASE, better="higher", goal=GOAL)


if __name__ == "__main__":
    main()
