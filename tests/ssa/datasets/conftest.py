"""One small scenes folder for all data tests; a CamVid made here, and the real one where it is."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssa.datasets import CAMVID, ScenesParameters
from ssa.datasets.scenes import ensure

SMALL = ScenesParameters(seed=3, train=21, val=6, height=60, width=72)
REAL_CAMVID = Path(__file__).resolve().parents[4] / "shared" / "data" / "camvid"


@pytest.fixture(scope="session")
def small_scenes(tmp_path_factory):
    return ensure(tmp_path_factory.mktemp("data"), SMALL)


@pytest.fixture(scope="session", params=["made", "real"] if REAL_CAMVID.is_dir() else ["made"])
def camvid_root(request, tmp_path_factory):
    if request.param == "real":
        return REAL_CAMVID
    return make_camvid(tmp_path_factory.mktemp("made") / "camvid")


def make_camvid(root):
    """As many files as CamVid has, of its sizes, names and labels; four pictures by hard links."""
    generator = np.random.default_rng(0)
    folders = CAMVID.layouts[0].folders
    for kind in (kind for pair in folders.values() for kind in pair):
        (root / kind).mkdir(parents=True)
    values = np.array([*range(CAMVID.num_classes), 255], np.uint8)
    for number in range(4):
        blocks = values[generator.integers(0, len(values), (18, 24))]
        image = generator.integers(0, 256, (18, 24, 3), dtype=np.uint8)
        label = Image.fromarray(blocks).resize((480, 360), Image.Resampling.NEAREST)
        picture = Image.fromarray(image).resize((480, 360), Image.Resampling.BILINEAR)
        for split, (images, labels) in folders.items():
            for made, folder, suffix in ((picture, images, "jpg"), (label, labels, "png")):
                first = root / folder / f"{number:06}_{split}.{suffix}"
                made.save(first)
                for copy in range(number + 4, CAMVID.counts[split], 4):
                    os.link(first, first.with_name(f"{copy:06}_{split}.{suffix}"))
    return root
