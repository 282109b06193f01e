"""Features of images kept in files: computed once, looked up by every later step and run.

A file is of use only where computing anew would give the same bits. So its folder is named by what
decides them beside the image (``identity``), its name by the image's bytes, and a checksum binds
both to what it holds; whatever does not fit is computed anew and written over.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

#: bytes of all files under a root; features beyond are computed each time
LIMIT = 4 << 30
#: float32, as they are computed: what is looked up is what was computed, bit for bit
_KIND = np.float32

_log = logging.getLogger(__name__)


class FeatureStore:
    """Maps of images under one identity. Several processes may share it.

    Args:
        root: of the stores of all identities; made if it is not there.
        identity: what decides an image's features beside the image, as one word.
        limit: bytes that all files under ``root`` may take together.
    """

    def __init__(self, root: str | Path, identity: str, limit: int = LIMIT) -> None:
        self.identity = identity
        self.folder = Path(root) / f"features-{identity[:16]}"
        self._room = limit - _size_of(Path(root))

    def get(self, key: str) -> list[Tensor] | None:
        """The maps (1, C, h, w) of an image; None: there are none, or a file is damaged.

        Args:
            key: the image's :func:`key_of`.
        """
        try:
            content = self._file(key).read_bytes()
        except OSError:
            return None
        said, _, values = content.partition(b"\n")
        try:
            about = json.loads(said)
            shapes = [tuple(int(side) for side in shape) for shape in about["shapes"]]
            whole = about["sha256"] == self._checksum(key, shapes, values)
        except (ValueError, LookupError, TypeError, RecursionError):
            return None
        if not whole:
            return None
        numbers = np.frombuffer(values, _KIND)
        ends = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]
        # copies: a file's bytes are read-only, and torch has no such tensors
        parts = zip(np.split(numbers, ends), shapes)
        return [torch.from_numpy(part.reshape(shape).copy()) for part, shape in parts]

    def put(self, key: str, maps: Sequence[Tensor]) -> None:
        """Keep the maps of an image, if there is room; written beside and renamed."""
        values = b"".join(_bytes_of(each) for each in maps)
        if len(values) > self._room:
            if self._room >= 0:
                _log.warning(
                    "%s is full: features are computed each time they are needed; delete the "
                    "folder to have new ones kept.",
                    self.folder.parent,
                )
            self._room = -1
            return
        shapes = [tuple(each.shape) for each in maps]
        about = {"shapes": shapes, "sha256": self._checksum(key, shapes, values)}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=self.folder, prefix=".new-")
            try:
                with os.fdopen(handle, "wb") as stream:  # unsynced: a checksum tells what is whole
                    stream.write(json.dumps(about).encode() + b"\n" + values)
                Path(temporary).replace(self._file(key))
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
        except OSError as error:
            _log.warning("%s takes no features (%s): none are kept.", self.folder, error.strerror)
            self._room = -1
            return
        self._room -= len(values)

    def _file(self, key: str) -> Path:
        return self.folder / f"{key}.maps"

    def _checksum(self, key: str, shapes: Sequence[tuple[int, ...]], values: bytes) -> str:
        about = json.dumps([self.identity, key, shapes]).encode()
        return hashlib.sha256(about + values).hexdigest()


def key_of(image: Tensor) -> str:
    """An image's own name: the digest of its shape, kind of numbers and bytes."""
    about = f"{tuple(image.shape)} {image.dtype}".encode()
    return hashlib.sha256(about + _bytes_of(image)).hexdigest()


def _bytes_of(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().numpy().tobytes()


def _size_of(root: Path) -> int:
    """Bytes of the files under a root, two folders deep."""
    return sum(map(_length, root.glob("features-*/*")))


def _length(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:  # another process renamed it
        return 0
