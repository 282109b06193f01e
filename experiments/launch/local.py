"""Runs on this machine: one subprocess a run, several at once, none disturbing another."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO, Literal, Protocol

from experiments.declare.profile import Loading
from experiments.declare.run_spec import RunSpec
from experiments.errors import CorruptRecordError, SsaError, StoreError
from experiments.files import disk_sentence, writing
from experiments.launch.fork_server import ForkedProcess, ForkServer, can_fork
from experiments.machine import cpu_count, module_command, search_path
from experiments.plan.plan import PlannedRun
from experiments.store.folder import RunFolder
from experiments.store.lock import is_locked
from experiments.store.store import Store
from experiments.train.attempt import BUSY, UNWRITABLE

POLL_S = 0.2
#: glibc gives large freed blocks back to the system and takes fresh, zeroed pages for the next
#: operation; keeping them saves up to a sixth of a training step on a CPU, for some memory
KEEP_PAGES = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 32)}
UNFLUSHED = 120  # Python's own exit code when its last words could not be written to the log
GRACE_S = 10.0  # that a child is given to end before it is killed

End = Literal["trained", "elsewhere", "failed"]


@dataclass(frozen=True)
class Outcome:
    """How one run ended."""

    spec: RunSpec
    end: End
    sentence: str = ""  # why it failed
    seconds: float = 0.0


@dataclass(frozen=True)
class LocalOptions:
    """How runs share this machine."""

    jobs: int
    device: str = "cpu"  # "cpu" or "cuda"
    num_devices: int = 1  # GPUs to spread the jobs over
    processes: int = 1  # that train one run together, a GPU each
    loading: Loading = field(default_factory=Loading)
    packed: Path | None = None  # where packed images are kept; None: they are not packed
    checkpoint_every_s: float = 60.0

    @property
    def threads(self) -> int:
        """Threads of each process: the processors divided by the processes."""
        return max(1, cpu_count() // (self.jobs * self.processes))

    def devices(self, busy: Collection[int]) -> tuple[int, ...]:
        """The GPUs of the next run: neighbours of which none is ``busy``, else the first ones."""
        last = self.num_devices - self.processes
        groups = [
            range(first, first + self.processes) for first in range(0, last + 1, self.processes)
        ]
        free = (group for group in groups if not set(group) & set(busy))
        return tuple(next(free, range(self.processes)))


@dataclass(frozen=True)
class Inputs:
    """Files that a run reads."""

    data: Path
    weights: Path | None = None
    registry: tuple[Path, ...] = ()  # a user's own folders


class Watcher(Protocol):
    """Is told what happens; shows it or keeps quiet."""

    def started(self, run: PlannedRun) -> None:
        """A run's process has been started (or found in another call)."""

    def ended(self, outcome: Outcome) -> None:
        """A run is over."""

    def tick(self, active: Sequence[RunFolder]) -> None:
        """Time has passed."""


@dataclass
class _Child:
    run: PlannedRun
    folder: RunFolder
    process: subprocess.Popen[bytes] | ForkedProcess
    began: float
    devices: tuple[int, ...]


def launch(
    runs: Sequence[PlannedRun],
    store: Store,
    inputs_of: Callable[[RunSpec], Inputs],
    options: LocalOptions,
    watcher: Watcher,
) -> list[Outcome]:
    """Train all ``runs`` and return how each ended; a failed one does not stop the others.

    A run that another call is training is waited for, not repeated. On interruption the children
    are ended; the same command resumes them.

    Args:
        runs: those without a whole record.
        store: where they are kept.
        inputs_of: where a run's data set and weights are.
        options: how the machine is shared.
        watcher: is told what happens.
    """
    crew = _Crew(runs, store, inputs_of, options, watcher)
    with crew, _ending(crew.children):
        while crew.busy:
            crew.start()
            crew.reap()
            crew.recheck()
            crew.tick()
            time.sleep(POLL_S)
    return crew.outcomes


