"""What torch saved, read as data: no code of it is executed, whatever the file is."""

from __future__ import annotations

import pickle
import struct
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

#: of unpickling what nobody pickled
_BROKEN = (
    pickle.UnpicklingError,
    RuntimeError,  # torch's own; of nesting without end, too
    OSError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    NameError,
    MemoryError,
    struct.error,
)
_NO_ARCHIVE = (
    zipfile.BadZipFile,
    zlib.error,
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    LookupError,
)
#: bytes of tensors' values stand in a file as they are, so that it is at least as long
_PACKED = "its parts are compressed, as torch never writes them"


def damage_of(path: Path) -> str | None:
    """Why a file of torch is not whole, by the checksums of its parts; None: it is.

    Nothing in it is looked at by torch.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if any(part.compress_type != zipfile.ZIP_STORED for part in archive.infolist()):
                return _PACKED
            bad = archive.testzip()
    except _NO_ARCHIVE as error:
        return str(error) or type(error).__name__
    return f"the part {bad} has another checksum" if bad else None


def _is_archive(path: Path) -> bool:
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:  # of a damaged end: it is one, and what is wrong is said later
        return True


def read_tensors(
    path: Path, allowed: Iterable[Any] = (), *, mapped: bool = False, former: bool = False
) -> Any:
    """What torch saved in ``path``, on the CPU, if it is data alone.

    Args:
        path: of the file.
        allowed: classes that it may hold besides tensors and plain values.
        mapped: leave tensors' values in the file until they are asked for.
        former: it may be of the form before torch 1.6, which has no checksums.

    Raises:
        ValueError: it is damaged, or holds what only code could restore.
        FileNotFoundError: there is none.
    """
    import torch

    if not path.is_file():
        raise FileNotFoundError(path)
    if (not former or _is_archive(path)) and (damage := damage_of(path)):
        raise ValueError(damage)
    try:
        with torch.serialization.safe_globals(list(allowed)):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except _BROKEN as error:
        text = str(error) or type(error).__name__
        raise ValueError(" ".join(text.split())[:200]) from None
