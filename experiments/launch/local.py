"""Runs on this machine: one subprocess a run, several at once."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from experiments.declare.profile import Loading
from experiments.files import writing
from experiments.launch.command import command, variables
from experiments.launch.devices import (
    DeviceLocks,
    Group,
    candidates,
    groups_of,
    lock_name,
    machine_uuids,
    visible_devices,
)
from experiments.launch.fork_server import ForkedProcess, ForkServer, can_fork
from experiments.launch.launcher import Ended, Inputs, Resources
from experiments.machine import cpu_count, module_command
from experiments.plan.plan import PlannedRun
from experiments.store.store import Store

GRACE_S = 10.0  # that a child is given to end before it is killed

Process = subprocess.Popen[bytes] | ForkedProcess


@dataclass(frozen=True)
class LocalOptions:
    """How runs share this machine."""

    jobs: int
    device: str = "cpu"  # "cpu" or "cuda"
    num_devices: int = 1  # GPUs to spread the jobs over
    processes: int = 1  # that train one run together, a GPU each
    loading: Loading = field(default_factory=Loading)
    packed: Path | None = None  # where packed images are kept; None: they are not packed
    features: Path | None = None  # where those of frozen networks are kept; None: they are not
    checkpoint_every_s: float = 60.0

    @property
    def threads(self) -> int:
        """Threads of each process: the processors divided by the processes."""
        return max(1, cpu_count() // (self.jobs * self.processes))

    @property
    def resources(self) -> Resources:
        """What each run is given."""
        return Resources(
            device=self.device,
            processes=self.processes,
            threads=self.threads,
            loading=self.loading,
            packed=self.packed,
            features=self.features,
            checkpoint_every_s=self.checkpoint_every_s,
        )


@dataclass(frozen=True)
class _Place:
    """Where on the machine a run is."""

    devices: Group
    locks: tuple[str, ...]  # on the devices


class LocalHandle:
    """A process of this machine."""

    began = True

    def __init__(
        self, process: Process, log: IO[bytes], place: _Place, launcher: LocalLauncher
    ) -> None:
        self.process, self.place = process, place
        self._log, self._launcher = log, launcher

    def poll(self) -> Ended | None:
        """How the process ended; its place is free from then on."""
        code = self.process.poll()
        if code is None:
            return None
        self._launcher.release(self)
        self._log.close()
        return Ended(None, -code) if code < 0 else Ended(code)

    def cancel(self) -> None:
        """Ask the process to end; it leaves its checkpoint."""
        self.process.terminate()


class LocalLauncher:
    """Starts training processes on this machine, forked where that is safe.

    Args:
        options: how the machine is shared.
    """

    full = "waits: other calls use the accelerators."

    def __init__(self, options: LocalOptions) -> None:
        self._options = options
        self._resources = options.resources
        self._handles: list[LocalHandle] = []
        self._locks = DeviceLocks()
        self._groups = groups_of(options.num_devices, options.processes)
        self._reserved: _Place | None = None  # for the next run
        self._server: ForkServer | None = None

    @property
    def capacity(self) -> int:
        """Free places; none while every accelerator is another call's."""
        if len(self._handles) >= self._options.jobs:
            return 0
        self._reserved = self._reserved or self._free_place()
        return self._options.jobs - len(self._handles) if self._reserved else 0

    def _free_place(self) -> _Place | None:
        """The devices of the next run and their locks, taken; None: none are free."""
        busy = [device for handle in self._handles for device in handle.place.devices]
        for group in candidates(self._groups, busy, self._options.jobs):
            names: tuple[str, ...] = ()
            if self._options.device == "cuda":
                entries = visible_devices(group).split(",")
                names = tuple(lock_name(entry, machine_uuids()) for entry in entries)
            if self._locks.take(names):
                return _Place(group, names)
        return None

    def submit(self, run: PlannedRun, inputs: Inputs) -> LocalHandle:
        """Start the process of a run.

        Raises:
            StoreError: its folder takes nothing.
        """
        assert self.capacity, "the caller asks first"
        place = self._reserved
        assert place is not None
        module, *words = command(run, inputs, self._resources)
        path = Store(inputs.results).folder(run.spec.run_id).log
        with writing(path):
            log = path.open("ab")
        process = self._begin(module, words, self._environment(place.devices), log)
        self._reserved = None
        handle = LocalHandle(process, log, place, self)
        self._handles.append(handle)
        return handle

    def _begin(
        self, module: str, words: Sequence[str], environment: Mapping[str, str], log: IO[bytes]
    ) -> Process:
        if can_fork(self._options.device) and self._options.processes == 1:
            if self._server is None or not self._server.alive:
                self._close_server()
                self._server = ForkServer(environment)
            words = [*words, "--parent", str(self._server.pid)]
            return self._server.start(module, words, environment, Path(log.name))
        return subprocess.Popen(
            module_command(module, *words, "--parent", str(os.getpid())),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            pass_fds=self._locks.handles,  # for the locks' sake
        )

    def _environment(self, devices: Group) -> dict[str, str]:
        seen = visible_devices(devices) if self._options.device == "cuda" else ""
        return os.environ | variables(self._resources) | {"CUDA_VISIBLE_DEVICES": seen}

    def release(self, handle: LocalHandle) -> None:
        """Take back the place of a process that has ended."""
        if handle in self._handles:
            self._handles.remove(handle)
            self._locks.release(handle.place.locks)

    def close(self) -> str:
        """End the processes and what is only there to start them."""
        with self._locks.all_released():
            try:
                self._end_all()
            finally:
                self._close_server()
        return ""

    def hurry(self) -> None:
        """Kill the processes."""
        for handle in self._handles:
            handle.process.kill()

    def _end_all(self) -> None:
        for handle in self._handles:
            handle.process.terminate()
        late = time.monotonic() + GRACE_S
        for handle in self._handles:
            _await(handle.process, max(late - time.monotonic(), 0.0))

    def _close_server(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None


def _await(process: Process, seconds: float) -> None:
    """Wait for the end, and bring it about after ``seconds``."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(GRACE_S)
