"""Who trains a run, said by a file: for file systems on which flock holds per host, or not at all.

``owner.json`` names host, process and job, and is touched every :data:`BEAT_S` seconds. No clock of
any host is compared with another's: the file server stamps the owner's beats and a probe of whoever
asks, and the difference of the two stamps is the owner's silence. The rules stand in
docs/reliability.md.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from experiments.files import parsed_json, read_bounded, write_atomically, writing
from experiments.store.folder import RunFolder

BEAT_S = 10.0  # between two signs of life
DEAD_S = 150.0  # of silence after which an owner on another host counts as dead

_MOST_BYTES = 1 << 16
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACE = Path("/proc/self/ns/pid")


@dataclass(frozen=True)
class Owner:
    """Who holds a run."""

    token: str  # of this one holding: no two are alike
    host: str
    kernel: str  # of the host since it was started: flock and process ids mean something within it
    namespace: str  # of process ids
    pid: int
    born: str  # when the process was started, in the kernel's ticks: a process id lives again
    job: str  # of a cluster; empty: none
    restarts: str  # how often that job has been queued again

    @classmethod
    def of_this_process(cls) -> Owner:
        """A new holding by this process."""
        host, pid = socket.gethostname(), os.getpid()
        return cls(
            token=uuid.uuid4().hex,
            host=host,
            kernel=_text(_BOOT) or f"host {host}",
            namespace=_namespace(),
            pid=pid,
            born=_born(pid),
            job=_job(),
            restarts=os.environ.get("SLURM_RESTART_COUNT", "0"),
        )


def read_owner(folder: RunFolder) -> Owner | None:
    """Who holds a run by its file, living or dead; None: nobody, or the file cannot be read."""
    return _read(folder.owner)


def _read(path: Path) -> Owner | None:
    try:
        document = parsed_json(read_bounded(path, _MOST_BYTES))
        owner = Owner(**{each.name: document[each.name] for each in fields(Owner)})
    except (OSError, ValueError, LookupError, TypeError):
        return None
    strings = (value for name, value in asdict(owner).items() if name != "pid")
    return (
        owner if isinstance(owner.pid, int) and all(isinstance(s, str) for s in strings) else None
    )


def lives(folder: RunFolder, *, flock_is_free: bool | None) -> bool:
    """Whether whoever the file names still trains: silent for less than :data:`DEAD_S` counts.

    Args:
        folder: of the run.
        flock_is_free: what flock says on this host; None: there is none here.
    """
    owner = read_owner(folder)
    if owner is None and not folder.owner.exists():
        return False
    return not _is_dead(folder, owner, flock_is_free=flock_is_free)


def _is_dead(folder: RunFolder, owner: Owner | None, *, flock_is_free: bool | None) -> bool:
    if owner is not None:
        me = Owner.of_this_process()
        if owner.kernel == me.kernel:
            if flock_is_free is not None:
                return flock_is_free  # the kernel drops it with its holder
            if owner.namespace == me.namespace:
                return _born(owner.pid) != owner.born
        if owner.job and owner.job == me.job and owner.restarts != me.restarts:
            return True  # the same job, queued again: it lives once at a time
    silent_s = _silence_s(folder, folder.owner)
    return silent_s is not None and silent_s > DEAD_S


def claim(folder: RunFolder, me: Owner, *, flock_is_free: bool | None) -> bool:
    """Make this process the owner of a run; False: another one lives.

    Raises:
        StoreError: the folder takes nothing.
    """
    for _ in range(3):  # another call may take it, or give it up, in between
        if _create(folder.owner, me):
            return True
        owner = read_owner(folder)
        if not folder.owner.exists():
            continue
        if not _is_dead(folder, owner, flock_is_free=flock_is_free):
            return False
        if _take_over(folder, owner, me):
            return True
    return False


def release(folder: RunFolder, me: Owner) -> None:
    """Give a run back; nothing happens where it is another's by now."""
    if _read(folder.owner) == me:
        with contextlib.suppress(OSError):
            folder.owner.unlink()


class Heartbeat(threading.Thread):
    """Touches the owner's file until it is stopped.

    Args:
        folder: of the run.
        me: who holds it.
        lost: called once where another one holds it: this process was silent for so long that it
            was taken for dead.
    """

    def __init__(self, folder: RunFolder, me: Owner, lost: Callable[[Owner | None], None]) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._folder, self._me, self._lost = folder, me, lost
        self._over = threading.Event()

    def run(self) -> None:
        """Beat."""
        while not self._over.wait(BEAT_S):
            if not beat(self._folder, self._me):
                if not self._over.is_set():
                    self._lost(read_owner(self._folder))
                return

    def stop(self) -> None:
        """Beat no more."""
        self._over.set()


