"""Who trains a run on a file system that several hosts share: dead is told from slow, by no clock.

Another host is one with another kernel's name in the owner's file; its silence is a time that the
file server has stamped.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lab import environment, wait_until

from experiments.store import owner as ownership
from experiments.store.folder import RunFolder
from experiments.store.lock import is_locked, run_lock
from experiments.store.notice import take_notices
from experiments.store.owner import DEAD_S, Owner, beat, claim, lives, read_owner, release


def another(**changes: Any) -> Owner:
    """A holding by a process of another host."""
    given = {"token": uuid.uuid4().hex, "kernel": "another", "host": "far"} | changes
    return replace(Owner.of_this_process(), **given)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    (tmp_path / "run").mkdir()
    return RunFolder(tmp_path / "run")


def held(folder: RunFolder, owner: Owner, silent_s: float) -> None:
    """The run as an owner has left it so long ago, by the file server's clock."""
    folder.lock.touch()
    folder.owner.write_text(json.dumps(asdict(owner)))
    stamp = time.time() - silent_s  # of the server, which is this machine
    os.utime(folder.owner, (stamp, stamp))


@pytest.mark.parametrize("flock_is_free", [True, None], ids=["flock per host", "no flock"])
def test_a_slow_owner_on_another_host_is_told_from_a_dead_one(
    folder: RunFolder, flock_is_free: bool | None
) -> None:
    held(folder, another(), silent_s=DEAD_S - 30)
    assert lives(folder, flock_is_free=flock_is_free)
    assert not claim(folder, another(kernel="third"), flock_is_free=flock_is_free)
    held(folder, another(), silent_s=DEAD_S + 30)
    assert not lives(folder, flock_is_free=flock_is_free)
    taker = another(kernel="third")
    assert claim(folder, taker, flock_is_free=flock_is_free)
    assert read_owner(folder) == taker
    assert sorted(path.name for path in folder.path.iterdir()) == ["lock", "owner.json"]


def test_the_whole_lock_waits_for_another_hosts_owner_and_takes_over_from_a_dead_one(
    folder: RunFolder,
) -> None:
    """flock is free on this host in both cases."""
    held(folder, another(), silent_s=5)
    assert is_locked(folder)
    with run_lock(folder) as mine:
        assert not mine
    held(folder, another(), silent_s=DEAD_S + 5)
    assert not is_locked(folder)
    with run_lock(folder) as mine:
        assert mine
        assert is_locked(folder)
    assert not folder.owner.exists()


