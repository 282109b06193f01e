"""A user's own folder of images and annotations as a data set."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from ssa.datasets.base import DATASETS, IGNORE_INDEX, DataError, DataSet, Layout
from ssa.datasets.palette import colours
from ssa.errors import UnknownNameError

DESCRIPTION = "dataset.json"
_EXAMPLE = '{"class_names": ["road", "tree"], "image_suffix": ".jpg", "reduce_zero_label": false}'
SPLIT = "{split}"
OWN = "own"  # the name of such a data set's layout
_DEFAULTS = {
    "images": f"images/{SPLIT}",
    "annotations": f"annotations/{SPLIT}",
    "image_suffix": ".jpg",
    "label_suffix": ".png",
    "training_split": "train",
    "evaluation_split": "val",
}
#: what a file datasets/<name>.yaml may say; dataset.json neither name nor folder
FIELDS = {
    *("name", "folder"),
    *("title", "class_names", "palette", "splits", "reduce_zero_label", "label_map"),
    *_DEFAULTS,
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
    """The data set that lies in ``root`` and is described by ``root/dataset.json``.

    It gives ``class_names`` and, where they differ from the defaults, title, palette, images
    ("images/{split}"), annotations ("annotations/{split}"), image_suffix (".jpg"), label_suffix
    (".png"), splits (the folders that are there), reduce_zero_label (false), label_map (raw value →
    class id or 255), training_split ("train") and evaluation_split ("val"). 255 is unlabelled.

    Raises:
        DataError: if the description is missing or wrong; says which field.
    """
    root = Path(root)
    where = root / DESCRIPTION
    given = _read(where)
    if "splits" not in given:
        images, annotations = (_text(given, key, where) for key in ("images", "annotations"))
        given = {**given, "splits": _splits(root, images, annotations)}
    return _data_set(given, where, root.name, (root.name,))


def declare(given: Any, where: Path, registry: Path) -> DataSet:
    """The data set that a file of a registry folder declares.

    The fields are those of dataset.json and ``folder``, where its files lie, relative to the
    registry folder; without it they are looked for in ``data/<name>`` there and in ``<name>`` under
    the data root. The splits are ``splits``; without it, training_split and evaluation_split.

    Args:
        given: what the file says.
        where: the file; its name is the data set's, unless it says ``name``.
        registry: the folder that the file belongs to.

    Raises:
        DataError: if it is wrong; says which field.
    """
    given = dict(_checked(given, where, FIELDS))
    name = given.pop("name", where.stem)
    if not (isinstance(name, str) and re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name)):
        raise _wrong(where, f"the name {name!r} must be letters, digits, _ . - only")
    folder = given.pop("folder", None)
    if not (folder is None or isinstance(folder, str)):
        raise _wrong(where, "folder must be the path of a folder")
    if "splits" not in given:
        ends = (given.get("training_split", "train"), given.get("evaluation_split", "val"))
        given["splits"] = list(dict.fromkeys(ends))
    if folder is not None:
        return _data_set(given, where, name, (str(registry / Path(folder).expanduser()),))
    return _data_set(given, where, name, (str(registry / "data" / name), name))


def own_settings(dataset: DataSet) -> dict[str, Any]:
    """What decides the meaning of a user's labels beside the files: part of a run's identity.

    Empty for our own data sets, whose descriptions are code.
    """
    layout = dataset.layouts[0]
    if layout.name != OWN:
        return {}
    return {
        "class_names": list(dataset.class_names),
        "reduce_zero_label": dataset.reduce_zero_label,
        "label_map": {str(raw): label for raw, label in sorted(layout.label_map.items())},
        "training_split": dataset.training_split,
        "evaluation_split": dataset.evaluation_split,
    }


def _data_set(given: dict[str, Any], where: Path, name: str, folders: tuple[str, ...]) -> DataSet:
    names = given.get("class_names")
    if not (isinstance(names, list) and names and all(isinstance(n, str) for n in names)):
        raise _wrong(where, "class_names must be a list of names")
    if len(set(names)) != len(names) or len(names) > 254:
        raise _wrong(where, "class_names must be at most 254 different names")
    palette = given.get("palette")
    if palette is None:
        palette = colours(len(names))
    elif not _is_palette(palette, len(names)):
        raise _wrong(where, "palette must be one [red, green, blue] of 0 … 255 a class")
    splits = given["splits"]
    if not (isinstance(splits, list) and all(isinstance(s, str) and s for s in splits)):
        raise _wrong(where, "splits must be a list of names")
    images, annotations = (_text(given, key, where) for key in ("images", "annotations"))
    training = _text(given, "training_split", where)
    evaluation = _text(given, "evaluation_split", where)
    for split in (training, evaluation):
        if split not in splits:
            there = ", ".join(splits) or "none"
            raise _wrong(where, f"there is no folder {_fill(images, split)}, only {there}")
    reduce_zero_label = given.get("reduce_zero_label", False)
    if not isinstance(reduce_zero_label, bool):
        raise _wrong(where, "reduce_zero_label must be true or false")
    layout = Layout(
        name=OWN,
        folders={s: (_fill(images, s), _fill(annotations, s)) for s in splits},
        image_suffix=_text(given, "image_suffix", where),
        label_suffix=_text(given, "label_suffix", where),
        label_map=_label_map(given.get("label_map", {}), len(names), where),
    )
    return DataSet(
        name=name,
        title=str(given.get("title", name)),
        class_names=tuple(names),
        palette=tuple((int(r), int(g), int(b)) for r, g, b in palette),
        counts={},
        layouts=(layout,),
        folders=folders,
        obtain=f"It is described by {where}.",
        training_split=training,
        evaluation_split=evaluation,
        reduce_zero_label=reduce_zero_label,
    )


def _splits(root: Path, images: str, annotations: str) -> list[str]:
    """The splits whose image folders lie under ``root``, hidden folders left out.

    In SegNet's layout ``train`` and ``trainannot`` lie side by side: a folder that holds another
    split's annotations and has none of its own is no split.
    """
    parts = Path(images).parts
    depth = next((i for i, part in enumerate(parts) if SPLIT in part), len(parts))
    before, _, after = [*parts, SPLIT][depth].partition(SPLIT)
    pattern = re.compile(re.escape(before) + "(.+)" + re.escape(after.replace(SPLIT, "")))
    names = (
        p.name
        for p in root.joinpath(*parts[:depth]).glob("*")
        if p.is_dir() and not p.name.startswith((".", "__MACOSX"))
    )
    splits = sorted(match[1] for name in names if (match := pattern.fullmatch(name)))
    labels = {_fill(annotations, split) for split in splits}
    return [
        split
        for split in splits
        if _fill(images, split) not in labels or (root / _fill(annotations, split)).is_dir()
    ]


def _fill(template: str, split: str) -> str:
    return template.replace(SPLIT, split)


def _text(given: dict[str, Any], field: str, where: Path) -> str:
    value = given.get(field, _DEFAULTS[field])
    if not (isinstance(value, str) and value):
        raise _wrong(where, f"{field} must be a text such as {_DEFAULTS[field]!r}")
    return value


def _label_map(given: Any, count: int, where: Path) -> dict[int, int]:
    try:
        mapped = {int(raw): int(label) for raw, label in given.items()}
    except (AttributeError, TypeError, ValueError):
        raise _wrong(where, "label_map must map values in the masks to class ids") from None
    for raw, label in mapped.items():
        if not (0 <= raw < 256 and (0 <= label < count or label == IGNORE_INDEX)):
            raise _wrong(where, f"label_map: {raw} → {label} is not a value 0 … 255 → class or 255")
    return mapped


def _read(file: Path) -> dict[str, Any]:
    try:
        given = json.loads(file.read_text())
    except OSError as error:
        raise DataError(f"Cannot read {file}: {error.strerror}. Example: {_EXAMPLE}.") from error
    except ValueError as error:
        raise DataError(f"{file} is not JSON: {error}. Example: {_EXAMPLE}.") from error
    return _checked(given, file, FIELDS - {"name", "folder"})


def _checked(given: Any, file: Path, fields: set[str]) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise DataError(f"{file} must hold an object, for instance {_EXAMPLE}.")
    for key in given:
        if key not in fields:
            raise UnknownNameError(f"field of {file}", str(key), fields)
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


def _wrong(where: Path, what: str) -> DataError:
    return DataError(f"{where}: {what}. Example: {_EXAMPLE}.")
