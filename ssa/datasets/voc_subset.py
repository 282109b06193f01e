"""A subset of PASCAL VOC 2012 that leans to animals, with SBD's extra masks; not PASCAL-Context.

Trained on SBD's masks, which have no border pixels; scored on VOC's own, whose borders (255) count
nowhere. Which images belong to it is kept by their VOC names (``splits/voc_subset``). Everything is
reduced to half. No number measured on it compares with a published one.
"""

from __future__ import annotations

from ssa.datasets.base import DataSet, Layout, register
from ssa.datasets.palette import colours

_SPLITS = ("train", "test")

# fmt: off
_NAMES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair",
    "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
    "train", "tvmonitor",
)
# fmt: on

VOC_SUBSET = register(
    DataSet(
        name="voc_subset",
        title="VOC 2012 subset",
        class_names=_NAMES,
        palette=((0, 0, 0), *colours(len(_NAMES) - 1)),  # VOC's own
        counts={"train": 2694, "test": 882},
        layouts=(
            Layout(
                name="mmsegmentation",
                folders={s: (f"images/{s}", f"annotations/{s}") for s in _SPLITS},
                converted=True,
            ),
        ),
        folders=("voc_subset",),
        obtain=(
            "Unpack VOCtrainval_11-May-2012.tar (host.robots.ox.ac.uk/pascal/VOC/voc2012; the "
            "photographs are Flickr's, under its terms of use) and beside it the benchmark.tgz of "
            "the Semantic Boundaries Dataset (home.bharathh.info/pubs/codes/SBD; for research), "
            "then prepare it from that folder; or bring your own copy at half size as "
            "images/{train,test} + annotations/{train,test} in a folder voc_subset under the "
            "data root."
        ),
        evaluation_split="test",
    )
)