class _Crew:
    """The runs of one call: those that wait, those under way here, those that another call has."""

    def __init__(
        self,
        runs: Sequence[PlannedRun],
        store: Store,
        inputs_of: Callable[[RunSpec], Inputs],
        options: LocalOptions,
        watcher: Watcher,
    ) -> None:
        self.queue, self.elsewhere = deque(runs), deque[PlannedRun]()
        self.children: list[_Child] = []
        self.outcomes: list[Outcome] = []
        self._store, self._inputs_of = store, inputs_of
        self._options, self._watcher = options, watcher
        self._starter = _Starter(options)

    def __enter__(self) -> None:
        """Nothing is started before the first run."""

    def __exit__(self, *_: object) -> None:
        self._starter.close()

    @property
    def busy(self) -> bool:
        return bool(self.queue or self.elsewhere or self.children)

    def start(self) -> None:
        """Give each free place the next run."""
        while self.queue and len(self.children) < self._options.jobs:
            run = self.queue.popleft()
            taken = {device for child in self.children for device in child.devices}
            devices = self._options.devices(taken)
            try:
                if run.state == "damaged":
                    self._store.set_aside(run.spec.run_id)
                inputs = self._inputs_of(run.spec)
                child = self._starter.start(run, self._store, inputs, devices)
            except (SsaError, OSError) as error:  # this run's own: the others go on
                sentence = _why_not_started(error, run, self._store)
                self._settle(Outcome(run.spec, "failed", sentence))
                continue
            self.children.append(child)
            self._watcher.started(run)

    def reap(self) -> None:
        """Take in the processes that have ended."""
        for child in [c for c in self.children if c.process.poll() is not None]:
            self.children.remove(child)
            if child.process.returncode == BUSY:
                self.elsewhere.append(child.run)
            else:
                self._settle(_outcome(child, self._store))

    def recheck(self) -> None:
        """Look after the runs that another call was training."""
        for _ in range(len(self.elsewhere)):
            run = self.elsewhere.popleft()
            folder = self._store.folder(run.spec.run_id)
            if folder.record.exists():
                self._settle(Outcome(run.spec, "elsewhere"))
            elif is_locked(folder):
                self.elsewhere.append(run)
            else:  # the other call gave it up
                self.queue.append(run)

    def tick(self) -> None:
        """Tell the watcher that time has passed."""
        folders = [self._store.folder(run.spec.run_id) for run in self.elsewhere]
        self._watcher.tick([child.folder for child in self.children] + folders)

    def _settle(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self._watcher.ended(outcome)


class _Starter:
    """Starts training processes: forked where that is safe, else each by itself."""

    def __init__(self, options: LocalOptions) -> None:
        self._options = options
        self._server: ForkServer | None = None

    def start(
        self, run: PlannedRun, store: Store, inputs: Inputs, devices: tuple[int, ...]
    ) -> _Child:
        """Start the process of a run.

        Raises:
            StoreError: its folder takes nothing.
        """
        folder = store.write_spec(run.spec)
        folder.failure.unlink(missing_ok=True)
        environment = _environment(self._options, devices)
        with writing(folder.log):
            log = folder.log.open("ab")
        with log:
            process = self._begin(_words(run, folder, inputs, self._options), environment, log)
        return _Child(run, folder, process, time.monotonic(), devices)

    def _begin(
        self, words: list[str], environment: dict[str, str], log: IO[bytes]
    ) -> subprocess.Popen[bytes] | ForkedProcess:
        module = "experiments.train.attempt"
        if can_fork(self._options.device) and self._options.processes == 1:
            if self._server is None or not self._server.alive:
                self.close()
                self._server = ForkServer(environment)
            words += ["--parent", str(self._server.pid)]
            return self._server.start(module, words, environment, Path(log.name))
        return subprocess.Popen(
            module_command(module, *words, "--parent", str(os.getpid())),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
        )

    def close(self) -> None:
        """End what is only there to start processes."""
        if self._server is not None:
            self._server.close()
            self._server = None


def _environment(options: LocalOptions, devices: tuple[int, ...]) -> dict[str, str]:
    threads = str(options.threads)
    return os.environ | {
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": "1",  # NumPy's: nothing here multiplies with it
        "PYTHONPATH": search_path(),
        "PYTHONWARNINGS": "ignore",
        **KEEP_PAGES,
        "CUDA_VISIBLE_DEVICES": visible_devices(devices) if options.device == "cuda" else "",
    }


def _words(run: PlannedRun, folder: RunFolder, inputs: Inputs, options: LocalOptions) -> list[str]:
    """The arguments of ``experiments.train.attempt``."""
    words = [str(folder.path), "--data", str(inputs.data)]
    words += ["--weights", str(inputs.weights)] if inputs.weights else []
    words += [word for folder in inputs.registry for word in ("--registry", str(folder))]
    words += ["--device", options.device, "--threads", str(options.threads)]
    words += ["--remake"] if run.state == "remade" else []
    words += ["--workers", str(options.loading.workers)]
    words += ["--checkpoint-every", str(options.checkpoint_every_s)]
    words += ["--cache-images"] if options.loading.cache_images else []
    words += ["--packed", str(options.packed)] if options.packed else []
    words += ["--processes", str(options.processes)] if options.processes > 1 else []
    return words


def visible_devices(devices: Sequence[int]) -> str:
    """CUDA_VISIBLE_DEVICES of a child: ``devices`` count within the list that this call was given.

    Its entries may be numbers or UUIDs; without the variable the numbers are the machine's own.
    """
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is None:
        return ",".join(map(str, devices))
    entries = [entry.strip() for entry in given.split(",")]
    return ",".join(entries[device] for device in devices)


def _why_not_started(error: SsaError | OSError, run: PlannedRun, store: Store) -> str:
    if isinstance(error, SsaError):
        return str(error)
    return disk_sentence(error, Path(error.filename or store.folder(run.spec.run_id).path))


def _outcome(child: _Child, store: Store) -> Outcome:
    spec, seconds = child.run.spec, time.monotonic() - child.began
    try:
        record = store.read(spec.run_id)
    except (CorruptRecordError, StoreError) as error:
        return Outcome(spec, "failed", str(error), seconds)
    kept = child.run.state == "remade" and child.process.returncode != 0  # the former record
    if record is not None and not kept:
        return Outcome(spec, "trained", "", seconds)
    failure = store.read_failure(spec.run_id)
    return Outcome(spec, "failed", failure.sentence if failure else _last_words(child), seconds)


def _last_words(child: _Child) -> str:
    code = child.process.wait(GRACE_S)  # it has ended
    if code < 0:
        name = signal.Signals(-code).name
        return f"The training process was ended by {name}; the same command resumes it."
    if code in (UNWRITABLE, UNFLUSHED):
        return disk_sentence(OSError(errno.ENOSPC, ""), child.folder.path)
    try:
        lines = child.folder.log.read_text(errors="replace").strip().splitlines()
    except OSError:
        lines = []
    said = f": {lines[-1][:300]}" if lines else ""
    return f"The training process ended with code {code}{said} (log: {child.folder.log})"


@contextmanager
def _ending(children: list[_Child]) -> Iterator[None]:
    """End the children however the block is left; SIGTERM leaves it like Ctrl-C."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        for child in children:
            child.process.terminate()
        for child in children:
            _await(child.process)


def _await(process: subprocess.Popen[bytes] | ForkedProcess) -> None:
    """Wait for a process that was asked to end; end it if it does not."""
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(GRACE_S)
