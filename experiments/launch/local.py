"""Runs on this machine: one subprocess a run, several at once, none disturbing another."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO, Literal, Protocol

from experiments.declare.profile import Loading
from experiments.declare.run_spec import RunSpec
from experiments.errors import CorruptRecordError, SsaError, StoreError, sentence_of
from experiments.files import disk_sentence, writing
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
from experiments.machine import cpu_count, module_command, search_path
from experiments.plan.plan import PlannedRun
from experiments.store.folder import RunFolder
from experiments.store.lock import is_locked
from experiments.store.notice import take_notices
from experiments.store.progress import read_progress
from experiments.store.records import now
from experiments.store.store import Store
from experiments.train.exit_codes import BUSY, UNWRITABLE

POLL_S = 0.2
#: glibc gives large freed blocks back to the system and takes fresh, zeroed pages for the next
#: operation; keeping them saves up to a sixth of a training step on a CPU, for some memory, and
#: huge pages a thirtieth more
KEEP_PAGES = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 32),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}
UNFLUSHED = 120  # Python's own exit code when its last words could not be written to the log
GRACE_S = 10.0  # that a child is given to end before it is killed
GIVEN_BACK = 2  # times that a run may be said to be another call's and is nobody's

End = Literal["trained", "elsewhere", "failed"]


@dataclass(frozen=True)
class Outcome:
    """How one run ended."""

    spec: RunSpec
    end: End
    sentence: str = ""  # why it failed
    seconds: float = 0.0
    log: Path | None = None  # what the training process printed
    code: int | None = None  # its exit code; minus the signal that ended it


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

    def said(self, run: PlannedRun, sentence: str) -> None:
        """A run has something to say that its caller should know."""

    def ended(self, outcome: Outcome) -> None:
        """A run is over."""

    def tick(self, active: Sequence[RunFolder]) -> None:
        """Time has passed."""


@dataclass
class _Child:
    run: PlannedRun
    folder: RunFolder
    process: subprocess.Popen[bytes] | ForkedProcess
    log: IO[bytes]
    began: float
    devices: Group
    locks: tuple[str, ...]  # on the devices


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
    with crew.locks.all_released(), closing(crew.starter), _ending(crew.children):
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
        self.locks = DeviceLocks()
        self.starter = _Starter(options)
        self._groups = groups_of(options.num_devices, options.processes)
        self._given_back = Counter[str]()  # run → how often it was nobody's after all
        self._told = False

    @property
    def busy(self) -> bool:
        return bool(self.queue or self.elsewhere or self.children)

    def start(self) -> None:
        """Give each free place the next run."""
        while self.queue and len(self.children) < self._options.jobs:
            run = self.queue[0]
            place = self._place()
            if place is None:  # every accelerator is another call's
                if not self.children and not self._told:
                    self._told = True
                    self._watcher.said(run, "waits: other calls use the accelerators.")
                break
            self.queue.popleft()
            try:
                if run.state == "damaged":
                    self._store.set_aside(run.spec.run_id)
                inputs = self._inputs_of(run.spec)
                child = self.starter.start(run, self._store, inputs, *place, self.locks.handles)
            except Exception as error:  # noqa: BLE001  this run's own: the others go on
                self.locks.release(place[1])
                self._settle(_not_started(error, run, self._store))
                continue
            self.children.append(child)
            self._watcher.started(run)

    def _place(self) -> tuple[Group, tuple[str, ...]] | None:
        """The devices of the next run and their locks, taken; None: none are free."""
        busy = [device for child in self.children for device in child.devices]
        for group in candidates(self._groups, busy, self._options.jobs):
            names: tuple[str, ...] = ()
            if self._options.device == "cuda":
                entries = visible_devices(group).split(",")
                names = tuple(lock_name(entry, machine_uuids()) for entry in entries)
            if self.locks.take(names):
                return group, names
        return None

    def reap(self) -> None:
        """Take in the processes that have ended."""
        for child in [c for c in self.children if c.process.poll() is not None]:
            self.children.remove(child)
            self.locks.release(child.locks)
            self._listen(child)
            run_id = child.run.spec.run_id
            if child.process.returncode == BUSY and self._given_back[run_id] < GIVEN_BACK:
                self.elsewhere.append(child.run)
            else:
                self._settle(_outcome(child, self._store))
            child.log.close()

    def recheck(self) -> None:
        """Look after the runs that another call was training."""
        for _ in range(len(self.elsewhere)):
            run = self.elsewhere.popleft()
            folder = self._store.folder(run.spec.run_id)
            if folder.record.exists():
                self._settle(Outcome(run.spec, "elsewhere"))
            elif is_locked(folder):
                self._given_back[run.spec.run_id] = 0
                self.elsewhere.append(run)
            else:  # the other call gave it up
                self._given_back[run.spec.run_id] += 1
                self.queue.append(run)

    def tick(self) -> None:
        """Tell the watcher that time has passed."""
        folders = [self._store.folder(run.spec.run_id) for run in self.elsewhere]
        for child in self.children:
            self._listen(child)
        self._watcher.tick([child.folder for child in self.children] + folders)

    def _listen(self, child: _Child) -> None:
        for sentence in take_notices(child.folder):
            self._watcher.said(child.run, sentence)

    def _settle(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self._watcher.ended(outcome)


class _Starter:
    """Starts training processes: forked where that is safe, else each by itself."""

    def __init__(self, options: LocalOptions) -> None:
        self._options = options
        self._server: ForkServer | None = None

    def start(
        self,
        run: PlannedRun,
        store: Store,
        inputs: Inputs,
        devices: Group,
        locks: tuple[str, ...],
        handles: tuple[int, ...],
    ) -> _Child:
        """Start the process of a run.

        Args:
            run: to be trained.
            store: where it is kept.
            inputs: files that it reads.
            devices: the accelerators that it is on.
            locks: on these.
            handles: files that the process keeps open for the locks' sake.

        Raises:
            StoreError: its folder takes nothing.
        """
        folder = store.write_spec(run.spec)
        folder.failure.unlink(missing_ok=True)
        if not is_locked(folder):  # what nobody took of an attempt before
            folder.notice.unlink(missing_ok=True)
        words = _words(run, folder, inputs, self._options)
        environment = _environment(self._options, devices)
        with writing(folder.log):
            log = folder.log.open("ab")
        process = self._begin(words, environment, log, handles)
        return _Child(run, folder, process, log, time.monotonic(), devices, locks)

    def _begin(
        self,
        words: list[str],
        environment: dict[str, str],
        log: IO[bytes],
        handles: tuple[int, ...],
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
            pass_fds=handles,
        )

    def close(self) -> None:
        """End what is only there to start processes."""
        if self._server is not None:
            self._server.close()
            self._server = None


def _environment(options: LocalOptions, devices: Group) -> dict[str, str]:
    threads = str(options.threads)
    return os.environ | {
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": "1",  # NumPy's: nothing here multiplies with it
        "PYTHONPATH": search_path(),
        "PYTHONWARNINGS": "ignore",
        "PYTHONUNBUFFERED": "1",  # what is killed leaves its last words in the log
        "PYTHONFAULTHANDLER": "1",
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


def _not_started(error: Exception, run: PlannedRun, store: Store) -> Outcome:
    """How a run ended that could not be started; the story of what is no user's error is kept."""
    folder = store.folder(run.spec.run_id)
    if isinstance(error, SsaError):
        return Outcome(run.spec, "failed", sentence_of(error))
    if isinstance(error, OSError):
        sentence = disk_sentence(error, Path(error.filename or folder.path))
        return Outcome(run.spec, "failed", sentence)
    with contextlib.suppress(OSError), folder.log.open("a", encoding="utf-8") as log:
        traceback.print_exception(error, file=log)
    said = " ".join(str(error).split())[:300]
    sentence = f"It could not be started: {type(error).__name__}: {said}"
    return Outcome(run.spec, "failed", sentence, log=folder.log)


