"""Writing files so that a reader sees all of one or nothing of it."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from experiments.errors import StoreError
from experiments.machine import PRINTED


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the failures of a disk into one sentence about ``path``.

    Raises:
        StoreError: disk full, no permission, read-only file system.
    """
    try:
        yield
    except OSError as error:
        raise StoreError(disk_sentence(error, path)) from error


def disk_sentence(error: OSError, path: Path) -> str:
    """What went wrong when writing ``path`` and what to do, as one sentence."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"The disk is full: {path} could not be written. Free some space or name another "
            "folder with --results, then give the same command again; finished runs are kept."
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return (
            f"{path} cannot be written ({error.strerror}). Name a folder that you may write "
            "with --results, then give the same command again."
        )
    if error.errno == errno.ENOENT:
        return (
            f"{path} could not be written or read: somebody has removed it, or its folder. Give "
            "the same command again; finished runs are kept."
        )
    return (
        f"{path} could not be written: {error.strerror or error}. Mend that or name another folder "
        "with --results, then give the same command again; finished runs are kept."
    )


def write_atomically(path: Path, data: bytes | str) -> None:
    """Write ``path`` beside, flush it to the disk and rename it into place.

    Raises:
        StoreError: the disk is full or may not be written.
    """
    raw = data.encode(errors=PRINTED) if isinstance(data, str) else data
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file, replacing(path, Path(name), file):
            file.write(raw)


@contextlib.contextmanager
def replacing(path: Path, temporary: Path, file: IO[bytes]) -> Iterator[None]:
    """Flush what is written to ``file`` to the disk and rename it into place, or leave no trace.

    Args:
        path: what is replaced.
        temporary: the open file's place, in the same folder.
        file: open for writing.
    """
    try:
        yield
        file.flush()
        os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def strict_json(document: Any, what: str, **layout: Any) -> str:
    """JSON text without NaN and Infinity, which JSON does not have and readers choke on.

    Args:
        document: of plain values.
        what: is written, for the sentence.
        layout: of :func:`json.dumps`.

    Raises:
        StoreError: a number in it is not finite.
    """
    try:
        return printable_json(json.dumps(document, allow_nan=False, **layout))
    except ValueError as error:
        raise StoreError(
            f"{what} is not written: it holds a number that is not finite (NaN or infinite), as "
            "scores without a labelled pixel are. `./run_all.sh data verify` checks the data set."
        ) from error


def printable_json(text: str) -> str:
    r"""JSON text with bytes of file names that are not UTF-8 as the characters ``\xe9``."""
    if text.isascii():
        return text
    return re.sub("[\udc80-\udcff]", lambda m: rf"\\x{ord(m[0]) - 0xDC00:02x}", text)


def read_bounded(path: Path, most: int) -> bytes:
    """The content of a regular file, which is looked at before memory is taken.

    Args:
        path: of the file, or of a link to it.
        most: bytes that such a file may have.

    Raises:
        FileNotFoundError: there is none.
        OSError: it cannot be read, or is a folder, a pipe or a device, which would never end.
        ValueError: it is larger.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe without a writer would wait
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(file.fileno())
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        if found.st_size > most:
            raise ValueError(f"it has {found.st_size} bytes, where at most {most} are read")
        return file.read(min(most, found.st_size + 1))  # read(n) takes n bytes at once


def parsed_json(text: str | bytes, **options: Any) -> Any:
    """What a JSON text says.

    Args:
        text: in UTF-8 where it is bytes.
        options: of :func:`json.loads`.

    Raises:
        ValueError: it is no JSON, or nested without end.
    """
    try:
        return json.loads(text, **options)
    except RecursionError:
        raise ValueError("it is nested without end") from None


def write_if_changed(path: Path, text: str) -> None:
    """:func:`write_atomically`, unless the file says so already: flushing to a disk takes its time.

    Raises:
        StoreError: the disk is full or may not be written.
    """
    raw = text.encode(errors=PRINTED)
    try:
        if read_bounded(path, len(raw)) == raw:
            return
    except (OSError, ValueError):
        pass  # not there, not readable or longer: write it, or say why not
    write_atomically(path, raw)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries, so that a rename survives a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:  # some network file systems refuse; the rename itself stays atomic
        pass
    finally:
        os.close(handle)
