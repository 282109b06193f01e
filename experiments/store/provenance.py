"""Which machine, which software, which state of our own code."""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import json
import platform
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from types import ModuleType

from experiments.declare.extensions import PACKAGE, source_of, sources_used
from experiments.machine import PROJECT, cpu_name, git_commit
from experiments.store.meaning import meaning_of_file, says_something
from experiments.store.records import Environment

#: what the records of before experiments/store/meaning.py hold, and what it means
FORMER = PROJECT / "experiments" / "former_code.json"
PACKAGES = ("numpy", "onedl-mmengine", "onedl-mmcv", "onedl-mmsegmentation", "opencv-python")
#: packages of ours in which each module is one alternative of many; a run depends on those it uses
ALTERNATIVES = ("ssa.classifiers.", "ssa.backbones.", "ssa.heads.", "ssa.datasets.", "ssa.mask_")
#: of those, what several of the alternatives share and any of them may call
SHARED = ("ssa.classifiers.parts.",)
#: modules of the harness that can change a number in a run; the others carry it
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
#: modules of the method that cannot
INERT = frozenset(
    {
        *("ssa", "ssa.errors", "ssa.registry", "ssa.validation"),
        *("ssa.classifiers", "ssa.classifiers.catalogue"),
    }
)
#: modules of the method that a run's config names by a string, whose objects nobody hands in
ALWAYS = frozenset({"ssa.datasets.sampler"})


def code_used(objects: Iterable[object]) -> dict[str, str]:
    """What each of our modules that a run used means (experiments/store/meaning.py), as a sha256.

    Of the folders in which every module is one alternative (classifiers, backbones, heads, data
    sets), only those count whose classes the run's ``objects`` are instances of, with their bases.

    The loss kernels' C sources count as well, by their path, and a user's own classifier with the
    files beside it that it imports.

    Args:
        objects: the modules of the network, the data sets.
    """
    things = list(objects)
    for thing in objects:
        things += getattr(getattr(thing, "pipeline", None), "transforms", ())
    named = {cls.__module__ for thing in things for cls in type(thing).__mro__}
    used = reached({name for name in named if name.startswith("ssa.")} | ALWAYS) | named
    digests: dict[str, str] = {}
    for name, module in sorted(sys.modules.items()):
        if name.split(".")[0] not in ("ssa", "experiments") or not _has_source(module):
            continue
        if not _counts(name) or (_is_alternative(name) and name not in used):
            continue
        if not _says_something(str(module.__file__)):
            continue
        digests[name] = _source_digest(str(module.__file__))
    if "ssa.losses.native" in digests:
        for path in sorted((PROJECT / "ssa" / "losses" / "kernels").glob("*.c")):
            digests[str(path.relative_to(PROJECT))] = _source_digest(str(path))
    own = sources_used(sorted(used))
    return digests | {name: _source_digest(str(path)) for name, path in sorted(own.items())}


def reached(roots: Iterable[str]) -> set[str]:
    """The modules of ``ssa`` among ``roots`` and all that they import, in functions as well.

    A name that a package's ``__init__`` hands on counts as the module that defines it, so that the
    alternatives beside it stay out; what is imported for types only does not count.
    """
    queue, names = list(roots), set[str]()
    while queue:
        name = queue.pop()
        if name not in names:
            names.add(name)
            queue += _imports(name)
    return names


def remember_code(folders: Iterable[Path] = ()) -> dict[str, str]:
    """Take what every file of ours means now; later edits change no digest of this process.

    To be called right after the imports: the files then still say what runs.

    Args:
        folders: a user's own registry folders.

    Returns: path → sha256, of all that could change a number.
    """
    sources = [path for path in (PROJECT / "ssa").rglob("*") if path.suffix in (".py", ".c")]
    sources += [PROJECT.joinpath(*name.split(".")).with_suffix(".py") for name in RUNNING]
    sources += [path for each in folders for path in (each / "classifiers").rglob("*.py")]
    for path in sources:
        if path.suffix == ".py":
            _says_something(str(path))
    return {str(path): _source_digest(str(path)) for path in sorted(sources)}


