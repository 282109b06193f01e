"""A user's own folder: a small table, small profiles, results; and calls as a user gives them."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.lab import (
    JOBS,
    PAIR,
    PATIENCE_S,
    PROJECT,
    Lab,
    children_of,
    environment,
    fill,
    finished,
    heeding_interrupts,
    is_alive,
    mounted,
    runs_of,
    trainers_of,
    trainings,
    wait_until,
)
from experiments.declare.run_spec import RunSpec

__all__ = [
    "JOBS",
    "PATIENCE_S",
    "PROJECT",
    "Lab",
    "children_of",
    "environment",
    "fill",
    "finished",
    "heeding_interrupts",
    "is_alive",
    "mounted",
    "runs_of",
    "trainers_of",
    "trainings",
    "wait_until",
]

TABLES = {
    "pair": PAIR,
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


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that all workers of a session share: the first to ask makes it, the others wait."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / f"all-{name}"
    done = folder.with_suffix(".done")
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            if folder.exists():  # whoever began it failed; why is told anew
                shutil.rmtree(folder)
            make(folder)
            done.touch()
    return folder


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
