"""Accelerators are taken one by one: calls on two do not wait for each other, two on one do."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from lab import PROJECT, environment, wait_until
from samples import make_spec

from experiments.declare.run_spec import RunSpec
from experiments.errors import StoreError
from experiments.launch.crew import Outcome, launch
from experiments.launch.devices import DeviceLocks, lock_name
from experiments.launch.launcher import Inputs
from experiments.launch.local import LocalLauncher, LocalOptions
from experiments.plan.plan import PlannedRun
from experiments.store.folder import RunFolder
from experiments.store.store import Store

UUIDS = {"0": "GPU-8a1b-11", "1": "GPU-8a2c-22", "2": "GPU-9d3e-33"}


def test_one_accelerator_has_one_lock_however_it_is_called() -> None:
    assert lock_name("1", UUIDS) == lock_name("GPU-8a2c-22", UUIDS) == lock_name("GPU-8a2", UUIDS)
    assert len({lock_name(number, UUIDS) for number in UUIDS}) == 3
    assert len({lock_name(number, {}) for number in UUIDS}) == 3, "without nvidia-smi"
    assert lock_name("GPU-8a", UUIDS) not in {lock_name(number, UUIDS) for number in UUIDS}
    mig = "MIG-GPU-8a1b-11/1/0"
    assert lock_name(mig, UUIDS) != lock_name("0", UUIDS)
    assert "/" not in lock_name(mig, UUIDS)


CALLER = """
import sys
from pathlib import Path
from experiments.launch.devices import DeviceLocks, lock_name
locks = DeviceLocks(Path(sys.argv[1]))
print(locks.take([lock_name(entry, {}) for entry in sys.argv[2:]]), flush=True)
sys.stdin.read()
"""


def caller(folder: Path, *entries: str) -> tuple[subprocess.Popen[str], bool]:
    """Another call that takes these accelerators and keeps them until it ends; whether it could."""
    process = subprocess.Popen(
        [sys.executable, "-c", CALLER, str(folder), *entries], cwd=PROJECT, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(),
    )  # fmt: skip
    assert process.stdout is not None
    return process, process.stdout.readline().strip() == "True"


def test_calls_on_two_do_not_wait_and_two_on_one_do(tmp_path: Path) -> None:
    (one, first), (other, second), (third, late) = (
        caller(tmp_path, entry) for entry in ("0", "1", "0")
    )
    try:
        assert [first, second, late] == [True, True, False]
        locks = DeviceLocks(tmp_path)
        assert not locks.take([lock_name("2", {}), lock_name("1", {})]), "all or none"
        assert locks.take([lock_name("2", {})]), "what could not be taken whole was given back"
        one.kill()
        one.wait()
        wait_until(lambda: locks.take([lock_name("0", {})]), "the lock of a call that was killed")
    finally:
        for process in (one, other, third):
            process.kill()
            process.communicate()


def test_a_lock_lasts_as_long_as_the_process_that_trains(tmp_path: Path) -> None:
    """The launcher may be killed while its child still has the accelerator's memory."""
    locks, name = DeviceLocks(tmp_path), lock_name("0", {})
    assert locks.take([name])
    child = subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=locks.handles
    )
    locks.release([name])
    assert not DeviceLocks(tmp_path).take([name])
    child.communicate(b"\n")
    assert DeviceLocks(tmp_path).take([name])


def test_runs_of_one_call_share_a_lock(tmp_path: Path) -> None:
    locks, name = DeviceLocks(tmp_path), lock_name("0", {})
    assert locks.take([name])
    assert locks.take([name])
    locks.release([name])
    assert not DeviceLocks(tmp_path).take([name])
    locks.release([name])
    assert DeviceLocks(tmp_path).take([name])
    assert locks.handles == ()


@pytest.mark.parametrize("left", ["4711\n", ""])
def test_a_file_left_by_a_machine_that_went_down_locks_nothing(tmp_path: Path, left: str) -> None:
    """The kernel holds the lock, not the file: no process id to be met again, no clock."""
    name = lock_name("0", {})
    (tmp_path / name).write_text(left)
    os.utime(tmp_path / name, (2e9, 2e9))
    assert DeviceLocks(tmp_path).take([name])


def test_where_no_lock_can_be_the_call_goes_on(tmp_path: Path) -> None:
    name = lock_name("0", {})
    assert DeviceLocks(tmp_path / "nowhere").take([name])
    (tmp_path / name).symlink_to(tmp_path / "target")
    assert DeviceLocks(tmp_path).take([name])
    assert not (tmp_path / "target").exists(), "another user's link is not followed"
    (tmp_path / lock_name("1", {})).write_text("")
    with (tmp_path / lock_name("1", {})).open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert not DeviceLocks(tmp_path).take([lock_name("1", {})])


class Watching:
    """Frees the accelerator as soon as a run says that it waits."""

    def __init__(self, holder: subprocess.Popen[str]) -> None:
        self.holder = holder
        self.sentences: list[str] = []

    def started(self, run: PlannedRun) -> None:
        raise AssertionError("there is nothing to start")

    def said(self, run: PlannedRun, sentence: str) -> None:
        self.sentences.append(sentence)
        self.holder.kill()
        self.holder.wait()

    def ended(self, outcome: Outcome) -> None:
        self.sentences.append(outcome.sentence)

    def tick(self, active: Sequence[RunFolder]) -> None:
        pass


@pytest.mark.parametrize(("visible", "waits"), [(1, True), (2, False)])
def test_a_call_waits_only_where_every_accelerator_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: int, waits: bool
) -> None:
    entries = [f"test-{os.getpid()}-{number}" for number in range(visible)]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", ",".join(entries))

    def nowhere(_spec: RunSpec) -> Inputs:
        raise StoreError("The data are gone.")  # it got an accelerator: that is all we ask

    holder, taken = caller(DeviceLocks().folder, entries[0])
    watching = Watching(holder)
    try:
        assert taken
        options = LocalOptions(jobs=1, device="cuda", num_devices=visible)
        runs = [PlannedRun(make_spec(), "missing", "")]
        launch(runs, Store(tmp_path), nowhere, LocalLauncher(options), watching)
    finally:
        holder.kill()
        holder.communicate()
        for entry in entries:
            (DeviceLocks().folder / lock_name(entry, {})).unlink(missing_ok=True)
    told = ["waits: other calls use the accelerators."] if waits else []
    assert watching.sentences == [*told, "The data are gone."]
