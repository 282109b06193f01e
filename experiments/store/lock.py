"""Who trains a run now: a lock that the kernel drops when its holder dies."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator

from experiments.files import writing
from experiments.store.folder import RunFolder
from experiments.store.notice import tell

#: what file systems without flock say (Lustre and NFS mounted without locks)
_NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP})


@contextlib.contextmanager
def run_lock(folder: RunFolder) -> Iterator[bool]:
    """Hold the lock of a run; yields False at once if another process holds it.

    The kernel drops the lock when its holder dies, however it dies. A file system without locks
    cannot say who trains: the run then goes on unguarded, with a sentence in its log.

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
            mine = False
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            tell(
                folder,
                f"{folder.path} lies on a file system without locks ({error.strerror}): do not "
                "start the same run twice at once.",
            )
            mine = True
        else:
            mine = True
        yield mine
    finally:
        os.close(handle)


def is_locked(folder: RunFolder) -> bool:
    """Whether a living process trains this run now."""
    try:
        handle = os.open(folder.lock, os.O_RDONLY)  # asking must work in a read-only folder
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return False
    finally:
        os.close(handle)
    return False
