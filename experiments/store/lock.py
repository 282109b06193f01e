"""Who trains a run now: a lock that the kernel drops when its holder dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from experiments.files import writing

if TYPE_CHECKING:
    pass
from experiments.store.folder import RunFolder


@contextlib.contextmanager
def run_lock(folder: RunFolder) -> Iterator[bool]:
    """Hold the lock of a run; yields False at once if another process holds it.

    The kernel drops the lock when its holder dies, however it dies.

    Raises:
        StoreError: the lock file cannot be written.
    """
    with writing(folder.lock):
        folder.path.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder.lock, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)


def is_locked(folder: RunFolder) -> bool:
    """Whether a living process trains this run now."""
    if not folder.lock.exists():
        return False
    with run_lock(folder) as mine:
        return not mine
