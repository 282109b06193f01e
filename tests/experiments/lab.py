"""A user's own folder: a small table, small profiles, results; and calls as a user gives them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from experiments.declare.load import load_registry
from experiments.declare.run_spec import RunSpec
from experiments.machine import cpu_count
from experiments.plan.resolve import Resolver
from experiments.store.folder import RunFolder
from experiments.store.records import Record
from experiments.store.store import Store
from experiments.store.workspace import Workspace
from ssa.datasets.scenes import META

PROJECT = Path(__file__).resolve().parents[2]
JOBS = cpu_count()  # so that every run has one thread: their number changes the last digits
PATIENCE_S = 600.0  # the machine may be shared; only a hang takes so long

TABLES = {
    "pair": """
name: pair
title: Two small rows
source: nowhere
model: segnext_t
dataset: ade20k
rows:
  - {id: baseline, label: Baseline, classifier: {name: softmax}, reported: {miou: 40.0}}
  - {id: full, label: SSA-Seg, classifier: {name: ssa}}
""",
    "one": """
name: one
title: One small row
source: nowhere
model: segnext_t
dataset: camvid
rows:
  - {id: baseline, label: Baseline, classifier: {name: softmax}}
""",
    "others": """
name: others
title: A network of another kind
source: nowhere
model: segformer_b5
dataset: ade20k
rows:
  - {id: segformer, label: SegFormer, classifier: {name: softmax}}
  - id: adapted
    label: SegFormer with adapted prototypes, no term of which spans images
    classifier:
      name: ssa
      overrides:
        teacher: false
        coarse_ce_weight: 0.0
        response_weight: 0.0
        semantic_weight: 0.0
        spatial_weight: 0.0
""",
    "troubled": """
name: troubled
title: One row that diverges, one that cannot be built, one that is well
source: nowhere
model: segnext_t
dataset: ade20k
rows:
  - id: diverging
    label: Diverging
    classifier: {name: softmax, overrides: {ce_weight: 1.0e+39}}
  - id: broken
    label: Broken
    classifier: {name: softmax}
    model_overrides: {backbone: {embed_dims: [16, 32, 48, 65]}}
  - {id: well, label: Well, classifier: {name: softmax}}
""",
}

#: the shipped smoke profile with more steps: something to be killed in the middle of
LONG = """
name: long
title: long
description: Enough steps to be interrupted between two of them.
dataset: {name: scenes, settings: {train: 24, val: 8}}
model_size: tiny
seeds: 1
loading: {cache_images: true}
training:
  iterations: 60
  batch: 4
  optimizer: {type: AdamW, lr: 0.002, weight_decay: 0.01, paramwise: {norm_decay_mult: 0.0}}
  schedule: {power: 0.9, warmup_iterations: 5, warmup_ratio: 0.1}
  augmentation: {scale: [96, 96], ratio_range: [0.75, 1.5], crop: [64, 64]}
evaluation: {interval: 20, batch: 8}
"""

REAL = """
name: real
title: real
description: The table's own data set, which a machine may lack.
dataset: {name: camvid}
model_size: tiny
seeds: 1
training:
  iterations: 2
  batch: 2
  optimizer: {type: SGD, lr: 0.01, weight_decay: 0.0, momentum: 0.9}
  schedule: {power: 0.9}
  augmentation: {scale: [96, 96], ratio_range: [1.0, 1.0], crop: [64, 64]}
