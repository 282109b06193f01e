"""Which machine, which software, which state of our own code."""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import json
import os
import platform
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from experiments.declare.extensions import OURS, PACKAGE, imported, is_users, source_of
from experiments.machine import PROJECT, cpu_name, git_commit
from experiments.store.loaded import opened, source_as_loaded, unheard
from experiments.store.meaning import meaning_of, meaning_of_file, says_something
from experiments.store.records import Environment

#: what the records of before experiments/store/meaning.py hold, and what it means
FORMER = PROJECT / "experiments" / "former_code.json"
PACKAGES = ("numpy", "onedl-mmengine", "onedl-mmcv", "onedl-mmsegmentation", "opencv-python")
#: modules of the harness that can change a number in any run; the others carry it
_TRAINING = (
    "components",
    "config",
    "hooks",
    "loops",
    "metric",
    "optimizer",
    "predictions",
    "trainer",
)
RUNNING = frozenset({"experiments.store.areas", *(f"experiments.train.{n}" for n in _TRAINING)})
#: those that can where a run's config names what they define
SOMETIMES = frozenset({"experiments.train.pretrained"})
#: modules of the method that cannot
INERT = frozenset(
    {
        *("ssa", "ssa.errors", "ssa.network_check", "ssa.registry", "ssa.validation"),
        *("ssa.classifiers", "ssa.classifiers.catalogue"),
    }
)
#: where the C sources of a module lie
KERNELS = {"ssa.losses.native": PROJECT / "ssa" / "losses" / "kernels"}
#: keys of a config under which a class is named
NAMING = ("type", "constructor")


def code_used(objects: Iterable[object], config: dict[str, Any] | None = None) -> dict[str, str]:
    """What each of our modules that a run uses means (experiments/store/meaning.py), as a sha256.

    They are those that define the classes of ``objects`` and of what ``config`` names, the modules
    that carry every run, and all that any of these imports, in functions as well: what a run does
    not reach (another classifier, another data set) does not count.

    The loss kernels' C sources count as well, by their path, and a user's own classifier with all
    that it imports and is nobody's package, and with the files beside it that it reads.

    A module counts as it was when this process imported it (experiments/store/loaded.py).

    Args:
        objects: the modules of the network, the data sets.
        config: of mmengine's Runner, as plain values.
    """
    things = list(objects)
    roots = {cls.__module__ for thing in things for cls in type(thing).__mro__}
    roots |= {_describing(thing) for thing in things} | _named_in(config or {})
    digests = {name: _as_run(path) for name, path in reached(roots).items()}
    for module, folder in KERNELS.items():
        if module in digests:
            for path in sorted(folder.glob("*.c")):
                # what was compiled, if it was
                sources = getattr(sys.modules.get(module), "KERNEL_SOURCES", {})
                text = sources.get(path.stem, "").encode()
                taken = meaning_of(text, path.suffix) if text else _as_run(path)
                digests[str(path.relative_to(PROJECT))] = taken
    if any(name.startswith(f"{PACKAGE}.") for name in digests):
        digests |= _read_beside()
    return dict(sorted(digests.items()))


def _named_in(config: object) -> set[str]:
    """The modules that define what a config names for mmengine's registries."""
    if isinstance(config, (list, tuple)):
        return set().union(*map(_named_in, config))
    if not isinstance(config, dict):
        return set()
    import mmengine.registry
    import mmseg.registry

    places = (*vars(mmengine.registry).values(), *vars(mmseg.registry).values())
    known = [each for each in places if isinstance(each, mmengine.registry.Registry)]
    names = {config[key] for key in NAMING if isinstance(config.get(key), str)}
    # not by get(), which imports all that mmsegmentation registers
    found = (registry.module_dict.get(name) for registry in known for name in names)
    modules = {str(getattr(cls, "__module__", "")) for cls in found if cls is not None}
    return modules.union(*map(_named_in, config.values()))


def _describing(thing: object) -> str:
    """The module that describes the data set of ``thing``; "" if it has none."""
    description = getattr(thing, "description", None)
    if type(description).__module__ != "ssa.datasets.base":
        return ""
    for name, module in list(sys.modules.items()):
        file = str(getattr(module, "__file__", None) or "__init__.py")
        if not name.startswith("ssa.datasets.") or file.endswith("__init__.py"):
            continue
        if any(value is description for value in vars(module).values()):
            return name
    return "ssa.datasets.folder"  # a user's own, declared


def _read_beside() -> dict[str, str]:
    """The files beside users' classifiers that this process has read, by their place there."""
    places = [Path(place) for place in getattr(sys.modules.get(PACKAGE), "__path__", ())]
    return {
        f"{PACKAGE}/{Path(path).relative_to(place)}": digest
        for path, digest in opened().items()
        for place in places
        if Path(path).is_relative_to(place)
    }


