"""A packed data set: every pair decoded once into one memory-mapped file.

Decoding JPEG and PNG costs more than the whole training pipeline. A packed split is read by page
faults instead, shared by all workers and runs of a machine; it changes no byte of what is trained.
It takes four bytes a pixel: 0.5 GB for CamVid, about 30 GB for ADE20K.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssa.datasets.base import DataError
from ssa.errors import ConfigurationError

Pixels = NDArray[np.uint8]
Read = Callable[[int], tuple[Pixels, Pixels]]  # index → image (H, W, 3), label (H, W)

_VERSION = 1


class Packed:
    """Decoded pairs in one file: images and labels one after another, then a table of shapes.

    Args:
        file: as ``pack`` wrote it.
        key: what it must hold; see ``pack_key``.

    Raises:
        DataError: if it is damaged or holds something else.
    """

    def __init__(self, file: Path, key: str) -> None:
        self.file = Path(file)
        try:
            with self.file.open("rb") as stream:
                stream.seek(-8, os.SEEK_END)
                length = int.from_bytes(stream.read(8), "little")
                stream.seek(-8 - length, os.SEEK_END)
                table = json.loads(stream.read(length))
            found, self.shapes = table["key"], [(int(h), int(w)) for h, w in table["shapes"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{file} is no packed data set ({error}); delete it.") from error
        sizes = np.array([4 * h * w for h, w in self.shapes], np.int64)
        self.offsets = np.concatenate([[0], np.cumsum(sizes)])
        if found != key or self.file.stat().st_size != self.offsets[-1] + length + 8:
            raise DataError(f"{file} is damaged or was packed from other files; delete it.")
        self._bytes: Pixels | None = None

    def __len__(self) -> int:
        return len(self.shapes)

    def __getstate__(self) -> dict[str, object]:
        """Without the mapping: each worker maps the file itself."""
        return {**self.__dict__, "_bytes": None}

    def __getitem__(self, index: int) -> tuple[Pixels, Pixels]:
        """Image (H, W, 3) and label (H, W), read-only views of the file."""
        if self._bytes is None:
            # A plain array over the mapping: slicing np.memmap costs microseconds each time.
            self._bytes = np.asarray(np.memmap(self.file, np.uint8, "r"))
        (height, width), start = self.shapes[index], int(self.offsets[index])
        middle = start + 3 * height * width
        image = self._bytes[start:middle].reshape(height, width, 3)
        return image, self._bytes[middle : middle + height * width].reshape(height, width)


def pack_key(digest: str, split: str, working_size: tuple[int, ...] | None) -> str:
    """What determines a packed file's content, as one word.

    Args:
        digest: of the data set's content (``content_digest`` or scenes.json's).
    """
    text = json.dumps([_VERSION, digest, split, list(working_size) if working_size else None])
    return hashlib.sha256(text.encode()).hexdigest()


def pack(read: Read, count: int, folder: Path, key: str) -> Path:
    """Write ``count`` pairs into ``folder``, beside and renamed; nothing if they are there.

    Of several processes that ask at once, one writes and the others wait for it.

    Raises:
        DataError: if it cannot be written or a pair cannot be read.
        ConfigurationError: if there is nothing to pack.
    """
    if count == 0:
        raise ConfigurationError("Cannot pack an empty split.")
    file = Path(folder) / f"packed-{key[:16]}.bin"
    if file.exists():
        Packed(file, key)
        return file
    temporary, lock = None, None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(file.parent, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)  # of the folder; dropped however we end
        if file.exists():
            Packed(file, key)
            return file
        handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}-")
        temporary = Path(name)
        shapes = []
        with os.fdopen(handle, "wb") as stream:
            for index in range(count):
                image, label = read(index)
                stream.write(np.ascontiguousarray(image).data)
                stream.write(np.ascontiguousarray(label).data)
                shapes.append(list(label.shape))
            table = json.dumps({"key": key, "shapes": shapes}).encode()
            stream.write(table + len(table).to_bytes(8, "little"))
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
    except OSError as error:
        raise DataError(
            f"Cannot pack the data set into {file}: {error.strerror}. Free some space there, or "
            "train without the packed cache."
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        if lock is not None:
            os.close(lock)
    return file
