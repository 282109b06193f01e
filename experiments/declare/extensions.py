"""A user's own classifiers and data sets: taken up from registry folders, registered like ours.

A registry folder may hold, beside its tables, models and profiles,

::

    classifiers/*.py     Python files that register classifiers, as those of ssa/classifiers do
    datasets/*.yaml      data sets: the fields of dataset.json, in YAML (docs/bring_your_own.md)
    data/<name>/         where such a data set's files are looked for first

The files of ``classifiers`` are the modules of a package :data:`PACKAGE`, so one may import
another (``from ._common import distance``), and a record names them alike on every machine.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import sys
import sysconfig
import traceback
import types
from collections.abc import Sequence
from functools import lru_cache
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.declare.base import plain_name
from experiments.declare.run_spec import RunSpec
from experiments.errors import RegistryError, SsaError

if TYPE_CHECKING:
    from ssa.datasets import DataSet

#: the package that the files of all folders ``classifiers`` belong to
PACKAGE = "user_classifiers"
#: the packages of the checkout
OURS = ("ssa", "experiments", "analysis")
#: where installed packages lie, which have versions instead of sources that count
_INSTALLED = tuple(
    {
        os.path.realpath(path) + os.sep
        for name in ("stdlib", "platstdlib", "purelib", "platlib")
        if (path := sysconfig.get_path(name))
    }
)


def take_up(folders: Sequence[Path]) -> None:
    """Register the classifiers and data sets of registry folders, in this process, once.

    Raises:
        RegistryError: a file that is not valid, or a name that is taken; says which and where.
    """
    take_up_classifiers(folders)
    take_up_datasets(folders)


def take_up_for(spec: RunSpec, folders: Sequence[Path], data: Path | None = None) -> None:
    """Register what the run ``spec`` needs and is not ours; a run of ours imports nothing.

    Args:
        spec: of the run.
        folders: registry folders.
        data: the folder of its data set, which may describe itself (dataset.json).

    Raises:
        RegistryError: as :func:`take_up`.
        DataError: the description is wrong.
    """
    from ssa.classifiers import CLASSIFIERS
    from ssa.datasets import DATASETS, describe
    from ssa.datasets.base import register
    from ssa.datasets.folder import DESCRIPTION

    if spec.classifier["name"] not in CLASSIFIERS:
        take_up_classifiers(folders)
    if spec.dataset not in DATASETS:
        take_up_datasets(folders)
    if spec.dataset not in DATASETS and data is not None and (data / DESCRIPTION).is_file():
        register(describe(data))


def take_up_classifiers(folders: Sequence[Path]) -> None:
    """Import every file of ``classifiers/`` in ``folders`` that does not begin with ``_``.

    Raises:
        RegistryError: a file that cannot be imported (with its line), registers nothing, or a
            classifier that lacks a part; a name that is taken.
    """
    places = [folder.resolve() / "classifiers" for folder in folders]
    places = [place for place in places if place.is_dir()]
    if not places:
        return
    package = sys.modules.get(PACKAGE)
    if package is None:
        package = types.ModuleType(PACKAGE, "Classifiers of users' registry folders.")
        package.__path__ = []
        sys.modules[PACKAGE] = package
    before = list(package.__path__)
    package.__path__ += [str(place) for place in places if str(place) not in before]
    importlib.invalidate_caches()
    try:
        for place in places:
            for path in sorted(place.glob("*.py")):
                if not path.name.startswith("_"):
                    _import(path)
    except RegistryError:
        package.__path__ = before
        raise


def _import(path: Path) -> None:
    name = f"{PACKAGE}.{path.stem}"
    if not path.stem.isidentifier():
        raise RegistryError(f"{path} cannot be imported: call it by letters, digits and _ only.")
    loaded = sys.modules.get(name)
    first = source_of(name)
    if first is not None and first != path:
        raise RegistryError(f"{path} takes the name of {first}; rename one of the two files.")
    if loaded is not None:
        return
    from ssa.classifiers import CLASSIFIERS

    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # nothing into a user's folder
    try:
        with CLASSIFIERS.all_or_nothing():
            importlib.import_module(name)
            _check(name, path)
    except RegistryError:
        sys.modules.pop(name, None)
        raise
    except Exception as error:  # a user's file may raise anything
        raise RegistryError(_sentence(path, error)) from error
    finally:
        sys.dont_write_bytecode = writes


def _check(module: str, path: Path) -> None:
    """Refuse what would only fail in the middle of a run."""
    from ssa.classifiers import CLASSIFIERS, ClassifierConfig, PixelClassifier
    from ssa.models import NO_CLASSIFIER

    mine = {n: c for n, c in CLASSIFIERS.items() if getattr(c, "__module__", None) == module}
    if not mine:
        raise RegistryError(
            f'{path} registers no classifier; decorate its class with @CLASSIFIERS.register("name")'
            " or let the name of a file that only helps begin with _."
        )
    for name, cls in mine.items():
        try:
            plain_name(name)
        except ValueError as error:
            raise RegistryError(f"{path}: {error}.") from None
        what = f"{path}: the classifier '{name}'"
        if name == NO_CLASSIFIER:
            raise RegistryError(f"{what} has a name that means no classifier; choose another.")
        if not (inspect.isclass(cls) and issubclass(cls, PixelClassifier)):
            raise RegistryError(f"{what} is not a subclass of ssa.classifiers.PixelClassifier.")
        if missing := sorted(getattr(cls, "__abstractmethods__", ())):
            raise RegistryError(
                f"{what} does not define {' and '.join(missing)}; docs/classifiers.md says what "
                "each has to return."
            )
        config = getattr(cls, "Config", None)
        if not (inspect.isclass(config) and issubclass(config, ClassifierConfig)):
            raise RegistryError(
                f"{what} has no Config; set it to a subclass of ssa.classifiers.ClassifierConfig."
            )


def _sentence(path: Path, error: Exception) -> str:
    """``<file>, line <n>: <what>``."""
    if isinstance(error, SyntaxError):
        at, what = f"{error.filename or path}, line {error.lineno}: ", error.msg
    else:
        at, what = own_line(error) or f"{path}: ", " ".join(str(error).split())
    kind = "" if isinstance(error, SsaError) else f"{type(error).__name__}: "
    return f"{at}{kind}{what.rstrip('.')}. Mend it and give the same command again."


def own_line(error: BaseException) -> str:
    """``<file>, line <n>: `` of the last line of a user's that an error came through, or ``""``."""
    places = getattr(sys.modules.get(PACKAGE), "__path__", ())
    at = ""
    for frame in traceback.extract_tb(error.__traceback__):
        if str(Path(frame.filename).parent) in places:
            at = f"{frame.filename}, line {frame.lineno}: "
    return at