def reached(roots: Iterable[str]) -> dict[str, Path]:
    """The modules among ``roots`` and all that they import which can change a number of a run.

    Imports in functions count, those for types only do not. A name that a package's ``__init__``
    hands on counts as the module that defines it, so that the alternatives beside it stay out.

    Args:
        roots: names of modules, also of others' packages, which are passed over.

    Returns: their files by their names.
    """
    files = _followed([*roots, *RUNNING], as_run=True)
    return {name: path for name, path in files.items() if _says_something(path, as_run=True)}


def _followed(queue: list[str], *, as_run: bool) -> dict[str, Path]:
    """The modules in ``queue`` and all that they import: as this process runs them, or now."""
    files: dict[str, Path] = {}
    while queue:
        name = queue.pop()
        if name in files or not _counts(name):
            continue
        source = _source(name)
        if source is not None:
            files[name] = Path(source[0])
            queue += _imports(name, source[0], as_run, source[1])
    return files


def _counts(name: str) -> bool:
    """Whether a module of ours or of a user's can change a number in a run."""
    top = name.split(".")[0]
    if top == "experiments":
        return name in RUNNING or name in SOMETIMES
    return name not in INERT if top == "ssa" else bool(name) and is_users(name)


def remember_code(folders: Iterable[Path] = ()) -> dict[str, str]:
    """Take every file of ours as it is now, for those that this process does not import itself.

    To be called when a training process begins; later edits change no digest of it.

    Args:
        folders: a user's own registry folders.

    Returns: path → sha256 of the bytes, of all that could change a number.
    """
    sources = [path for path in (PROJECT / "ssa").rglob("*") if path.suffix in (".py", ".c")]
    sources += [PROJECT.joinpath(*name.split(".")).with_suffix(".py") for name in RUNNING]
    sources += [path for each in folders for path in (each / "classifiers").rglob("*.py")]
    for path in sources:
        if str(path) not in _REMEMBERED:
            _REMEMBERED[str(path)] = path.read_bytes()
    return {str(p): hashlib.sha256(_REMEMBERED[str(p)]).hexdigest() for p in sorted(sources)}


#: path → a file when this process began
_REMEMBERED: dict[str, bytes] = {}


def _as_run(path: Path) -> str:
    """What a source means that this process runs."""
    source = source_as_loaded(path)
    if source is None:
        source = _REMEMBERED.get(str(path))
    return _source_digest(str(path)) if source is None else meaning_of(source, path.suffix)


def _text(path: Path, *, as_run: bool) -> bytes:
    source = source_as_loaded(path) if as_run else None
    return path.read_bytes() if source is None else source


def _says_something(path: Path, *, as_run: bool) -> bool:
    try:
        return says_something(_text(path, as_run=as_run))
    except (SyntaxError, ValueError):
        return True


#: what a file's content is remembered by; a change of it changes one of these
Stamp = tuple[int, int, int, int]


def _stamp(path: str) -> Stamp | None:
    try:
        stat = os.stat(path)  # noqa: PTH116  asked for every module of every record
    except OSError:
        return None
    return (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)


def _source(module: str) -> tuple[str, Stamp] | None:
    """The file of a module as it is now; None: there is none."""
    if "/" not in module and module.split(".")[0] not in OURS:
        own = source_of(module)
        places: tuple[str, ...] = () if own is None else (str(own),)
    else:
        places = _candidates(module)
    for path in places:
        stamp = _stamp(path)
        if stamp is not None:
            return path, stamp
    return None


@lru_cache(maxsize=1024)
def _candidates(module: str) -> tuple[str, ...]:
    """Where the file of a module of ours, or one that is named by its path, may lie."""
    if "/" in module:
        return (str(PROJECT / module),)
    stem = PROJECT.joinpath(*module.split("."))
    return (f"{stem}.py", str(stem / "__init__.py"))


