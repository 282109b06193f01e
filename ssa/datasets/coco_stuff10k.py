"""COCO-Stuff-10K, version 1.1: 171 classes, from its .mat annotations.

Ids and names are those of the data set's own labels.txt (0 unlabelled, 1 person … 182 wood). Eleven
of the 182 ids name COCO categories that were never annotated; the other 171 are the classes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ssa.datasets.base import DataError, DataSet, Layout, register
from ssa.datasets.convert import LabelFromMat, LinkFile, Task, unlisted
from ssa.datasets.palette import colours
from ssa.errors import Remedy

NEVER_ANNOTATED = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)
_LAST_ID = 182

# fmt: off
_NAMES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat",
    "traffic light", "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog",
    "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella",
    "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball", "kite",
    "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich",
    "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch",
    "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote",
    "keyboard", "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "book",
    "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush", "banner", "blanket",
    "branch", "bridge", "building-other", "bush", "cabinet", "cage", "cardboard", "carpet",
    "ceiling-other", "ceiling-tile", "cloth", "clothes", "clouds", "counter", "cupboard",
    "curtain", "desk-stuff", "dirt", "door-stuff", "fence", "floor-marble", "floor-other",
    "floor-stone", "floor-tile", "floor-wood", "flower", "fog", "food-other", "fruit",
    "furniture-other", "grass", "gravel", "ground-other", "hill", "house", "leaves", "light",
    "mat", "metal", "mirror-stuff", "moss", "mountain", "mud", "napkin", "net", "paper",
    "pavement", "pillow", "plant-other", "plastic", "platform", "playingfield", "railing",
    "railroad", "river", "road", "rock", "roof", "rug", "salad", "sand", "sea", "shelf",
    "sky-other", "skyscraper", "snow", "solid-other", "stairs", "stone", "straw",
    "structural-other", "table", "tent", "textile-other", "towel", "tree", "vegetable",
    "wall-brick", "wall-concrete", "wall-other", "wall-panel", "wall-stone", "wall-tile",
    "wall-wood", "water-other", "waterdrops", "window-blind", "window-other", "wood",
)
# fmt: on

COCO_STUFF10K = register(
    DataSet(
        name="coco_stuff10k",
        title="COCO-Stuff-10K",
        class_names=_NAMES,
        palette=colours(len(_NAMES)),
        counts={"train": 9000, "val": 1000},
        layouts=(
            Layout(
                name="mmsegmentation",
                folders={
                    "train": ("images/train2014", "annotations/train2014"),
                    "val": ("images/test2014", "annotations/test2014"),
                },
                label_suffix="_labelTrainIds.png",
                converted=True,
            ),
        ),
        folders=("coco_stuff10k",),
        obtain=(
            "Unpack cocostuff-10k-v1.1.zip (github.com/nightrome/cocostuff10k), then prepare it "
            "from the folder that holds images, annotations and imageLists."
        ),
        reduce_zero_label=True,
    )
)


def train_ids() -> np.ndarray:
    """(183,) int16: id of labels.txt → 0 unlabelled, 1 … 171; −1 for ids never annotated."""
    table = np.full(_LAST_ID + 1, -1, np.int16)
    known = [i for i in range(_LAST_ID + 1) if i not in NEVER_ANNOTATED]
    table[known] = np.arange(len(known))
    return table


def plan(source: Path, target: Path) -> list[Task]:
    """What to do to turn the unpacked archive into the mmsegmentation layout under ``target``.

    Raises:
        DataError: if ``source`` is not the unpacked archive.
    """
    lists = {"train": "imageLists/train.txt", "val": "imageLists/test.txt"}
    if missing := unlisted(source, ["images", "annotations", *lists.values()]):
        raise DataError(
            f"{source} is not COCO-Stuff-10K: expected images, annotations and imageLists; "
            f"missing {', '.join(missing)}. {COCO_STUFF10K.obtain}",
            remedy=Remedy("prepare", COCO_STUFF10K.name),
        )
    table, layout = train_ids(), COCO_STUFF10K.layouts[0]
    tasks: list[Task] = []
    for split, listed in lists.items():
        images, labels = (target / folder for folder in layout.folders[split])
        for stem in (source / listed).read_text().split():
            tasks.append(LinkFile(source / "images" / f"{stem}.jpg", images / f"{stem}.jpg"))
            tasks.append(
                LabelFromMat(
                    source / "annotations" / f"{stem}.mat",
                    labels / f"{stem}{layout.label_suffix}",
                    variable="S",
                    table=table,
                )
            )
    return tasks