def _outcome(child: _Child, store: Store) -> Outcome:
    spec, seconds = child.run.spec, time.monotonic() - child.began
    code, log = child.process.returncode, child.folder.log
    try:
        record = store.read(spec.run_id)
        failure = store.read_failure(spec.run_id)
    except (CorruptRecordError, StoreError) as error:
        return Outcome(spec, "failed", str(error), seconds, log, code)
    kept = child.run.state == "remade" and code != 0  # the former record
    if record is not None and not kept:
        return Outcome(spec, "trained", "", seconds)
    sentence = failure.sentence if failure else _last_words(child)
    return Outcome(spec, "failed", sentence, seconds, log, code)


def _last_words(child: _Child) -> str:
    """Why a process ended that could not say so itself; it is added to the log."""
    code = child.process.wait(GRACE_S)  # it has ended
    if code in (UNWRITABLE, UNFLUSHED):
        return disk_sentence(OSError(errno.ENOSPC, ""), child.folder.path)
    signals = {number.value: number.name for number in signal.Signals}
    if name := signals.get(-code if code < 0 else code - 128):
        sentence = f"The training process was ended by {name}; the same command resumes it."
    else:
        sentence = f"The training process ended with code {code}{_last_line(child.folder.log)}."
    with contextlib.suppress(OSError):
        child.log.write(f"{now()} {sentence}{_where(child.folder)}\n".encode())
        child.log.flush()
    return sentence


def _where(folder: RunFolder) -> str:
    progress = read_progress(folder.progress)
    return f" (iteration {progress.iteration} of {progress.iterations})" if progress else ""


def _last_line(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return f": {lines[-1][:300]}" if lines else ""


@contextmanager
def _ending(children: list[_Child]) -> Iterator[None]:
    """End the children however the block is left; SIGTERM and a closed terminal leave it as Ctrl-C.

    Who asks again while they end does not wait for them.
    """

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    def hasten(_number: int, _frame: FrameType | None) -> None:
        for child in children:
            child.process.kill()

    numbers = [signal.SIGTERM, signal.SIGHUP, signal.SIGINT]
    # under nohup a terminal may close, and a script's background is not interrupted
    before = {n: signal.getsignal(n) for n in numbers if signal.getsignal(n) != signal.SIG_IGN}
    for number in before:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in before:
            signal.signal(number, hasten)
        _end_all(children)
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_all(children: list[_Child]) -> None:
    for child in children:
        child.process.terminate()
    late = time.monotonic() + GRACE_S
    for child in children:
        try:
            child.process.wait(max(late - time.monotonic(), 0.0))
        except subprocess.TimeoutExpired:
            child.process.kill()
            child.process.wait(GRACE_S)
        child.log.close()
