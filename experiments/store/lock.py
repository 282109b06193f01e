"""Who trains a run now: a lock that the kernel drops, and an owner's file for other hosts.

flock decides among the processes of one host; it costs nothing and is free at once when its holder
dies. Whether it reaches other hosts depends on the file system and its mount options, and nothing
tells: there the owner's file decides (experiments/store/owner.py).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
from collections.abc import Iterator
from functools import partial

from experiments.files import writing
from experiments.store.folder import RunFolder
from experiments.store.notice import tell
from experiments.store.owner import (
    DEAD_S,
    Heartbeat,
    Owner,
    claim,
    lives,
    read_owner,
    release,
)

__all__ = ["is_locked", "owner_of", "run_lock"]

#: what file systems without flock say (Lustre and NFS mounted without locks)
_NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP})


@contextlib.contextmanager
def run_lock(folder: RunFolder) -> Iterator[bool]:
    """Hold the lock of a run; yields False at once if another process holds it.

    On this host the kernel drops the lock when its holder dies, however it dies. Another host's
    holder counts as dead when its file has been silent for :data:`DEAD_S` seconds by the file
    server's clock. A process that was taken for dead and was not ends itself by SIGTERM.

    Raises:
        StoreError: the lock file cannot be written.
    """
    with writing(folder.lock):
        folder.path.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder.lock, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        free = _flock(handle, fcntl.LOCK_EX)
        me = Owner.of_this_process()
        if free is False or not claim(folder, me, flock_is_free=free):
            yield False
            return
        heartbeat = Heartbeat(folder, me, partial(_lost, folder))
        heartbeat.start()
        try:
            yield True
        finally:
            heartbeat.stop()
            release(folder, me)
    finally:
        os.close(handle)


def is_locked(folder: RunFolder) -> bool:
    """Whether a living process trains this run now, on this host or another.

    Of another host's process in a folder that may only be read, it is known to have died only to
    who goes on asking for :data:`DEAD_S` seconds.
    """
    try:
        handle = os.open(folder.lock, os.O_RDONLY)  # asking must work in a read-only folder
    except OSError:
        return False
    try:
        free = _flock(handle, fcntl.LOCK_SH)
        return free is False or lives(folder, flock_is_free=free)
    finally:
        os.close(handle)


def owner_of(folder: RunFolder) -> Owner | None:
    """Who holds a run by its file, living or dead; None: nobody."""
    return read_owner(folder)


def _flock(handle: int, how: int) -> bool | None:
    """Whether the lock was taken; None: this file system has none."""
    try:
        fcntl.flock(handle, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return None
    return True


def _lost(folder: RunFolder, other: Owner | None) -> None:
    """End this process: another one has taken the run over."""
    who = f"{other.host} (process {other.pid})" if other else "another process"
    tell(
        folder,
        f"{folder.path.name} was silent for more than {DEAD_S:.0f} s and has been taken over by "
        f"{who}; this process ends, and that one goes on from the checkpoint.",
    )
    os.kill(os.getpid(), signal.SIGTERM)
