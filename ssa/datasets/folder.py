"""A user's own folder of images and annotations as a data set."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ssa.datasets.base import DATASETS, IGNORE_INDEX, DataError, DataSet, Layout
from ssa.datasets.palette import colours
from ssa.errors import UnknownNameError
from ssa.validation import first_problem

DESCRIPTION = "dataset.json"
_EXAMPLE = '{"class_names": ["road", "tree"], "image_suffix": ".jpg", "reduce_zero_label": false}'
SPLIT = "{split}"
OWN = "own"  # the name of such a data set's layout

Text = Annotated[str, Field(min_length=1)]
Byte = Annotated[int, Field(ge=0, le=255)]
Key = Annotated[int, Field(strict=False)]  # a text in JSON


class Description(BaseModel):
    """What ``dataset.json`` says. 255 is unlabelled."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    title: str | None = None
    class_names: list[Text] = Field(min_length=1, max_length=254)
    palette: list[Annotated[list[Byte], Field(min_length=3, max_length=3)]] | None = None  # RGB
    splits: list[Text] | None = None  # None: the folders that are there
    reduce_zero_label: bool = False
    label_map: dict[Key, Key] = Field(default_factory=dict)  # raw value → class id or 255
    images: Text = f"images/{SPLIT}"
    annotations: Text = f"annotations/{SPLIT}"
    image_suffix: Text = ".jpg"
    label_suffix: Text = ".png"
    training_split: Text = "train"
    evaluation_split: Text = "val"

    @model_validator(mode="after")
    def _fits_the_classes(self) -> Description:
        count = len(self.class_names)
        if len(set(self.class_names)) != count:
            raise ValueError("class_names must be different names")
        if self.palette is not None and len(self.palette) != count:
            raise ValueError("palette must be one [red, green, blue] a class")
        for raw, label in self.label_map.items():
            if not (0 <= raw < 256 and (0 <= label < count or label == IGNORE_INDEX)):
                raise ValueError(
                    f"label_map: {raw} → {label} is not a value 0 … 255 → class or 255"
                )
        return self


class Declaration(Description):
    """What a file ``datasets/<name>.yaml`` of a registry folder says."""

    name: str
    folder: str | None = None

    @field_validator("name")
    @classmethod
    def _plain(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", value):
            raise ValueError(f"the name {value!r} must be letters, digits, _ . - only")
        return value


D = TypeVar("D", bound=Description)


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

    Raises:
        DataError: if the description is missing or wrong; says which field.
    """
    root = Path(root)
    where = root / DESCRIPTION
    try:
        given = json.loads(where.read_text())
    except OSError as error:
        raise DataError(f"Cannot read {where}: {error.strerror}. Example: {_EXAMPLE}.") from error
    except ValueError as error:
        raise DataError(f"{where} is not JSON: {error}. Example: {_EXAMPLE}.") from error
    said = _validated(Description, given, where)
    splits = _splits(root, said.images, said.annotations) if said.splits is None else said.splits
    return _data_set(said, splits, where, root.name, (root.name,))


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
    if isinstance(given, dict):
        given = {"name": where.stem, **given}
    said = _validated(Declaration, given, where)
    splits = said.splits
    if splits is None:
        splits = list(dict.fromkeys((said.training_split, said.evaluation_split)))
    if said.folder is not None:
        folders: tuple[str, ...] = (str(registry / Path(said.folder).expanduser()),)
    else:
        folders = (str(registry / "data" / said.name), said.name)
    return _data_set(said, splits, where, said.name, folders)


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


def _validated(schema: type[D], given: Any, where: Path) -> D:
    if not isinstance(given, dict):
        raise DataError(f"{where} must hold an object, for instance {_EXAMPLE}.")
    try:
        return schema.model_validate(given)
    except ValidationError as error:
        problem = first_problem(error, schema)
        raise DataError(f"{where}: {problem} Example: {_EXAMPLE}.") from None


def _data_set(
    said: Description, splits: list[str], where: Path, name: str, folders: tuple[str, ...]
) -> DataSet:
    for split in (said.training_split, said.evaluation_split):
        if split not in splits:
            raise DataError(
                f"{where}: there is no folder {_fill(said.images, split)}, only "
                f"{', '.join(splits) or 'none'}. Example: {_EXAMPLE}."
            )
    layout = Layout(
        name=OWN,
        folders={s: (_fill(said.images, s), _fill(said.annotations, s)) for s in splits},
        image_suffix=said.image_suffix,
        label_suffix=said.label_suffix,
        label_map=said.label_map,
    )
    palette = said.palette or colours(len(said.class_names))
    return DataSet(
        name=name,
        title=said.title or name,
        class_names=tuple(said.class_names),
        palette=tuple((red, green, blue) for red, green, blue in palette),
        counts={},
        layouts=(layout,),
        folders=folders,
        obtain=f"It is described by {where}.",
        training_split=said.training_split,
        evaluation_split=said.evaluation_split,
        reduce_zero_label=said.reduce_zero_label,
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
