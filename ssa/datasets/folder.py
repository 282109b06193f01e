"""A user's own folder of images and annotations as a data set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ssa.datasets.base import DATASETS, DataError, DataSet, Layout
from ssa.datasets.palette import colours
from ssa.errors import UnknownNameError

DESCRIPTION = "dataset.json"
_EXAMPLE = '{"class_names": ["road", "tree"], "image_suffix": ".jpg", "reduce_zero_label": false}'
_FIELDS = {
    *("title", "class_names", "palette", "image_suffix", "label_suffix", "reduce_zero_label"),
    *("training_split", "evaluation_split"),
}


def find(name: str, data_root: Path) -> DataSet:
    """The registered data set ``name``, or the one that ``data_root/name/dataset.json`` describes.

    Raises:
        UnknownNameError: if it is neither.
        DataError: if the description is wrong.
    """
    if name in DATASETS:
        return DATASETS[name]
    root = Path(data_root) / name
    if (root / DESCRIPTION).is_file():
        return describe(root)
    if root.is_dir():
        raise DataError(
            f"{root} has no {DESCRIPTION}; write one that describes it, for instance {_EXAMPLE}."
        )
    raise UnknownNameError("data set", name, DATASETS)


def describe(root: Path) -> DataSet:
    """The data set that lies in ``root`` as images/<split>/ and annotations/<split>/.

    ``root/dataset.json`` gives ``class_names`` and, where they differ from the defaults, title,
    palette, image_suffix (".jpg"), label_suffix (".png"), reduce_zero_label (false),
    training_split ("train") and evaluation_split ("val"). The splits are the folders that are
    there, and 255 is unlabelled.

    Raises:
        DataError: if the description is missing or wrong; says which field.
    """
    root = Path(root)
    given = _read(root / DESCRIPTION)
    names = given.get("class_names")
    if not (isinstance(names, list) and names and all(isinstance(n, str) for n in names)):
        raise _wrong(root, "class_names must be a list of names")
    if len(set(names)) != len(names) or len(names) > 254:
        raise _wrong(root, "class_names must be at most 254 different names")
    palette = given.get("palette")
    if palette is None:
        palette = colours(len(names))
    elif not _is_palette(palette, len(names)):
        raise _wrong(root, "palette must be one [red, green, blue] of 0 … 255 a class")
    splits = tuple(sorted(p.name for p in (root / "images").glob("*") if p.is_dir()))
    training, evaluation = (
        given.get("training_split", "train"),
        given.get("evaluation_split", "val"),
    )
    for split in (training, evaluation):
        if split not in splits:
            raise _wrong(root, f"there is no folder images/{split}, only {', '.join(splits)}")
    layout = Layout(
        name="own",
        folders={s: (f"images/{s}", f"annotations/{s}") for s in splits},
        image_suffix=given.get("image_suffix", ".jpg"),
        label_suffix=given.get("label_suffix", ".png"),
    )
    return DataSet(
        name=root.name,
        title=given.get("title", root.name),
        class_names=tuple(names),
        palette=tuple((int(r), int(g), int(b)) for r, g, b in palette),
        counts={},
        layouts=(layout,),
        folders=(root.name,),
        obtain=f"It is described by {root / DESCRIPTION}.",
        training_split=training,
        evaluation_split=evaluation,
        reduce_zero_label=bool(given.get("reduce_zero_label", False)),
    )


def _read(file: Path) -> dict[str, Any]:
    try:
        given = json.loads(file.read_text())
    except OSError as error:
        raise DataError(f"Cannot read {file}: {error.strerror}. Example: {_EXAMPLE}.") from error
    except ValueError as error:
        raise DataError(f"{file} is not JSON: {error}. Example: {_EXAMPLE}.") from error
    if not isinstance(given, dict):
        raise DataError(f"{file} must hold an object, for instance {_EXAMPLE}.")
    for key in given:
        if key not in _FIELDS:
            raise UnknownNameError(f"field of {file}", key, _FIELDS)
    return given


def _is_palette(palette: Any, count: int) -> bool:
    return (
        isinstance(palette, list)
        and len(palette) == count
        and all(
            isinstance(c, list)
            and len(c) == 3
            and all(isinstance(v, int) and 0 <= v < 256 for v in c)
            for c in palette
        )
    )


def _wrong(root: Path, what: str) -> DataError:
    return DataError(f"{root / DESCRIPTION}: {what}. Example: {_EXAMPLE}.")