@lru_cache(maxsize=1024)
def _says_something(path: str) -> bool:
    try:
        return says_something(Path(path).read_bytes())
    except (SyntaxError, ValueError):
        return True


def _source(module: str) -> Path | None:
    path = PROJECT.joinpath(*module.split("."))
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return source if source.exists() else None


@lru_cache(maxsize=512)
def _imports(module: str) -> tuple[str, ...]:
    """The modules of ``ssa`` from which the module takes something."""
    source = _source(module)
    if source is None or source.name == "__init__.py":
        return ()  # a package hands on; what is taken through it is resolved by name
    names: list[str] = []
    for node in _executed(ast.parse(source.read_bytes())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names += [_defining(node.module, alias.name) for alias in node.names]
    return tuple(name for name in names if name.startswith("ssa.") and name not in INERT)


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
    if source is None or source.name != "__init__.py":
        return package
    # a package that hands on lazily says so to type checkers only
    for node in ast.walk(ast.parse(source.read_bytes())):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _defining(node.module, alias.name)
    return package


def _counts(name: str) -> bool:
    """Whether a module of ours can change a number in a run."""
    return name not in INERT and (not name.startswith("experiments") or name in RUNNING)


def _is_alternative(name: str) -> bool:
    return name.startswith(ALTERNATIVES) and not name.startswith(SHARED)


def code_digest(code: Mapping[str, str]) -> str:
    """One sha256 over the modules and their digests."""
    lines = "\n".join(f"{name} {digest}" for name, digest in sorted(code.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def changed_modules(code: Mapping[str, str]) -> list[str]:
    """Which of a record's modules mean something else now, or are gone.

    A module of ours that went to another place unchanged is not changed. A user's own are gone
    where their registry folder has not been taken up. What cannot change a number is passed over,
    also where an older record lists it.
    """
    changed = []
    for name, digest in code.items():
        if name.startswith(f"{PACKAGE}."):
            own = source_of(name)
            if own is None or digest not in (_source_digest(str(own)), _byte_digest(str(own))):
                changed.append(name)
            continue
        wanted = _former().get(digest, {name: digest})
        if any(
            _digest_now(each) != meant and not _moved(each, meant) for each, meant in wanted.items()
        ):
            changed.append(name)
    return changed


@lru_cache(maxsize=1)
def _former() -> Mapping[str, dict[str, str]]:
    """sha256 of a module's bytes, as records held it once → modules and what they mean."""
    return json.loads(FORMER.read_text(encoding="utf-8"))


def _moved(name: str, digest: str) -> bool:
    """Whether a module that is gone stands, with this meaning, in another place of ours."""
    return _digest_now(name) is None and digest in _meanings_now()


@lru_cache(maxsize=1)
def _meanings_now() -> frozenset[str]:
    paths = (path for package in ("ssa", "experiments") for path in (PROJECT / package).rglob("*"))
    return frozenset(_source_digest(str(p)) for p in paths if p.suffix in (".py", ".c"))


@lru_cache(maxsize=512)
def _digest_now(name: str) -> str | None:
    """What a module of the project (or a file by its path) means now; None: gone."""
    if "/" in name:
        source = PROJECT / name
    else:
        path = PROJECT.joinpath(*name.split("."))
        source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return _source_digest(str(source)) if source.exists() else None


@lru_cache(maxsize=1024)
def _source_digest(path: str) -> str:
    try:
        return meaning_of_file(Path(path))
    except (SyntaxError, ValueError):
        return _byte_digest(path)


def _byte_digest(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def _has_source(module: ModuleType) -> bool:
    return str(getattr(module, "__file__", None) or "").endswith(".py")


def environment(objects: Iterable[object], device: str) -> Environment:
    """Describe this process; ``objects`` as in :func:`code_used`, ``device`` as torch names it."""
    import torch

    from ssa.processes import world_size

    commit, dirty = git_commit()
    code = code_used(objects)
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
