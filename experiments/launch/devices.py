"""Which accelerators a run gets: those that neither this call nor another one of the machine uses.

A call holds a lock for each accelerator that its runs are on; the kernel drops it when the last
process that inherited it has ended. Calls on two accelerators do not wait for each other. Without a
place for locks the calls go on unguarded, as they do on a CPU.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

#: where all users of a machine can meet, whatever TMPDIR says
COMMON = Path("/tmp")

Group = tuple[int, ...]


def groups_of(num_devices: int, processes: int) -> list[Group]:
    """The accelerators that can train one run together: neighbours, ``processes`` at a time."""
    last = num_devices - processes
    return [tuple(range(at, at + processes)) for at in range(0, last + 1, processes)]


def candidates(groups: Sequence[Group], busy: Sequence[int], jobs: int) -> list[Group]:
    """The groups that the next run of a call may take, the least used first.

    Args:
        groups: that there are.
        busy: the accelerators of the call's runs, one entry a run.
        jobs: runs at once; more than there are groups share them evenly.
    """
    share = -(-jobs // len(groups))
    used = {group: max(map(busy.count, group)) for group in groups}
    return sorted((group for group in groups if used[group] < share), key=lambda each: used[each])


def visible_devices(devices: Sequence[int]) -> str:
    """CUDA_VISIBLE_DEVICES of a child: ``devices`` count within the list that this call was given.

    Its entries may be numbers or UUIDs; without the variable the numbers are the machine's own.
    """
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is None:
        return ",".join(map(str, devices))
    entries = [entry.strip() for entry in given.split(",")]
    return ",".join(entries[device] for device in devices)


def lock_name(entry: str, uuids: Mapping[str, str]) -> str:
    """The name of the lock of one accelerator, the same whichever way a call names it.

    Args:
        entry: of CUDA_VISIBLE_DEVICES: a number, a UUID or the beginning of one.
        uuids: the machine's numbers and their UUIDs, as far as they are known.
    """
    whole = [uuid for uuid in uuids.values() if entry.startswith("GPU-") and uuid.startswith(entry)]
    name = uuids.get(entry) or (whole[0] if len(whole) == 1 else entry)
    return f"ssa-seg-lab-gpu-{re.sub('[^A-Za-z0-9-]', '_', name)}.lock"


@lru_cache(maxsize=1)
def machine_uuids() -> dict[str, str]:
    """Number → UUID of this machine's GPUs as nvidia-smi gives them; nothing without it."""
    if shutil.which("nvidia-smi") is None:
        return {}
    command = ["nvidia-smi", "--query-gpu=index,uuid", "--format=csv,noheader"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return {}
    pairs = (line.split(",") for line in said.stdout.splitlines() if line.count(",") == 1)
    return {number.strip(): uuid.strip() for number, uuid in pairs}


class DeviceLocks:
    """The locks that one call holds.

    Args:
        folder: where they lie; all calls must name the same one.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or (COMMON if COMMON.is_dir() else Path(tempfile.gettempdir()))
        self._held: dict[str, tuple[int, int]] = {}  # name → file, how many runs

    def take(self, names: Sequence[str]) -> bool:
        """Take all or none; False where another call has one of them. At once in any case."""
        taken: list[str] = []
        for name in names:
            handle, runs = self._held.get(name, (None, 0))
            if handle is None:
                handle = self._lock(name)
            if handle is None:
                self.release(taken)
                return False
            self._held[name] = (handle, runs + 1)
            taken.append(name)
        return True

    def release(self, names: Sequence[str]) -> None:
        """Give back what :meth:`take` took."""
        for name in names:
            handle, runs = self._held.pop(name)
            if runs > 1:
                self._held[name] = (handle, runs - 1)
            elif handle >= 0:
                os.close(handle)

    @property
    def handles(self) -> tuple[int, ...]:
        """The open files, for children to inherit: a lock lasts as long as they do."""
        return tuple(handle for handle, _ in self._held.values() if handle >= 0)

    @contextlib.contextmanager
    def all_released(self) -> Iterator[None]:
        """Give everything back at the end."""
        try:
            yield
        finally:
            for name, (_, runs) in list(self._held.items()):
                self.release([name] * runs)

    def _lock(self, name: str) -> int | None:
        """An open, locked file; -1 where there can be none; None where another call has it."""
        handle = self._opened(self.folder / name)
        if handle is None:
            return -1
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        except OSError:  # a place without locks
            os.close(handle)
            return -1
        return handle

    @staticmethod
    def _opened(path: Path) -> int | None:
        """The file, open to every user of the machine; flock asks for no right to write."""
        with contextlib.suppress(OSError):
            return os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        with contextlib.suppress(OSError):
            return os.open(path, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        return None
