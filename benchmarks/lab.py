"""A results folder, a registry and calls as a user gives them; what can be done to their processes.

The fault campaign (benchmarks/faults.py) and the tests disturb calls by the same means.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from experiments.declare.load import load_registry
from experiments.declare.run_spec import RunSpec
from experiments.machine import PROJECT, cpu_count
from experiments.plan.resolve import Resolver
from experiments.store.folder import RunFolder
from experiments.store.records import Record
from experiments.store.store import Store
from experiments.store.workspace import Workspace
from ssa.datasets.scenes import META

JOBS = cpu_count()  # so that every run has one thread: their number changes the last digits
PATIENCE_S = 600.0  # the machine may be shared; only a hang takes so long

#: two rows whose runs take seconds in the profile ``smoke``
PAIR = """
name: pair
title: Two small rows
source: nowhere
model: segnext_t
dataset: ade20k
rows:
  - {id: baseline, label: Baseline, classifier: {name: softmax}, reported: {miou: 40.0}}
  - {id: full, label: SSA-Seg, classifier: {name: ssa}}
"""
#: what JSON says of a run's making, not of the table
MAKING = re.compile(rb'^ *"(total_s|peak_memory_mb|finished)": .*\n', re.M)


def environment() -> dict[str, str]:
    """Variables of a call: one thread, this checkout, a wide terminal."""
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROJECT), "COLUMNS": "200"}


@dataclass(frozen=True)
class Lab:
    """One results folder and the registry that its calls name."""

    results: Path
    registry: Path
    #: more variables of its calls
    variables: dict[str, str] = field(default_factory=dict)
    #: whose code its calls run
    checkout: Path = PROJECT

    @property
    def store(self) -> Store:
        """The runs."""
        return Store(self.results)

    def data(self, spec: RunSpec) -> Path:
        """The made data set of a run; planning other runs may have put more beside it."""
        for folder in (self.results / "cache").glob("scenes-*"):
            if json.loads((folder / META).read_text())["content_sha256"] == spec.dataset_digest:
                return folder
        raise AssertionError(f"no data of {spec.run_id} in {self.results}")

    @property
    def runs(self) -> list[RunFolder]:
        """Every run's folder."""
        return [RunFolder(path) for path in sorted(self.store.runs.iterdir())]

    def copy(self, folder: Path) -> Lab:
        """The same results elsewhere, to be spoilt."""
        shutil.copytree(self.results, folder)
        return Lab(folder, self.registry)

    def blank(self, folder: Path) -> Lab:
        """Made data, but no run."""
        shutil.copytree(self.results / "cache", folder / "cache")
        return Lab(folder, self.registry)

    def record(self, classifier: str) -> Record:
        """The whole record of the only run with a classifier."""
        (run_id,) = [n for n in self.store.run_ids() if f"-{classifier}-" in n]
        record = self.store.read(run_id)
        assert record is not None
        return record

    def command(self, *words: str, profile: str = "smoke") -> list[str]:
        """The command of a call."""
        shared = ["--registry", str(self.registry), "--results", str(self.results)]
        needless = (
            words[0] in ("plan", "figures", "extract", "cancel", "status") or "--jobs" in words
        )
        jobs = [] if needless else ["--jobs", str(JOBS)]
        door = str(self.checkout / "experiments" / "start.py")
        start = [sys.executable, "-W", "ignore", door, "experiments"]
        return [*start, *words, "--profile", profile, *jobs, *shared]

    @property
    def environment(self) -> dict[str, str]:
        """Variables of its calls."""
        return environment() | {"PYTHONPATH": str(self.checkout)} | self.variables

    def call(self, *words: str, profile: str = "smoke") -> subprocess.CompletedProcess[str]:
        """Give a command and wait for its end."""
        return finished(self.command(*words, profile=profile), **self.environment)

    @contextmanager
    def calling(self, *words: str, profile: str = "smoke") -> Iterator[subprocess.Popen[str]]:
        """Give a command in a process group of its own; whatever is left of it ends with us."""
        with heeding_interrupts():
            process = subprocess.Popen(
                self.command(*words, profile=profile),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=self.environment,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def plan(
        self, row: str, *, table: str = "pair", profile: str = "smoke", seed: int = 0
    ) -> RunSpec:
        """The run behind one row, as the command line resolves it."""
        registry = load_registry([self.registry])
        workspace = Workspace(results=self.results)
        resolver = Resolver(registry, registry.profile(profile), workspace)
        declared = registry.table(table)
        spec = resolver.resolve(declared, declared.row(row), seed)
        assert isinstance(spec, RunSpec), spec
        return spec

    def exports(self) -> dict[str, bytes]:
        """Every exported file, but for when, how long and with how much memory runs were made."""
        folder = self.results / "tables"
        written = {path.name: path.read_bytes() for path in sorted(folder.glob("*"))}
        return {n: MAKING.sub(b"", b) if n.endswith(".json") else b for n, b in written.items()}


def finished(command: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    """Give a command and wait for its end."""
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env=environment() | variables,
        check=False,
    )


@contextmanager
def heeding_interrupts() -> Iterator[None]:
    """Processes started within heed SIGINT as in a terminal, also where ours is ignored.

    A process under nohup or in a script's background ignores it, and its children inherit that; a
    signal that is handled is at its default again in a new program.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Poll until ``condition`` holds."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.01)


def runs_of(lab: Lab) -> list[RunFolder]:
    """Every run's folder; none where nothing has been written yet."""
    return lab.runs if lab.store.runs.exists() else []


def trainings(folder: RunFolder) -> int:
    """How often a run was begun or taken up, by its log."""
    ends = (f" training {folder.path.name}", f" resuming {folder.path.name}")
    return sum(line.endswith(ends) for line in folder.log.read_text().splitlines())


def children_of(pid: int) -> list[int]:
    """Process ids of the living children."""
    try:
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def trainers_of(pid: int) -> list[int]:
    """Process ids of the training processes of a call: its fork server's children."""
    return [trainer for server in children_of(pid) for trainer in children_of(server)]


def is_alive(pid: int) -> bool:
    """Whether any thread is left; the first may be a zombie while others still hold its locks."""
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z" or len(threads) > 1


def fill(disk: Path, but: int = 0) -> None:
    """Write a file ``filler`` until a small file system is full.

    Args:
        disk: its mount point.
        but: bytes that stay free, in whole pages.
    """
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))
        file.truncate(max(file.tell() - but, 0))


@contextmanager
def mounted(place: Path, size: str) -> Iterator[None]:
    """A file system of its own in the memory, with a size as mount takes it.

    Raises:
        PermissionError: it cannot be mounted here; says why.
    """
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    answer = subprocess.run(mount, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise PermissionError(answer.stderr.strip())
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)