def take_up_datasets(folders: Sequence[Path]) -> dict[str, DataSet]:
    """Register every file of ``datasets/`` in ``folders`` and return what they declare, by name.

    Raises:
        RegistryError: a file that is not valid, or a name that is taken.
    """
    found: dict[str, DataSet] = {}
    for folder in folders:
        for path in sorted((folder.resolve() / "datasets").glob("*.yaml")):
            dataset = _declared_dataset(path, folder.resolve())
            found[dataset.name] = dataset
    return found


def _declared_dataset(path: Path, folder: Path) -> DataSet:
    from experiments.declare.yaml_files import read_yaml
    from ssa.datasets import DATASETS
    from ssa.datasets.base import register
    from ssa.datasets.folder import declare

    dataset = declare(read_yaml(path), path, folder)
    taken = DATASETS.get(dataset.name) if dataset.name in DATASETS else None
    if taken is not None and taken != dataset:
        raise RegistryError(
            f"{path} declares the data set '{dataset.name}', but {taken.title} has that name "
            "already; choose another."
        )
    return register(dataset) if taken is None else dataset


def own_names(folders: Sequence[Path]) -> dict[str, dict[str, str]]:
    """The data sets and classifiers that ``folders`` brought: kind → name → a few words."""
    found: dict[str, dict[str, str]] = {}
    if datasets := take_up_datasets(folders):
        texts = {n: f"{d.title}, {d.num_classes} classes" for n, d in sorted(datasets.items())}
        found["data sets"] = texts
    if PACKAGE in sys.modules:
        from ssa.classifiers.catalogue import CLASSIFIERS, CONFIGS

        classes = {name: CLASSIFIERS[name] for name in CLASSIFIERS if name not in CONFIGS}
        own = {n: c for n, c in classes.items() if c.__module__.startswith(f"{PACKAGE}.")}
        found["classifiers"] = {
            n: c.__module__.partition(".")[2] + ".py" for n, c in sorted(own.items())
        }
    return found


