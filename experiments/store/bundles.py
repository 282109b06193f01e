"""Reading a bundle that somebody else made: every byte is checked before anything is kept.

A bundle is a folder, or a zip file of one, with ``manifest-sha256.txt``: the sha256 and the path of
every other file, a line each, as ``sha256sum -c`` reads them. What a bundle may not do is leave the
folder that it is unpacked into, hold links or devices, or be larger than it says.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from experiments.errors import SsaError
from experiments.files import writing
from ssa.released.manifest import sha256_of

MANIFEST = "manifest-sha256.txt"
#: what a bundle may hold: files, and bytes of all of them
MOST_FILES = 100_000
MOST_BYTES = 32 << 30
MOST_OF_A_MANIFEST = 64 << 20
#: JSON and arrays of counts shrink to a tenth; a zip bomb to a thousandth
MOST_RATIO = 200
_ALWAYS_ALLOWED = 1 << 20  # bytes of a file of zeros that harm nobody
_CHUNK = 1 << 20
_LINE = re.compile(r"([0-9a-f]{64})  (.+)")
_ENCRYPTED = 0x1
_Opener = Callable[[str], IO[bytes]]


class BundleError(SsaError):
    """A bundle that cannot be made, or one that is damaged or not safe to unpack."""


def manifest_of(folder: Path) -> str:
    """The text of the manifest of all that ``folder`` holds."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    names = [(path, path.relative_to(folder).as_posix()) for path in files]
    return "".join(f"{sha256_of(path)}  {name}\n" for path, name in names if name != MANIFEST)


def unbundle(source: Path, out: Path) -> int:
    """Check a bundle and unpack it into a new results folder.

    Args:
        source: the bundle, a folder or a zip file; it is only read.
        out: the folder to make; it may exist if it is empty. Either all is in it afterwards or
            nothing.

    Returns the number of files that were checked.

    Raises:
        BundleError: no bundle, a damaged one, or one that holds what may not be unpacked; ``out``
            is taken.
        StoreError: the disk is full or may not be written.
    """
    refuse_taken(out)
    if source.is_dir():
        names = _names_of_folder(source)
        return _unpack(source, names, lambda name: (source / name).open("rb"), out)
    try:
        with zipfile.ZipFile(source) as archive:
            entries = _entries(source, archive)
            sizes = {name: entry.file_size for name, entry in entries.items()}
            return _unpack(source, sizes, lambda name: archive.open(entries[name]), out)
    except FileNotFoundError:
        raise BundleError(
            f"There is no {source}: name a folder or a zip file that `./run_all.sh bundle` wrote."
        ) from None
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError) as error:
        raise _damaged(source, str(error)) from None


def refuse_taken(out: Path) -> None:
    """Nothing that is there is written over.

    Raises:
        BundleError: ``out`` is a file, a link, or a folder that holds something.
    """
    if out.is_symlink() or (out.exists() and not (out.is_dir() and not any(out.iterdir()))):
        raise BundleError(f"{out} exists: name another place with --out, or remove it first.")


