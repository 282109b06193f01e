"""What this process runs: the very source of each module, taken as Python reads it.

The digest of a file says what ran only if the file is read at the moment of its import: before, it
may be edited until then; after, it may have been edited since. A module's compiled copy
(``__pycache__``) is passed over, since Python takes it for current where size and modification time
are, which ``rsync -t`` and tar restore.

A user's classifier may read files beside itself (a table of numbers, YAML); they are noted as they
are opened.

A training process begins it before all else of ours (experiments/train/listening.py); a command
that only plans would lose the time that compiled copies save.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

from experiments.declare.extensions import is_installed

#: path → source of the modules that were imported
_SOURCES: dict[str, bytes] = {}
#: path → size and time, sha256 of the other files beside users' modules that were opened
_OPENED: dict[str, tuple[tuple[int, ...], str]] = {}
_places: tuple[str, ...] = ()


def source_as_loaded(path: str | Path) -> bytes | None:
    """The source that this process imported from ``path``; None: unheard, or not at all."""
    return _SOURCES.get(os.path.realpath(path))


def watch(places: Sequence[Path]) -> None:
    """Note from now on which files in these folders are opened, but for Python's own."""
    global _places
    if not _places:
        sys.addaudithook(_note)  # for good: a process cannot take it back
    _places = (*_places, *(str(place.resolve()) + os.sep for place in places))


@contextlib.contextmanager
def unheard() -> Iterator[None]:
    """Read files that are only compared."""
    global _places
    before, _places = _places, ()
    try:
        yield
    finally:
        _places = before


def opened() -> dict[str, str]:
    """Path → sha256 of the files in the watched folders, as they were when they were opened.

    Of one that was opened again after an edit, a digest that no file has.
    """
    return {path: digest for path, (_, digest) in _OPENED.items() if digest}


def _note(event: str, arguments: tuple[object, ...]) -> None:
    if event != "open" or not isinstance(arguments[0], str):
        return
    flags = arguments[2]
    if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR):
        return
    path = os.path.abspath(arguments[0])  # noqa: PTH100  called for every file: no Path
    if not (_places and path.startswith(_places)) or path.endswith((".py", ".pyc")):
        return
    with contextlib.suppress(OSError):
        stat = os.stat(path)  # noqa: PTH116
        stamp = (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
        before, digest = _OPENED.get(path, ((), ""))
        if stamp != before:
            _OPENED[path] = (stamp, digest)  # reading it opens it once more
            sha = hashlib.sha256(Path(path).read_bytes()).hexdigest()
            both = hashlib.sha256(f"{digest} {sha}".encode()).hexdigest()
            _OPENED[path] = (stamp, both if digest and digest != sha else sha)


class _Listening(SourceFileLoader):
    """Compiles the source each time and keeps it."""

    def get_code(self, fullname: str) -> CodeType | None:
        """The code of a module, from its source."""
        source = self.get_data(self.path)
        _SOURCES[os.path.realpath(self.path)] = source
        return self.source_to_code(source, self.path)


class _Finder:
    """Finds what Python's own finder does, and listens where the source is nobody's package."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of a module."""
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and type(spec.loader) is SourceFileLoader:
            origin = spec.loader.path
            if not is_installed(origin):
                spec.loader = _Listening(spec.loader.name, origin)
        return spec


def listen() -> None:
    """Keep the source of what is imported from now on; not that of what has been."""
    if _Finder not in sys.meta_path:
        at = sys.meta_path.index(PathFinder) if PathFinder in sys.meta_path else 0
        sys.meta_path.insert(at, _Finder)
