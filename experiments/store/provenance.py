"""Which machine, which software, which state of our own code."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import sys
from collections.abc import Iterable, Mapping
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
RUNNING = frozenset(
    {"experiments.store.areas"}
    | {
        f"experiments.train.{name}"
        for name in ("components", "config", "hooks", "loops", "metric", "optimizer", "trainer")
    }
)
#: modules of the method that cannot
INERT = frozenset({"ssa.errors", "ssa.registry"})


def code_used(objects: Iterable[object]) -> dict[str, str]:
    """What each of our modules that a run used means (experiments/store/meaning.py), as a sha256.

    Of the folders in which every module is one alternative (classifiers, backbones, heads, data
    sets), only those count whose classes the run's ``objects`` are instances of, with their bases.

    The loss kernels' C sources count as well, by their path, and a user's own classifier with the
    files beside it that it imports.

    Args:
        objects: the modules of the network, the data sets.
    """
    used = {cls.__module__ for thing in objects for cls in type(thing).__mro__}
    digests: dict[str, str] = {}
    for name, module in sorted(sys.modules.items()):
        if name.split(".")[0] not in ("ssa", "experiments") or not _has_source(module):
            continue
        if not _counts(name) or (_is_alternative(name) and name not in used):
            continue
        if not says_something(Path(str(module.__file__)).read_bytes()):
            continue
        digests[name] = _source_digest(str(module.__file__))
    if "ssa.losses.native" in digests:
        for path in sorted((PROJECT / "ssa" / "losses" / "kernels").glob("*.c")):
            digests[str(path.relative_to(PROJECT))] = _source_digest(str(path))
    own = sources_used(sorted(used))
    return digests | {name: _source_digest(str(path)) for name, path in sorted(own.items())}


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
