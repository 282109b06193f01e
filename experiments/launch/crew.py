"""The runs of one call, led through a launcher: none disturbs another, none is trained twice."""

from __future__ import annotations

import contextlib
import errno
import signal
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Literal, Protocol

from experiments.declare.run_spec import RunSpec
from experiments.errors import CorruptRecordError, SsaError, StoreError, sentence_of
from experiments.files import disk_sentence
from experiments.launch.launcher import Ended, Handle, Inputs, Launcher
from experiments.plan.plan import PlannedRun
from experiments.store.folder import RunFolder
from experiments.store.lock import is_locked
from experiments.store.notice import take_notices
from experiments.store.progress import read_progress
from experiments.store.records import now
from experiments.store.store import Store
from experiments.train.exit_codes import BUSY, UNWRITABLE

POLL_S = 0.2
UNFLUSHED = 120  # Python's own exit code when its last words could not be written to the log
_TAIL = 1 << 16  # bytes of a log in which its last line is looked for
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


class Watcher(Protocol):
    """Is told what happens; shows it or keeps quiet."""

    def started(self, run: PlannedRun) -> None:
        """A run's process has been started (or found in another call)."""

    def said(self, run: PlannedRun, sentence: str) -> None:
        """A run has something to say that its caller should know."""

    def noted(self, sentence: str) -> None:
        """The launcher has something to say that is no single run's."""

    def ended(self, outcome: Outcome) -> None:
        """A run is over."""

    def tick(self, active: Sequence[RunFolder]) -> None:
        """Time has passed."""


def launch(
    runs: Sequence[PlannedRun],
    store: Store,
    inputs_of: Callable[[RunSpec], Inputs],
    launcher: Launcher,
    watcher: Watcher,
) -> list[Outcome]:
    """Train all ``runs`` and return how each ended; a failed one does not stop the others.

    A run that another call is training is waited for, not repeated. On interruption the launcher
    is closed; the same command goes on.

    Args:
        runs: those without a whole record.
        store: where they are kept.
        inputs_of: where a run's data set and weights are.
        launcher: where they go.
        watcher: is told what happens.
    """
    crew = _Crew(runs, store, inputs_of, launcher, watcher)
    with _closing(launcher, watcher):
        while crew.busy:
            crew.start()
            crew.reap()
            crew.recheck()
            crew.tick()
            time.sleep(POLL_S)
    return crew.outcomes


@dataclass
class _Member:
    """A run that the launcher has."""

    run: PlannedRun
    folder: RunFolder
    handle: Handle
    since: float
    told: bool = False  # the watcher, that it began