evaluation: {interval: 2}
"""


def write_registry(folder: Path) -> Path:
    """The tables and profiles above as a registry folder."""
    for kind, files in {"tables": TABLES, "profiles": {"long": LONG, "real": REAL}}.items():
        (folder / kind).mkdir(parents=True)
        for name, text in files.items():
            (folder / kind / f"{name}.yaml").write_text(text)
    return folder


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROJECT), "COLUMNS": "200"}


@dataclass(frozen=True)
class Lab:
    """One results folder and the registry that its calls name."""

    results: Path
    registry: Path

    @property
    def store(self) -> Store:
        return Store(self.results)

    def data(self, spec: RunSpec) -> Path:
        """The made data set of a run; planning other runs may have put more beside it."""
        for folder in (self.results / "cache").glob("scenes-*"):
            if json.loads((folder / META).read_text())["content_sha256"] == spec.dataset_digest:
                return folder
        raise AssertionError(f"no data of {spec.run_id} in {self.results}")

    @property
    def runs(self) -> list[RunFolder]:
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
        shared = ["--registry", str(self.registry), "--results", str(self.results)]
        needless = (
            words[0] in ("plan", "figures", "extract", "cancel", "status") or "--jobs" in words
        )
        jobs = [] if needless else ["--jobs", str(JOBS)]
        start = [sys.executable, "-W", "ignore", "-m", "experiments"]
        return [*start, *words, "--profile", profile, *jobs, *shared]

    def call(self, *words: str, profile: str = "smoke") -> subprocess.CompletedProcess[str]:
        """Give a command and wait for its end."""
        return finished(self.command(*words, profile=profile))

    @contextmanager
    def calling(self, *words: str, profile: str = "smoke") -> Iterator[subprocess.Popen[str]]:
        """Give a command in a process group of its own; whatever is left of it ends with us."""
        with heeding_interrupts():
            process = subprocess.Popen(
                self.command(*words, profile=profile),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=environment(),
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


class Trainer:
    """Starts training processes of single runs, without the command line around them."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(Path(__file__).with_name("train_server.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )

    def start(self, lab: Lab, spec: RunSpec, *options: str, dies_in: int = 0) -> int:
        """Begin (or resume) a run; returns the process id."""
        folder = lab.store.write_spec(spec)
        arguments = [str(folder.path), "--data", str(lab.data(spec)), *options]
        job = {"arguments": arguments, "log": str(folder.log), "dies_in": dies_in}
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps(job) + "\n")
        self._server.stdin.flush()
        return self._answer()

    def wait(self) -> int:
        """The exit code of the process that was started last; minus the signal that ended it."""
        return os.waitstatus_to_exitcode(self._answer())

    def train(self, lab: Lab, spec: RunSpec, *options: str, dies_in: int = 0) -> int:
        """Begin (or resume) a run and wait for its end."""
        self.start(lab, spec, *options, dies_in=dies_in)
        return self.wait()

    def end(self) -> None:
        self._server.kill()
        self._server.communicate()

    def _answer(self) -> int:
        assert self._server.stdout is not None
        line = self._server.stdout.readline()
        if not line:
            assert self._server.stderr is not None
            raise AssertionError(self._server.stderr.read())
        return int(line)


def without_batch_statistics(spec: RunSpec, accumulation: int) -> RunSpec:
    """The run without anything that sees a micro-batch as a whole or draws once for it."""

    def changed(config: Any) -> Any:
        if isinstance(config, list):
            return [changed(value) for value in config]
        if not isinstance(config, dict):
            return config
        config = {key: changed(value) for key, value in config.items()}
        if config.get("type") in ("BN", "SyncBN"):
            return {"type": "GN", "num_groups": 4}
        return config | {key: 0.0 for key in ("dropout_ratio", "drop_path_rate") if key in config}

    document = spec.model_dump(mode="json")
    document["segmentor"] = changed(document["segmentor"])
    document["training"]["accumulation"] = accumulation
    return RunSpec.model_validate(document)


def finished(command: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
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
    return lab.runs if lab.store.runs.exists() else []


def trainings(folder: RunFolder) -> int:
    """How often a run was begun or taken up, by its log."""
    ends = (f" training {folder.path.name}", f" resuming {folder.path.name}")
    return sum(line.endswith(ends) for line in folder.log.read_text().splitlines())


def children_of(pid: int) -> list[int]:
    """Process ids of the living children."""
    try:
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
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


def assert_clear(process: subprocess.CompletedProcess[str], code: int, *words: str) -> str:
    """A user's error: that exit code, one sentence that has ``words``, no traceback."""
    assert process.returncode == code, process.stdout + process.stderr
    text = process.stdout + process.stderr
    assert "Traceback" not in text, text
    for word in words:
        assert word in " ".join(text.split()), text
    return text


requires_tmpfs = pytest.mark.skipif(
    not sys.platform.startswith("linux") or os.geteuid() != 0,
    reason="a small file system is mounted to fill it, which needs root on Linux: "
    "sudo ./run_all.sh test",
)