@lru_cache(maxsize=1024)
def _imports(module: str, source: str, as_run: bool, _stamp: Stamp) -> tuple[str, ...]:
    """The modules of ours and of users' from which the module takes something."""
    text = _text(Path(source), as_run=as_run)
    if is_users(module):
        names = [_defined_in(name) for name in imported(text, module, Path(source))]
        parts = module.split(".")
        return (*names, *(".".join(parts[:end]) for end in range(1, len(parts))))
    if source.endswith("__init__.py"):
        return ()  # a package hands on; what is taken through it is resolved by name
    names = []
    for node in _executed(ast.parse(text)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names += [_defining(node.module, alias.name) for alias in node.names]
    return tuple(name for name in names if name.startswith("ssa."))


def _defined_in(name: str) -> str:
    """The module in which a name that a user's module imports is defined."""
    package, _, last = name.rpartition(".")
    if package.split(".")[0] != "ssa" or _source(name) is not None:
        return name
    return _defining(package, last)


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    """Every node but those that only type checkers see."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and getattr(child.test, "id", "") == "TYPE_CHECKING":
            for each in child.orelse:
                yield each
                yield from _executed(each)
            continue
        yield child
        yield from _executed(child)


def _defining(package: str, name: str) -> str:
    """The module that defines what ``from package import name`` takes."""
    if _source(f"{package}.{name}") is not None:
        return f"{package}.{name}"
    source = _source(package)
    if source is None or not source[0].endswith("__init__.py"):
        return package
    # a package that hands on lazily says so to type checkers only
    for node in ast.walk(ast.parse(Path(source[0]).read_bytes())):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _defining(node.module, alias.name)
    return package


def code_digest(code: Mapping[str, str]) -> str:
    """One sha256 over the modules and their digests."""
    lines = "\n".join(f"{name} {digest}" for name, digest in sorted(code.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def changed_modules(code: Mapping[str, str]) -> list[str]:
    """Which of a record's modules mean something else now, or are gone.

    A module of ours that went to another place unchanged is not changed. A user's own are gone
    where their registry folder has not been taken up. A module that the others take something from
    now, and that the record does not hold, is new and changes them; it is named where nothing else
    has changed.
    """
    changed = []
    for name, digest in code.items():
        if name.startswith(f"{PACKAGE}/"):
            if digest != _beside_now(name):
                changed.append(name)
        elif name.split(".")[0] not in OURS and "/" not in name:
            own = source_of(name)
            if own is None or digest not in (_source_digest(str(own)), _byte_digest(str(own))):
                changed.append(name)
        else:
            wanted = _former().get(digest, {name: digest})
            if any(
                _digest_now(each) != meant and not _moved(each, meant)
                for each, meant in wanted.items()
            ):
                changed.append(name)
    return changed or _new_beside(code)


def _new_beside(code: Mapping[str, str]) -> list[str]:
    """Modules that a record's modules import now and it does not hold, neither here nor elsewhere.

    An import alone is no part of what a module means, since its place changes nothing.
    """
    new = _followed([name for name in code if "/" not in name], as_run=False)  # a file imports none
    held = set(code.values())
    return [
        name
        for name, path in sorted(new.items())
        if name not in code
        and _source_digest(str(path)) not in held
        and _says_something(path, as_run=False)
    ]


@lru_cache(maxsize=1)
def _former() -> Mapping[str, dict[str, str]]:
    """sha256 of a module's bytes, as records held it once → modules and what they mean."""
    return json.loads(FORMER.read_text(encoding="utf-8"))


def _moved(name: str, digest: str) -> bool:
    """Whether a module that is gone stands, with this meaning, in another place of ours."""
    return _digest_now(name) is None and digest in _meanings_in(int(time.monotonic()))


@lru_cache(maxsize=1)
def _meanings_in(_second: int) -> frozenset[str]:
    """What every file of ours means, looked up once a second at most."""
    paths = (path for package in ("ssa", "experiments") for path in (PROJECT / package).rglob("*"))
    return frozenset(_source_digest(str(p)) for p in paths if p.suffix in (".py", ".c"))


def _digest_now(name: str) -> str | None:
    """What a module of the project (or a file by its path) means now; None: gone."""
    source = _source(name)
    return None if source is None else _digest_of(*source)


def _beside_now(name: str) -> str | None:
    """sha256 of a file beside users' classifiers as it is now; None: gone."""
    for place in getattr(sys.modules.get(PACKAGE), "__path__", ()):
        path = Path(place, name.removeprefix(f"{PACKAGE}/"))
        if path.is_file():
            with unheard():
                return _byte_digest(str(path))
    return None


def _source_digest(path: str) -> str:
    """What a file means now."""
    stamp = _stamp(path)
    return _digest_of(path, stamp) if stamp else hashlib.sha256().hexdigest()


@lru_cache(maxsize=2048)
def _digest_of(path: str, _stamp: Stamp) -> str:
    return meaning_of_file(Path(path))


def _byte_digest(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def environment(
    objects: Iterable[object], device: str, config: dict[str, Any] | None = None
) -> Environment:
    """Describe this process.

    Args:
        objects: as in :func:`code_used`.
        device: as torch names it.
        config: as in :func:`code_used`.
    """
    import torch

    from ssa.processes import world_size

    commit, dirty = git_commit()
    code = code_used(objects, config)
    # said only where there are several: a run in flight may know the record as it was before
    together = {"processes": world_size()} if world_size() > 1 else {}
    return Environment(
        host=platform.node(),
        platform=platform.platform(),
        python=platform.python_version(),
        torch=torch.__version__,
        packages={name: importlib.metadata.version(name) for name in PACKAGES},
        device=torch.cuda.get_device_name() if device.startswith("cuda") else f"cpu: {cpu_name()}",
        threads=torch.get_num_threads(),
        git_commit=commit,
        git_dirty=dirty,
        code=code,
        code_digest=code_digest(code),
        **together,
    )
