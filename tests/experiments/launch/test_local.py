"""Training processes on this machine: killed, interrupted, and two callers at once."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import PATIENCE_S, Lab, assert_clear, is_alive, runs_of, trainers_of, trainings, wait_until

from experiments.store.folder import RunFolder
from experiments.store.lock import is_locked, owner_of
from experiments.store.progress import read_progress
from experiments.store.records import Record

# --- kills ----------------------------------------------------------------------------------------


def iteration(folder: RunFolder) -> int:
    progress = read_progress(folder.progress)
    return progress.iteration if progress else 0


def pid_of_owner(folder: RunFolder) -> int:
    """The training process that holds a run, among those of several callers that would."""
    owner = owner_of(folder)
    assert owner is not None, "nobody trains"
    return owner.pid


def assert_as_undisturbed(lab: Lab, undisturbed: Record) -> Record:
    record = lab.record("softmax")
    assert record.run_id == undisturbed.run_id
    assert record.scores == undisturbed.scores
    assert record.result_digest == undisturbed.result_digest
    assert record.per_image_sha256 == undisturbed.per_image_sha256
    return record


@pytest.mark.slow
def test_the_same_command_completes_what_kill_9_interrupted(
    trained: Lab, undisturbed: Record, tmp_path: Path
) -> None:
    """First the training process is killed, then the launcher with all its processes."""
    lab = trained.blank(tmp_path)
    folder = lab.store.folder(undisturbed.run_id)

    with lab.calling("one", profile="long") as process:
        wait_until(folder.checkpoint.exists, "the first checkpoint")
        (child,) = trainers_of(process.pid)
        os.kill(child, signal.SIGKILL)
        out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert "ended by SIGKILL; the same command resumes it" in " ".join(err.split())
    last = folder.log.read_text().splitlines()[-1]
    assert "ended by SIGKILL" in last
    assert re.search(r"\(iteration \d+ of 60\)", last), last
    assert "Traceback" not in out + err
    assert "interrupted; resumes" in out
    first = folder.checkpoint.stat().st_mtime_ns

    with lab.calling("one", profile="long") as process:
        wait_until(lambda: folder.checkpoint.stat().st_mtime_ns > first, "the second checkpoint")
        (child,) = trainers_of(process.pid)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=PATIENCE_S)
    wait_until(lambda: not is_alive(child), "the end of the training process")
    assert not is_locked(folder)
    assert lab.store.read(undisturbed.run_id) is None

    said = lab.call("one", profile="long")
    assert_clear(said, 0)
    record = assert_as_undisturbed(lab, undisturbed)
    assert list(record.resumed_at) == sorted(set(record.resumed_at))
    assert len(record.resumed_at) == 2
    assert trainings(folder) == 3


@pytest.fixture
def interrupts_ignored() -> Iterator[None]:
    """As under nohup: what the suite's own process does with SIGINT must not matter."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interrupts_ignored")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGHUP])
def test_ctrl_c_ends_the_training_processes_and_says_how_to_go_on(
    trained: Lab, tmp_path: Path, how: signal.Signals
) -> None:
    """And a terminal that is closed, as an ssh connection that is lost."""
    if how == signal.SIGHUP and signal.getsignal(how) == signal.SIG_IGN:
        pytest.skip("started with nohup, under which a closed terminal ends nothing")
    lab = trained.blank(tmp_path)
    with lab.calling("one", profile="long") as process:
        wait_until(lambda: any(is_locked(f) for f in runs_of(lab)), "a training process")
        (child,) = trainers_of(process.pid)
        process.send_signal(how)
        out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert "Interrupted; the same command goes on where it stopped." in err
    assert "Traceback" not in out + err
    assert not is_alive(child)


@pytest.mark.slow
def test_sigterm_and_a_kill_at_once_leave_nothing_that_blocks_the_next_call(
    trained: Lab, undisturbed: Record, tmp_path: Path
) -> None:
    """Killed within a tenth of a second of the training process's start; ended as Slurm does."""
    lab = trained.blank(tmp_path)
    folder = lab.store.folder(undisturbed.run_id)

    with lab.calling("one", profile="long") as process:
        wait_until(lambda: trainers_of(process.pid), "the training process")
        (child,) = trainers_of(process.pid)
        process.kill()  # the launcher alone: nobody is left to end its child
        process.communicate(timeout=PATIENCE_S)
    wait_until(lambda: not is_alive(child), "the orphan's end")
    assert not is_locked(folder)
    assert not folder.record.exists()
    assert not folder.checkpoint.exists(), "an orphan must not train on"

    with lab.calling("one", profile="long") as process:
        wait_until(folder.checkpoint.exists, "the first checkpoint")
        (child,) = trainers_of(process.pid)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert "Interrupted; the same command goes on where it stopped." in err
    assert "Traceback" not in out + err
    assert not is_alive(child)
    assert not is_locked(folder)
    last = folder.log.read_text().splitlines()[-1]
    assert re.search(r"ended by SIGTERM at iteration \d+ of 60; the same command resumes", last)

    said = lab.call("one", profile="long")
    assert_clear(said, 0)
    assert assert_as_undisturbed(lab, undisturbed).resumed_at


# --- two at once ----------------------------------------------------------------------------------


@pytest.fixture
def two(trained: Lab, tmp_path: Path) -> Iterator[tuple[Lab, list[subprocess.Popen[str]]]]:
    """Two callers of the same table on the same results, which one of them calls otherwise."""
    lab = trained.blank(tmp_path / "results")
    link = tmp_path / "link"
    link.symlink_to(lab.results)
    linked = Lab(link, lab.registry)
    with lab.calling("pair") as one, linked.calling("pair") as other:
        yield lab, [one, other]


@pytest.mark.slow
def test_two_callers_train_each_run_once_and_print_the_same(
    trained: Lab, two: tuple[Lab, list[subprocess.Popen[str]]]
) -> None:
    lab, callers = two
    said = [caller.communicate(timeout=PATIENCE_S) for caller in callers]
    assert [caller.returncode for caller in callers] == [0, 0], said
    assert said[0][0] == said[1][0], "the tables are identical"
    assert "SSA-Seg" in said[0][0]
    assert [trainings(folder) for folder in lab.runs] == [1, 1]
    for classifier in ("softmax", "ssa"):
        assert lab.record(classifier).result_digest == trained.record(classifier).result_digest
    for path in (lab.results / "tables").iterdir():
        assert not path.name.startswith("."), "nothing half-written is left"


@pytest.mark.slow
def test_a_caller_takes_over_from_one_that_was_killed(
    trained: Lab, undisturbed: Record, tmp_path: Path
) -> None:
    lab = trained.blank(tmp_path)
    folder = lab.store.folder(undisturbed.run_id)
    with lab.calling("one", profile="long") as one, lab.calling("one", profile="long") as other:
        wait_until(folder.checkpoint.exists, "the first checkpoint")
        callers = [one, other]
        child = pid_of_owner(folder)  # the later caller's process may just be finding it held
        at_work = next(c for c in callers if child in trainers_of(c.pid))
        at_work.kill()
        at_work.wait(timeout=PATIENCE_S)
        wait_until(lambda: not is_alive(child), "the orphan's end")
        assert not folder.record.exists(), "an orphan must not train on"
        callers.remove(at_work)
        out, err = callers[0].communicate(timeout=PATIENCE_S)
    assert callers[0].returncode == 0, out + err
    record = assert_as_undisturbed(lab, undisturbed)
    assert record.resumed_at
    assert trainings(folder) == 2
