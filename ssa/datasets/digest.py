"""The digest of a data set's content: what enters a run's identity."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ssa.datasets.base import DataError, DataSet

MOST_BYTES = 1 << 28  # of what is kept of a data set: some 100 bytes a file


def content_digest(
    dataset: DataSet, root: Path, splits: Sequence[str], cache_dir: Path | None = None
) -> str:
    """sha256 (hex) over the splits' names and, pair by pair, file names and bytes.

    Of annotations that ``prepare`` converts, the pixels are taken instead of the bytes: zlib and
    zlib-ng write the same picture as different files.

    File hashes are kept in ``cache_dir`` with size, modification and change time and inode (the
    last two because ``rsync -t`` restores the first two), so that a later call only looks them up;
    the data root itself is never written to.

    Raises:
        DataError: if the folder is not this data set, a file cannot be read, or has a name that
            no record could hold.
    """
    root = Path(root).resolve()
    known = _FileHashes(cache_dir, root)
    converted = dataset.layout(root).converted
    total = hashlib.sha256()
    for split in splits:
        total.update(f"split {split}\n".encode())
        for pair in dataset.load_index(root, split):
            if sentence := unstorable_name(pair.image):
                raise DataError(sentence)
            for path, pixels in ((pair.image, False), (pair.label, converted)):
                total.update(f"{path.name} {known.sha256(path, pixels)}\n".encode())
    known.save()
    return total.hexdigest()


def unstorable_name(path: Path) -> str:
    """The sentence about a file whose name is no text in UTF-8; "" if it is.

    Records, exports and lists of images hold names, and their formats hold text only.
    """
    try:
        path.name.encode()
    except UnicodeEncodeError:
        readable = os.fsencode(path).decode(errors="backslashreplace")
        return (
            f"The name of {readable} is not UTF-8, so that no record of a run could hold it. "
            "Rename the image and its mask; convmv does so for whole folders."
        )
    return ""


def _remembered(path: Path) -> dict[str, list[int | str]]:
    """What an earlier call kept: file → size, both times, inode, digest. What is odd is left out.

    An entry is believed only if it has the form of one that was written here: whatever else stands
    there would go into a data set's digest, or end the call.
    """
    try:
        if not path.is_file() or path.stat().st_size > MOST_BYTES:
            return {}
        document = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return {}  # absent or damaged: hash anew
    if not isinstance(document, dict):
        return {}
    return {str(key): entry for key, entry in document.items() if _is_entry(entry)}


def _is_entry(entry: object) -> bool:
    if not isinstance(entry, list) or len(entry) != 5:
        return False
    *stamp, digest = entry
    return all(type(number) is int for number in stamp) and (
        isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest) is not None
    )


class _FileHashes:
    """sha256 of files under one root, remembered while size, both times and inode stay."""

    def __init__(self, cache_dir: Path | None, root: Path) -> None:
        self.root, self.changed = root, False
        name = hashlib.sha256(os.fsencode(root)).hexdigest()[:16]
        self.file = Path(cache_dir) / f"digest-{name}.json" if cache_dir else None
        self.entries = _remembered(self.file) if self.file else {}

    def sha256(self, path: Path, pixels: bool) -> str:
        """The digest of a file's bytes, or of the picture that it holds."""
        try:
            stat = path.stat()
            key = str(path.relative_to(self.root))
            stamp = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
            entry = self.entries.get(key)
            if entry is None or entry[:-1] != stamp:
                if pixels:
                    from ssa.datasets.pixels import read_label  # cv2, which most calls do without

                    picture = read_label(path)
                    content = repr(picture.shape).encode() + picture.tobytes()
                else:
                    content = path.read_bytes()
                value = hashlib.sha256(content).hexdigest()
                self.entries[key], self.changed = [*stamp, value], True
            return str(self.entries[key][-1])
        except OSError as error:
            raise DataError(f"Cannot read {path}: {error.strerror}.") from error

    def save(self) -> None:
        """Write the cache beside and rename; a cache that cannot be written is only slower."""
        if self.file is None or not self.changed:
            return
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self.file.parent, prefix=".digest-")
        except OSError:
            return
        try:
            with os.fdopen(handle, "w") as stream:
                json.dump(self.entries, stream)
            Path(name).replace(self.file)
        except OSError:
            Path(name).unlink(missing_ok=True)
