"""PASCAL-Context: 59 classes on VOC 2010, from trainval_merged.json or the 459-class .mat files.

The 59 classes' ids among the 459 are those of the data set's labels.txt; `PASCAL in Detail`'s JSON
uses the same. Everything else is background, which no class has (reduce_zero_label).
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssa.datasets.base import DataError, DataSet, Layout, register
from ssa.datasets.convert import LabelFromMat, LabelFromRuns, LinkFile, Task, WriteText
from ssa.datasets.palette import colours
from ssa.errors import Remedy

# fmt: off
IDS = {
    "aeroplane": 2, "bag": 9, "bed": 18, "bedclothes": 19, "bench": 22, "bicycle": 23, "bird": 25,
    "boat": 31, "book": 33, "bottle": 34, "building": 44, "bus": 45, "cabinet": 46, "car": 59,
    "cat": 65, "ceiling": 68, "chair": 72, "cloth": 80, "computer": 85, "cow": 98, "cup": 104,
    "curtain": 105, "dog": 113, "door": 115, "fence": 144, "floor": 158, "flower": 159,
    "food": 162, "grass": 187, "ground": 189, "horse": 207, "keyboard": 220, "light": 232,
    "motorbike": 258, "mountain": 259, "mouse": 260, "person": 284, "plate": 295, "platform": 296,
    "pottedplant": 308, "road": 324, "rock": 326, "sheep": 347, "shelves": 349, "sidewalk": 354,
    "sign": 355, "sky": 360, "snow": 366, "sofa": 368, "table": 397, "track": 415, "train": 416,
    "tree": 420, "truck": 424, "tvmonitor": 427, "wall": 440, "water": 445, "window": 454,
    "wood": 458,
}
# fmt: on
_LAST_ID = 459
_JSON = "trainval_merged.json"
_SPLITS = ("train", "val")
_LISTS = {split: f"ImageSets/SegmentationContext/{split}.txt" for split in _SPLITS}

PASCAL_CONTEXT = register(
    DataSet(
        name="pascal_context",
        title="PASCAL-Context",
        class_names=tuple(IDS),
        palette=colours(len(IDS)),
        counts={"train": 4996, "val": 5104},
        other_counts={"train": 4998, "val": 5105},
        layouts=(
            Layout(
                name="mmsegmentation",
                folders=dict.fromkeys(_SPLITS, ("JPEGImages", "SegmentationClassContext")),
                lists=_LISTS,
                converted=True,
            ),
        ),
        folders=("pascal_context", "VOCdevkit/VOC2010"),
        obtain=(
            "Unpack VOC 2010 (VOCtrainval_03-May-2010.tar); beside it put trainval_merged.json "
            "(no longer served by its authors at codalabuser.blob.core.windows.net; the "
            "Internet Archive keeps a copy) or instead the original 459-class "
            "trainval/*.mat (trainval.tar.gz, www.cs.stanford.edu/~roozbeh/pascal-context), then "
            "prepare it from that folder."
        ),
        reduce_zero_label=True,
    )
)


def class_table() -> NDArray[np.int16]:
    """(460,) int16: id among the 459 → 0 background, 1 … 59."""
    table = np.zeros(_LAST_ID + 1, np.int16)
    table[list(IDS.values())] = np.arange(1, len(IDS) + 1)
    return table


def plan(source: Path, target: Path) -> list[Task]:
    """What to do to turn ``source`` into the mmsegmentation layout under ``target``.

    ``source`` holds, at any of the usual depths, JPEGImages and either trainval_merged.json, whose
    own phases are the splits (4996 + 5104), or a folder of .mat files, split by VOC's
    ImageSets/Main/{train,val}.txt (4998 + 5105) unless SegmentationContext lists lie beside.

    Raises:
        DataError: if one of them is not there.
    """
    images = _find(source, "JPEGImages")
    merged = _find(source, _JSON)
    if images is None:
        raise DataError(
            f"{source} holds no folder JPEGImages. {PASCAL_CONTEXT.obtain}",
            remedy=Remedy("prepare", PASCAL_CONTEXT.name),
        )
    if merged is not None:
        labels, lists = _from_json(merged, target)
    else:
        labels, lists = _from_mat(source, target)
    tasks: list[Task] = []
    for stem, task in labels.items():
        name = f"JPEGImages/{stem}.jpg"
        tasks += [LinkFile(images / f"{stem}.jpg", target / name), task]
    for split, stems in lists.items():
        text = "".join(f"{stem}\n" for stem in sorted(stems))
        tasks.append(WriteText(target / _LISTS[split], text))
    return tasks


def _from_json(merged: Path, target: Path) -> tuple[dict[str, Task], dict[str, list[str]]]:
    try:
        with merged.open() as stream:
            content = json.load(stream)
        masks: dict[Any, list[tuple[int, Any]]] = defaultdict(list)
        for annotation in content["annos_segmentation"]:
            counts = annotation["segmentation"]["counts"]
            masks[annotation["image_id"]].append((int(annotation["category_id"]), counts))
        labels: dict[str, Task] = {}
        lists: dict[str, list[str]] = {split: [] for split in _SPLITS}
        for image in content["images"]:
            if image["phase"] not in _SPLITS:
                continue
            stem = Path(image["file_name"]).stem
            lists[image["phase"]].append(stem)
            labels[stem] = LabelFromRuns(
                source=f"{merged}, image {image['file_name']}",
                target=_label(target, stem),
                size=(int(image["height"]), int(image["width"])),
                masks=tuple(masks[image["image_id"]]),
                table=class_table(),
            )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{merged} is not PASCAL in Detail's file: {error!r}.") from error
    return labels, lists


def _from_mat(source: Path, target: Path) -> tuple[dict[str, Task], dict[str, list[str]]]:
    folder = _find(source, "trainval")
    files = {p.stem: p for p in folder.glob("*.mat")} if folder and folder.is_dir() else {}
    if not files:
        raise DataError(
            f"{source} holds neither {_JSON} nor a folder trainval with .mat files. "
            f"{PASCAL_CONTEXT.obtain}",
            remedy=Remedy("prepare", PASCAL_CONTEXT.name),
        )
    lists: dict[str, list[str]] = {}
    for split in _SPLITS:
        listed = _find(source, _LISTS[split]) or _find(source, f"ImageSets/Main/{split}.txt")
        if listed is None:
            raise DataError(
                f"{source} holds no ImageSets/Main/{split}.txt, which VOC 2010 has; without it "
                "the .mat files cannot be split."
            )
        lists[split] = [stem for stem in listed.read_text().split() if stem in files]
    table = class_table()
    labels: dict[str, Task] = {
        stem: LabelFromMat(files[stem], _label(target, stem), "LabelMap", table)
        for stems in lists.values()
        for stem in stems
    }
    return labels, lists


def _label(target: Path, stem: str) -> Path:
    return target / "SegmentationClassContext" / f"{stem}.png"


def _find(source: Path, name: str) -> Path | None:
    """``name`` at one of the depths at which VOC's archives unpack."""
    for prefix in ("", "VOC2010", "VOCdevkit/VOC2010", "pascal-context", "annotations"):
        if (source / prefix / name).exists():
            return source / prefix / name
    return None