@contextmanager
def made_beside(out: Path) -> Iterator[Path]:
    """A temporary folder beside ``out`` that takes its name when all went well.

    Raises:
        StoreError: the disk is full or may not be written.
    """
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        yield temporary
        with writing(out):
            temporary.chmod(0o755)  # mkdtemp's 0700 would hide it from co-authors
            temporary.replace(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _unpack(source: Path, sizes: Mapping[str, int], opened: _Opener, out: Path) -> int:
    if len(sizes) > MOST_FILES or sum(sizes.values()) > MOST_BYTES:
        raise _refused(source, f"it holds more than {MOST_FILES} files or {MOST_BYTES >> 30} GiB")
    expected = _manifest(source, sizes, opened)
    with made_beside(out) as temporary:
        for name, size in sizes.items():
            target = temporary / name
            with writing(target):
                target.parent.mkdir(parents=True, exist_ok=True)
            digest = _copy(source, name, size, opened, target)
            if name != MANIFEST and digest != expected[name]:
                raise _damaged(source, f"the checksum of {name} does not fit its content")
    return len(expected)


def _manifest(source: Path, sizes: Mapping[str, int], opened: _Opener) -> dict[str, str]:
    """Path → sha256 of every file but the manifest.

    Raises:
        BundleError: it is missing or unreadable, or names other files than there are.
    """
    if MANIFEST not in sizes:
        raise BundleError(
            f"{source} is no bundle: it has no {MANIFEST}. `./run_all.sh bundle TABLE --out "
            "FILE.zip` makes one."
        )
    if sizes[MANIFEST] > MOST_OF_A_MANIFEST:
        raise _refused(source, f"its {MANIFEST} is larger than {MOST_OF_A_MANIFEST >> 20} MiB")
    with opened(MANIFEST) as stream:
        raw = stream.read(MOST_OF_A_MANIFEST + 1)
    try:
        lines = [_LINE.fullmatch(line) for line in raw.decode().removesuffix("\n").split("\n")]
    except UnicodeDecodeError:
        lines = [None]
    listed = {line[2]: line[1] for line in lines if line}
    if None in lines or len(listed) != len(lines):
        raise _damaged(source, f"{MANIFEST} has a line that is no checksum and path")
    present = set(sizes) - {MANIFEST}
    if missing := sorted(set(listed) - present):
        raise _damaged(source, f"{missing[0]} is missing")
    if unlisted := sorted(present - set(listed)):
        raise _damaged(source, f"{unlisted[0]} has no checksum in {MANIFEST}")
    return listed


def _copy(source: Path, name: str, size: int, opened: _Opener, target: Path) -> str:
    """Copy one file, at most as long as it says; its sha256 (hex)."""
    digest, left = hashlib.sha256(), size
    with writing(target), target.open("xb") as file, opened(name) as stream:
        while chunk := stream.read(_CHUNK):
            left -= len(chunk)
            if left < 0:
                raise _refused(source, f"{name} is longer than it says")
            digest.update(chunk)
            file.write(chunk)
    return digest.hexdigest()


def _names_of_folder(source: Path) -> dict[str, int]:
    """Path → bytes of every file in a folder.

    Raises:
        BundleError: something in it is neither a file nor a folder.
    """
    sizes = {}
    for folder, below, files in os.walk(source):
        for each in (*below, *files):
            path = Path(folder) / each
            name, state = path.relative_to(source).as_posix(), path.lstat()
            if stat.S_ISREG(state.st_mode):
                _check_name(source, name)
                sizes[name] = state.st_size
            elif not stat.S_ISDIR(state.st_mode):
                raise _refused(source, f"{name} is a link, a pipe or a device")
    return sizes


def _entries(source: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Path → entry of every file in a zip file.

    Raises:
        BundleError: an entry that may not be unpacked.
    """
    entries: dict[str, zipfile.ZipInfo] = {}
    for entry in archive.infolist():
        name = entry.filename
        _check_name(source, name.removesuffix("/"))
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _refused(source, f"{name} is a link, a pipe or a device")
        if entry.flag_bits & _ENCRYPTED:
            raise _refused(source, f"{name} is encrypted")
        if entry.is_dir():
            continue
        if name in entries:
            raise _refused(source, f"{name} is in it twice")
        if entry.file_size > max(_ALWAYS_ALLOWED, MOST_RATIO * entry.compress_size):
            raise _refused(
                source,
                f"{name} grows from {entry.compress_size} to {entry.file_size} bytes, as zip bombs "
                "do",
            )
        entries[name] = entry
    above = {str(parent) for name in entries for parent in PurePosixPath(name).parents}
    if both := above & entries.keys():
        raise _refused(source, f"{min(both)} is a file and a folder")
    return entries


def _check_name(source: Path, name: str) -> None:
    r"""A path below the folder on any system: no ``/etc``, ``C:``, ``..``, ``a\b``.

    Raises:
        BundleError: it leads elsewhere.
    """
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts) or re.search(r"[\\:\0-\x1f]", name):
        raise _refused(source, f"{name!r} is no path below the folder")


def _refused(source: Path, why: str) -> BundleError:
    return BundleError(
        f"{source} is not unpacked: {why}. Ask whoever sent it for a bundle as `./run_all.sh "
        "bundle` writes it."
    )


def _damaged(source: Path, why: str) -> BundleError:
    return BundleError(f"{source} is damaged ({why}): nothing was unpacked. Fetch it once more.")
