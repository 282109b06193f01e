"""The declared things, read from YAML files once, checked against each other and frozen."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from pydantic import ValidationError

from experiments.declare.base import Declared
from experiments.declare.extensions import take_up
from experiments.declare.figure import Figure
from experiments.declare.model import ModelCard
from experiments.declare.paper import FILE, Paper
from experiments.declare.profile import Profile, Protocol
from experiments.declare.protocol import check_protocols
from experiments.declare.registry import ExperimentRegistry, T
from experiments.declare.table import Table
from experiments.declare.yaml_files import read_yaml
from experiments.errors import RegistryError, UnknownNameError
from experiments.machine import PROJECT
from ssa.models import PAPER_SIZE
from ssa.validation import first_problem

D = TypeVar("D", bound=Declared)

#: the project's own registry folder
OWN = PROJECT / "experiments"
#: folders of YAML files, one a thing
DECLARED = ("tables", "figures", "models", "profiles", "protocols", "datasets")
#: every folder of a registry that is read
KINDS = (*DECLARED, "classifiers", "data")


def load_registry(extra: Sequence[Path] = ()) -> ExperimentRegistry:
    """Read the project's declarative files and those of the folders ``extra``.

    A folder holds ``tables/``, ``figures/``, ``models/``, ``profiles/``, ``protocols/`` and
    ``datasets/``, each optional, with one YAML file a thing, and ``classifiers/`` with Python
    files, which are imported. Two things of one name are an error, wherever they stand.

    A folder with a ``paper.yaml`` is another paper's: its tables and figures stand in place of
    ours, and our profiles that compare with our paper are gone; networks, data sets and the other
    profiles stay.

    Raises:
        RegistryError: a file that is not valid, a name that is taken, or two publications.
    """
    folders = tuple(Path(folder).resolve() for folder in extra)
    registry = _load_registry(folders)
    take_up(folders)
    return registry


@lru_cache(maxsize=8)
def _load_registry(extra: tuple[Path, ...]) -> ExperimentRegistry:
    for folder in extra:
        _check_layout(folder)
    folders = (OWN, *extra)
    about = _folder_of_the_paper(extra)
    paper = _read(about / FILE, Paper)
    of_paper = folders if about == OWN else extra
    tables = _read_all(of_paper, "tables", Table)
    registry = ExperimentRegistry(
        tables=MappingProxyType(
            {name: table.model_copy(update={"paper": paper}) for name, table in tables.items()}
        ),
        figures=_read_all(of_paper, "figures", Figure),
        models=_read_all(folders, "models", ModelCard),
        profiles=_read_all(folders, "profiles", Profile, without=_papers_own(about)),
        protocols=_read_all(folders, "protocols", Protocol),
        folders=extra,
        paper=paper,
    )
    for table in registry.tables.values():
        for row in table.rows:
            name = row.model or table.model
            if name not in registry.models:
                raise RegistryError(
                    f"Row '{row.id}' of {table.name}: "
                    + str(UnknownNameError("model", str(name), registry.models))
                )
    for table in registry.tables.values():
        for name in table.profiles:
            if name not in registry.profiles:
                unknown = UnknownNameError("profile", name, registry.profiles)
                raise RegistryError(f"{table.name}: {unknown}")
    for profile in registry.profiles.values():
        _check_model(profile, registry.models)
    for figure in registry.figures.values():
        _check_rows(figure, registry.tables)
    check_protocols(registry)
    return registry


def _folder_of_the_paper(extra: Sequence[Path]) -> Path:
    """Where the publication is declared: the user's folder that does, else ours."""
    declaring = [folder for folder in extra if (folder / FILE).is_file()]
    if len(declaring) > 1:
        raise RegistryError(
            f"{declaring[0] / FILE} and {declaring[1] / FILE} both declare a paper; name one of "
            "the folders at a time."
        )
    return declaring[0] if declaring else OWN


def _papers_own(about: Path) -> Callable[[Path, Profile], bool]:
    """Which profiles go with another publication: ours that compare with our paper."""
    return lambda folder, profile: folder == OWN and about != OWN and profile.compares_with_paper


def _check_layout(folder: Path) -> None:
    """Refuse a registry folder with things that nobody would read: a misspelt name has no effect.

    Beside the folders of :data:`KINDS` there may lie files (a README, a script) and hidden things.
    """
    if not folder.is_dir():
        raise RegistryError(f"The registry folder {folder} does not exist.")
    if folder.name in KINDS and not any((folder / kind).is_dir() for kind in KINDS):
        raise RegistryError(
            f"{folder} is the folder of one kind of things; a registry folder is the one that "
            f"holds it: --registry {folder.parent}"
        )
    for path in sorted(folder.iterdir()):
        if path.suffix in (".yaml", ".yml") and path.name != FILE:
            raise RegistryError(
                f"{path} is read by nobody here; move it into one of {', '.join(DECLARED)}."
            )
        if not path.is_dir() or path.name in KINDS or path.name.startswith((".", "__")):
            continue
        near = difflib.get_close_matches(path.name, KINDS, n=1, cutoff=0.6)
        if near or any(path.glob("*.y*ml")):
            unknown = UnknownNameError("folder of a registry", path.name, KINDS)
            raise RegistryError(f"{path}: {unknown}")
    for kind in DECLARED:
        for path in sorted((folder / kind).glob("*")):
            hidden = path.name.startswith((".", "_")) or path.name.endswith("~")
            if path.suffix not in (".yaml", ".md", ".txt") and not hidden:
                raise RegistryError(
                    f"{path} is read by nobody: a file of {kind} ends in .yaml; "
                    f"rename it to {path.stem}.yaml or move it elsewhere."
                )


def _check_model(profile: Profile, models: Mapping[str, ModelCard]) -> None:
    """Refuse a profile whose network is not there, or takes no classifier, or lacks the size."""
    if profile.model is None:
        return
    if profile.model not in models:
        unknown = UnknownNameError("model", profile.model, models)
        raise RegistryError(f"The profile {profile.name}: {unknown}")
    card = models[profile.model]
    if not card.pixel_classifier:
        raise RegistryError(
            f"The profile {profile.name} would replace every network by {card.name}, which takes "
            "no classifier; name one that does."
        )
    if profile.model_size != PAPER_SIZE and profile.model_size not in card.sizes:
        unknown = UnknownNameError(f"size of {card.name}", profile.model_size, card.sizes)
        raise RegistryError(f"The profile {profile.name}: {unknown}")


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


def _read_all(
    folders: Sequence[Path],
    kind: str,
    schema: type[T],
    without: Callable[[Path, T], bool] = lambda folder, thing: False,
) -> Mapping[str, T]:
    things: dict[str, T] = {}
    origin: dict[str, Path] = {}
    for folder in folders:
        for path in sorted((folder / kind).glob("*.yaml")):
            thing = _read(path, schema)
            if without(folder, thing):
                continue
            name: str = thing.name  # type: ignore[attr-defined]
            if name in things:
                raise RegistryError(
                    f"{path} declares '{name}', which {origin[name]} has already taken."
                )
            things[name], origin[name] = thing, path
    return MappingProxyType(things)


def _read(path: Path, schema: type[D]) -> D:
    try:
        return schema.model_validate(read_yaml(path))
    except ValidationError as error:
        raise RegistryError(f"{path}: {first_problem(error, schema)}") from None