def test_no_hosts_clock_is_read(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clocks that differ by minutes, or by years, therefore change nothing."""
    held(folder, another(), silent_s=DEAD_S + 5)

    def refuse() -> float:
        raise AssertionError("a wall clock was read")

    for name in ("time", "time_ns", "localtime", "gmtime"):
        monkeypatch.setattr(time, name, refuse)
    me = Owner.of_this_process()
    assert claim(folder, me, flock_is_free=True)
    assert beat(folder, me)
    assert lives(folder, flock_is_free=False)
    assert set(asdict(me)) == {
        "token", "host", "kernel", "namespace", "pid", "born", "job", "restarts",
    }, "and no time is written"  # fmt: skip


def test_on_one_host_without_flock_the_process_itself_is_asked(folder: RunFolder) -> None:
    """A process that is stopped for hours lives; one that has ended does not, nor its number."""
    me = Owner.of_this_process()
    held(folder, me, silent_s=1e6)
    assert lives(folder, flock_is_free=None)
    held(folder, replace(me, born="1"), silent_s=0)
    assert not lives(folder, flock_is_free=None), "its process id lives again"
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    held(folder, replace(me, pid=process.pid), silent_s=0)
    assert not lives(folder, flock_is_free=None)


def test_a_job_that_was_queued_again_takes_its_run_up_at_once(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"CLUSTER_NAME": "c", "JOB_ID": "7", "RESTART_COUNT": "1"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.delenv("SLURM_ARRAY_JOB_ID", raising=False)
    held(folder, another(restarts="0"), silent_s=1)
    assert not lives(folder, flock_is_free=True)
    held(folder, another(), silent_s=1)
    assert lives(folder, flock_is_free=True), "another process of the same job, on another node"
    held(folder, another(job="c/8", restarts="0"), silent_s=1)
    assert lives(folder, flock_is_free=True)


@pytest.mark.parametrize("left", [False, True], ids=["free", "left by a dead owner"])
@pytest.mark.parametrize("links", [True, False], ids=["hard links", "none"])
def test_of_many_takers_one_gets_it(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, left: bool, links: bool
) -> None:
    if not links:

        def refuse(*_: object) -> None:
            raise PermissionError

        monkeypatch.setattr(os, "link", refuse)
    for _ in range(20):
        if left:
            held(folder, another(), silent_s=DEAD_S + 5)
        takers = [another(kernel=f"host {number}") for number in range(8)]
        with ThreadPoolExecutor(8) as pool:
            took = list(pool.map(lambda me: claim(folder, me, flock_is_free=True), takers))
        assert sum(took) == 1
        (owner,) = [taker for taker, won in zip(takers, took) if won]
        assert read_owner(folder) == owner
        release(folder, another())
        assert read_owner(folder) == owner, "nobody gives back what is another's"
        release(folder, owner)
        assert not folder.owner.exists()


def test_who_comes_late_to_a_dead_owner_leaves_the_next_one_alone(folder: RunFolder) -> None:
    dead, faster = another(), another()
    held(folder, dead, silent_s=DEAD_S + 5)
    assert claim(folder, faster, flock_is_free=True)
    assert not ownership._take_over(folder, dead, another())
    assert read_owner(folder) == faster
    folder.owner.unlink()
    assert beat(folder, faster), "what was taken away by mistake is there again"
    assert read_owner(folder) == faster


def test_a_taker_that_died_over_it_blocks_the_next_for_a_while_only(folder: RunFolder) -> None:
    dead = another()
    held(folder, dead, silent_s=DEAD_S + 5)
    marker = folder.path / f".owner.json.{dead.token}.taken"
    marker.write_text("")
    assert not claim(folder, another(), flock_is_free=True)
    stamp = time.time() - DEAD_S - 5
    os.utime(marker, (stamp, stamp))
    assert claim(folder, another(), flock_is_free=True)
    assert not marker.exists()


HOLDER = """
import sys, time
from pathlib import Path
from experiments.store import owner
owner.BEAT_S = 0.05
from experiments.store.folder import RunFolder
from experiments.store.lock import run_lock
with run_lock(RunFolder(Path(sys.argv[1]))) as mine:
    print(mine, flush=True)
    time.sleep(600)
"""


def test_a_process_that_was_taken_for_dead_ends_itself(folder: RunFolder) -> None:
    command = [sys.executable, "-c", HOLDER, str(folder.path)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment()
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        before = folder.owner.stat().st_mtime_ns
        wait_until(lambda: folder.owner.stat().st_mtime_ns > before, "a beat")
        assert process.poll() is None
        folder.owner.write_text(json.dumps(asdict(another())))
        assert process.wait(60) == -signal.SIGTERM
    (sentence,) = take_notices(folder)
    assert "has been taken over by far" in sentence
    assert read_owner(folder) is not None, "which is the other one's file"


@settings(max_examples=60)
@given(st.binary(max_size=200) | st.recursive(
    st.none() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["token", "host", "kernel", "namespace", "pid", "born", "job", "restarts"]),
        inner, max_size=8,
    ),
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_whatever_the_file_holds_is_an_owner_or_none(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    folder = RunFolder(tmp_path_factory.getbasetemp() / "owner of any content")
    folder.path.mkdir(exist_ok=True)
    folder.owner.write_bytes(content)
    owner = read_owner(folder)
    assert owner is None or isinstance(owner, Owner)
    assert lives(folder, flock_is_free=True) or owner is not None