def source_of(module: str) -> Path | None:
    """The file of the user's module ``module``; None if no folder taken up holds it.

    Beside the modules of :data:`PACKAGE` these are all that lie on Python's search path and are
    neither ours nor installed.
    """
    top, *below = module.split(".")
    if top == PACKAGE:
        package = sys.modules.get(PACKAGE)
        places = [Path(place) for place in getattr(package, "__path__", ())]
    else:
        places, below = _elsewhere(top, tuple(sys.path)), [top, *below]
    for place in places:
        stem = place.joinpath(*below)
        for path in (stem.with_name(f"{stem.name}.py"), stem / "__init__.py"):
            if path.is_file():
                return path
    return None


@lru_cache(maxsize=256)
def _elsewhere(top: str, _search: tuple[str, ...]) -> list[Path]:
    """Where a module on Python's search path that is nobody's package lies; else nothing."""
    if not top.isidentifier() or top == "__main__" or not is_users(top):
        return []
    spec = PathFinder.find_spec(top)
    if spec is None:
        return []
    folders = spec.submodule_search_locations
    origins = [spec.origin] if spec.origin else list(folders or ())
    if not origins or any(is_installed(origin) for origin in origins):
        return []
    if folders is not None:
        return [Path(folder).parent for folder in folders]
    return [Path(str(spec.origin)).parent]


def is_installed(path: str) -> bool:
    """Whether a file belongs to Python or to an installed package."""
    real = os.path.realpath(path)
    parts = Path(real).parts
    return real.startswith(_INSTALLED) or "site-packages" in parts or "dist-packages" in parts


def is_users(module: str) -> bool:
    """Whether a module may be a user's: of :data:`PACKAGE`, or nobody's package."""
    top = module.split(".")[0]
    return top not in OURS and top not in sys.stdlib_module_names


def sources_used(modules: Sequence[str]) -> dict[str, Path]:
    """The users' modules among ``modules`` and those that they import, with their files."""
    found: dict[str, Path] = {}
    queue = [name for name in modules if name.startswith(f"{PACKAGE}.")]
    while queue:
        name = queue.pop()
        if name in found or not is_users(name):
            continue
        path = source_of(name)
        if path is not None:
            found[name] = path
            queue += [*imported(path.read_bytes(), name, path), *_packages_above(name)]
    return found


def _packages_above(name: str) -> list[str]:
    """The users' packages that importing ``name`` runs first."""
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts)) if parts[:end] != [PACKAGE]]


def imported(source: bytes, name: str, path: Path) -> list[str]:
    """Names of all modules that the user's module ``name`` in the file ``path`` may import.

    Of ``from a import b`` both ``a`` and ``a.b``, since either may be a module.
    """
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    names: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = len(package) - node.level + 1
            origin = ".".join(package[:above]) if node.level else ""
            base = ".".join(part for part in (origin, node.module) if part)
            names += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return [name for name in names if name and name != PACKAGE]