class _Crew:
    """The runs that wait, those that the launcher has, those that another call has."""

    def __init__(
        self,
        runs: Sequence[PlannedRun],
        store: Store,
        inputs_of: Callable[[RunSpec], Inputs],
        launcher: Launcher,
        watcher: Watcher,
    ) -> None:
        self.queue, self.elsewhere = deque(runs), deque[PlannedRun]()
        self.members: list[_Member] = []
        self.outcomes: list[Outcome] = []
        self._store, self._inputs_of = store, inputs_of
        self._launcher, self._watcher = launcher, watcher
        self._given_back = Counter[str]()  # run → how often it was nobody's after all
        self._told = False

    @property
    def busy(self) -> bool:
        return bool(self.queue or self.elsewhere or self.members)

    def start(self) -> None:
        """Give the launcher as many runs as it takes."""
        while self.queue:
            run = self.queue[0]
            if not self._launcher.capacity:
                if not self.members and not self._told and self._launcher.full:
                    self._told = True
                    self._watcher.said(run, self._launcher.full)
                break
            self.queue.popleft()
            try:
                member = self._submitted(run)
            except Exception as error:  # noqa: BLE001  this run's own: the others go on
                self._settle(_not_started(error, run, self._store))
                continue
            self.members.append(member)
            self._greet(member)

    def _submitted(self, run: PlannedRun) -> _Member:
        if run.state == "damaged":
            self._store.set_aside(run.spec.run_id)
        inputs = replace(self._inputs_of(run.spec), results=self._store.root)
        folder = self._store.write_spec(run.spec)
        folder.failure.unlink(missing_ok=True)
        if not is_locked(folder):  # what nobody took of an attempt before
            folder.notice.unlink(missing_ok=True)
        return _Member(run, folder, self._launcher.submit(run, inputs), time.monotonic())

    def _greet(self, member: _Member) -> None:
        if not member.told and member.handle.began:
            member.told = True
            self._watcher.started(member.run)

    def reap(self) -> None:
        """Take in the runs that have ended."""
        for member in list(self.members):
            ended = member.handle.poll()
            self._greet(member)
            if ended is None:
                continue
            self.members.remove(member)
            self._listen(member)
            run_id = member.run.spec.run_id
            if ended.code == BUSY and self._given_back[run_id] < GIVEN_BACK:
                self.elsewhere.append(member.run)
            else:
                self._settle(_outcome(member, ended, self._store))

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
        for member in self.members:
            self._listen(member)
        self._watcher.tick([member.folder for member in self.members if member.told] + folders)

    def _listen(self, member: _Member) -> None:
        for sentence in take_notices(member.folder):
            self._watcher.said(member.run, sentence)

    def _settle(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self._watcher.ended(outcome)


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


def _outcome(member: _Member, ended: Ended, store: Store) -> Outcome:
    spec, seconds = member.run.spec, ended.seconds
    if seconds is None:
        seconds = time.monotonic() - member.since
    code, log = ended.code if ended.signal is None else -ended.signal, member.folder.log
    try:
        record = store.read(spec.run_id)
        failure = store.read_failure(spec.run_id)
    except (CorruptRecordError, StoreError) as error:
        return Outcome(spec, "failed", str(error), seconds, log, code)
    kept = member.run.state == "remade" and code != 0  # the former record
    if record is not None and not kept:
        return Outcome(spec, "trained", "", seconds)
    sentence = failure.sentence if failure else _last_words(member.folder, code, ended.reason)
    return Outcome(spec, "failed", sentence, seconds, log, code)


def _last_words(folder: RunFolder, code: int | None, reason: str) -> str:
    """Why a process ended that could not say so itself; it is added to the log."""
    signals = {number.value: number.name for number in signal.Signals}
    if code in (UNWRITABLE, UNFLUSHED):
        return disk_sentence(OSError(errno.ENOSPC, ""), folder.path)
    if reason:
        sentence = reason
    elif code is not None and (name := signals.get(-code if code < 0 else code - 128)):
        sentence = f"The training process was ended by {name}; the same command resumes it."
    else:
        how = "" if code is None else f" with code {code}"
        sentence = f"The training process ended{how}{_last_line(folder.log)}."
    with contextlib.suppress(OSError), folder.log.open("ab") as log:
        log.write(f"{now()} {sentence}{_where(folder)}\n".encode())
    return sentence


def _where(folder: RunFolder) -> str:
    progress = read_progress(folder.progress)
    return f" (iteration {progress.iteration} of {progress.iterations})" if progress else ""


def _last_line(log: Path) -> str:
    try:
        with log.open("rb") as file:  # a log may be as large as its run was long
            file.seek(max(0, log.stat().st_size - _TAIL))
            lines = file.read(_TAIL).decode(errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return f": {lines[-1][:300]}" if lines else ""


@contextmanager
def _closing(launcher: Launcher, watcher: Watcher) -> Iterator[None]:
    """Close the launcher however the block is left; SIGTERM and SIGHUP leave it as Ctrl-C does.

    Who asks again meanwhile does not wait.
    """

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    def hasten(_number: int, _frame: FrameType | None) -> None:
        launcher.hurry()

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
        if sentence := launcher.close():
            watcher.noted(sentence)
        for number, handler in before.items():
            signal.signal(number, handler)
