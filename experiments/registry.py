"""The declared things, read from YAML files once and frozen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from experiments.errors import RegistryError, UnknownNameError
from experiments.extensions import take_up
from experiments.figure import Figure
from experiments.protocol import check_protocols
from experiments.schema import Declared, ModelCard, Profile, Protocol, Table

HERE = Path(__file__).resolve().parent
NUMBER_OF_TABLES = 13
NUMBER_OF_FIGURES = 8
STUDY = "study_"  # how the names of our own studies begin

T = TypeVar("T", bound=Declared)


@dataclass(frozen=True)
class ExperimentRegistry:
    """All tables, figures, models, profiles and protocols by name."""

    tables: Mapping[str, Table]
    figures: Mapping[str, Figure]
    models: Mapping[str, ModelCard]
    profiles: Mapping[str, Profile]
    protocols: Mapping[str, Protocol]
    folders: tuple[Path, ...] = ()  # of the user, which were read beside ours

    def table(self, name: str) -> Table:
        """The table ``name``; UnknownNameError proposes the nearest."""
        return _get("table", self.tables, name)

    def figure(self, name: str) -> Figure:
        """The figure ``name``; UnknownNameError proposes the nearest."""
        return _get("figure", self.figures, name)

    def model(self, name: str) -> ModelCard:
        """The model card ``name``; UnknownNameError proposes the nearest."""
        return _get("model", self.models, name)

    def profile(self, name: str) -> Profile:
        """The profile ``name``; UnknownNameError proposes the nearest."""
        return _get("profile", self.profiles, name)

    def protocol(self, name: str) -> Protocol:
        """The protocol ``name``; UnknownNameError proposes the nearest."""
        return _get("protocol", self.protocols, name)


def _get(kind: str, things: Mapping[str, T], name: str) -> T:
    if name not in things:
        raise UnknownNameError(kind, name, things)
    return things[name]


def paper_items() -> tuple[str, ...]:
    """Every table and figure of the paper by the name that the command line takes."""
    tables = (f"table{n}" for n in range(1, NUMBER_OF_TABLES + 1))
    figures = (f"figure{n}" for n in range(1, NUMBER_OF_FIGURES + 1))
    return (*tables, *figures)


def load_registry(extra: Sequence[Path] = ()) -> ExperimentRegistry:
    """Read the project's declarative files and those of the folders ``extra``.

    A folder holds ``tables/``, ``figures/``, ``models/``, ``profiles/``, ``protocols/`` and
    ``datasets/``, each optional, with one YAML file a thing, and ``classifiers/`` with Python
    files, which are imported. Two things of one name are an error, wherever they stand.

    Raises:
        RegistryError: a file that is not valid, or a name that is taken.
    """
    folders = tuple(Path(folder).resolve() for folder in extra)
    registry = _load_registry(folders)
    take_up(folders)
    return registry


@lru_cache(maxsize=8)
def _load_registry(extra: tuple[Path, ...]) -> ExperimentRegistry:
    for folder in extra:
        if not folder.is_dir():
            raise RegistryError(f"The registry folder {folder} does not exist.")
    folders = (HERE, *extra)
    registry = ExperimentRegistry(
        tables=_read_all(folders, "tables", Table),
        figures=_read_all(folders, "figures", Figure),
        models=_read_all(folders, "models", ModelCard),
        profiles=_read_all(folders, "profiles", Profile),
        protocols=_read_all(folders, "protocols", Protocol),
        folders=extra,
    )
    for table in registry.tables.values():
        for row in table.rows:
            name = row.model or table.model
            if name not in registry.models:
                raise RegistryError(
                    f"Row '{row.id}' of {table.name}: "
                    + str(UnknownNameError("model", str(name), registry.models))
                )
    for figure in registry.figures.values():
        _check_rows(figure, registry.tables)
    check_protocols(registry)
    return registry


def _check_rows(figure: Figure, tables: Mapping[str, Table]) -> None:
    """Refuse a figure that names a table or row that is not there."""
    for row in figure.rows:
        if row.table not in tables:
            unknown = UnknownNameError("table", row.table, tables)
            raise RegistryError(f"Figure {figure.name}: {unknown}")
        ids = [r.id for r in tables[row.table].rows]
        if row.row not in ids:
            unknown = UnknownNameError(f"row of {row.table}", row.row, ids)
            raise RegistryError(f"Figure {figure.name}: {unknown}")


def _read_all(folders: Sequence[Path], kind: str, schema: type[T]) -> Mapping[str, T]:
    things: dict[str, T] = {}
    origin: dict[str, Path] = {}
    for folder in folders:
        for path in sorted((folder / kind).glob("*.yaml")):
            thing = _read(path, schema)
            name: str = thing.name  # type: ignore[attr-defined]
            if name in things:
                raise RegistryError(
                    f"{path} declares '{name}', which {origin[name]} has already taken."
                )
            things[name], origin[name] = thing, path
    return MappingProxyType(things)


def _read(path: Path, schema: type[T]) -> T:
    try:
        return schema.model_validate(read_yaml(path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise RegistryError(f"{path}: {where}: {first['msg']}.") from None


def read_yaml(path: Path) -> Any:
    """What a declarative file says.

    Raises:
        RegistryError: it cannot be read, or is not valid YAML.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except OSError as error:
        raise RegistryError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise RegistryError(f"{path} is not a text in UTF-8; save it as such.") from None
    except yaml.YAMLError as error:
        raise RegistryError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None


#: libyaml's parser is ten times faster and reads the same language
_Fastest: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Fastest):
    """Refuses a key that stands twice in one mapping, where YAML would take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = next((key for key in keys if keys.count(key) > 1 and key != "<<"), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key '{twice}' stands twice", node.start_mark
            )
        return super().construct_mapping(node, deep)