def beat(folder: RunFolder, me: Owner) -> bool:
    """Give one sign of life; False: the run is another's."""
    owner = read_owner(folder)
    if owner is not None and owner != me:
        return False
    try:
        if owner is None and not folder.owner.exists() and folder.path.exists():
            return _create(folder.owner, me)  # somebody cleaned up, or was about to take it
        os.utime(folder.owner)
    except Exception:  # noqa: BLE001  a server that hiccups is no reason to stop training
        return True
    return True


def _create(path: Path, me: Owner) -> bool:
    """Write the file if there is none; atomic on NFS too, where O_EXCL of old was not."""
    temporary = path.with_name(f".{path.name}.{me.token}")
    text = json.dumps(asdict(me), indent=1)
    with writing(path):
        temporary.write_text(text, encoding="utf-8")
        try:
            os.link(temporary, path)
        except FileExistsError:
            return temporary.stat().st_nlink == 2  # an answer may be lost and the question repeated
        except OSError:  # no hard links here
            return _create_exclusively(path, text)
        finally:
            temporary.unlink(missing_ok=True)
    return True


def _create_exclusively(path: Path, text: str) -> bool:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        return False
    return True


def _take_over(folder: RunFolder, dead: Owner | None, me: Owner) -> bool:
    """Put our file in the place of a dead owner's; False: another call does, or has.

    Who does so holds a marker that is named after that owner, and no owner comes twice: whoever
    comes late finds either the marker or another owner.
    """
    if dead is not None:
        name = dead.token
    else:  # a file that cannot be read
        try:
            name = f"unreadable-{folder.owner.stat().st_mtime_ns}"
        except OSError:
            return False
    marker = folder.path / f".{folder.owner.name}.{re.sub('[^A-Za-z0-9-]', '_', name)[:64]}.taken"
    if not _create(marker, me):
        silent_s = _silence_s(folder, marker)
        if silent_s is not None and silent_s > DEAD_S:  # its holder has died over it
            marker.unlink(missing_ok=True)
        return False
    try:
        if not folder.owner.exists() or _read(folder.owner) != dead:
            return False
        write_atomically(folder.owner, json.dumps(asdict(me), indent=1))
    finally:
        marker.unlink(missing_ok=True)
    return True


#: file → its stamp, and since when by this process's own clock it has been that
_seen: dict[Path, tuple[int, float]] = {}


def _silence_s(folder: RunFolder, path: Path) -> float | None:
    """Seconds since a file was touched; None: nobody can say, as long as it is not watched."""
    try:
        # opening makes NFS ask its server; a pipe without a writer would wait
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        last = os.fstat(handle).st_mtime_ns
    finally:
        os.close(handle)
    server = _server_now(folder)
    if server is not None:
        return (server - last) / 1e9
    stamp, since = _seen.get(path, (0, 0.0))  # a folder that we may only read: watch it
    if stamp != last:
        _seen[path] = last, time.monotonic()
        return None
    return time.monotonic() - since


def _server_now(folder: RunFolder) -> int | None:
    """What the file server's clock says, in nanoseconds; None where nothing can be written."""
    probe = folder.path / f".clock.{uuid.uuid4().hex}"
    try:
        with probe.open("wb") as file:
            file.write(b".")
            file.flush()
            os.fsync(file.fileno())
        os.utime(probe)  # the time is the server's, as with a beat
        return probe.stat().st_mtime_ns
    except OSError:
        return None
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()


def _job() -> str:
    array, task = (os.environ.get(f"SLURM_ARRAY_{name}_ID") for name in ("JOB", "TASK"))
    cluster = os.environ.get("SLURM_CLUSTER_NAME", "")
    job = f"{array}_{task}" if array else os.environ.get("SLURM_JOB_ID", "")
    return f"{cluster}/{job}" if job else ""


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _namespace() -> str:
    try:
        return str(_NAMESPACE.readlink())
    except OSError:
        return ""


def _born(pid: int) -> str:
    """When a process was started, in the kernel's ticks; empty: there is none, or it has ended."""
    fields = _text(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return "" if not fields or fields[0] == "Z" else fields[19]
