"""Processes forked from one that has imported the libraries."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lab import children_of, is_alive, wait_until

from experiments.launch.fork_server import LIBRARIES, LOST, ForkedProcess, ForkServer
from experiments.machine import search_path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="runs are forked on Linux only")

PROBE = """
import os, signal, sys, time
ours = sorted(name for name in sys.modules if name.split(".")[0] in ("experiments", "ssa"))
print("libraries", "mmseg.models" in sys.modules, "ours", ours, os.environ.get("COLOUR"), sys.argv)
print("to stderr", file=sys.stderr, flush=True)
sys.stdout.flush()
what = sys.argv[1]
if what == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
if what == "sleep":
    time.sleep(600)
if what == "raise":
    raise ValueError("a failure of its own")
sys.exit(int(what))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("modules")
    (folder / "probe.py").write_text(PROBE)
    return folder


def environment(folder: Path, **more: str) -> dict[str, str]:
    one = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    path = os.pathsep.join([search_path(), str(folder)])
    return os.environ | one | {"PYTHONPATH": path, **more}


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ForkServer]:
    server = ForkServer(environment(folder))
    yield server
    server.close()


@pytest.fixture
def begin(server: ForkServer, folder: Path, tmp_path: Path) -> Callable[[str], ForkedProcess]:
    def begin(word: str) -> ForkedProcess:
        return server.start(
            "probe", [word], environment(folder, COLOUR=word), tmp_path / f"{word}.txt"
        )

    return begin


@pytest.mark.parametrize(
    ("word", "code"), [("0", 0), ("75", 75), ("raise", 1), ("kill", -signal.SIGKILL)]
)
def test_a_process_has_its_own_words_environment_log_and_code(
    begin: Callable[[str], ForkedProcess], tmp_path: Path, word: str, code: int
) -> None:
    assert begin(word).wait(60) == code
    log = (tmp_path / f"{word}.txt").read_text()
    assert f"libraries True ours [] {word} [" in log
    assert f"'{word}']" in log
    assert "to stderr" in log
    assert ("ValueError: a failure of its own" in log) == (word == "raise")


def test_the_code_of_a_process_is_read_when_it_starts(
    begin: Callable[[str], ForkedProcess], folder: Path, tmp_path: Path
) -> None:
    assert begin("0").wait(60) == 0
    before = (folder / "probe.py").read_text()
    (folder / "probe.py").write_text("print('edited between two runs')")
    try:
        assert begin("0").wait(60) == 0
    finally:
        (folder / "probe.py").write_text(before)
    assert (tmp_path / "0.txt").read_text().endswith("edited between two runs\n")


def test_processes_run_side_by_side_and_are_ended_one_by_one(
    begin: Callable[[str], ForkedProcess], server: ForkServer, tmp_path: Path
) -> None:
    first, second = begin("sleep"), begin("sleep")
    wait_until(lambda: len(children_of(server.pid)) == 2, "two processes")
    assert first.poll() is None
    first.terminate()
    assert first.wait(60) == -signal.SIGTERM
    assert second.poll() is None
    second.kill()
    assert second.wait(60) == -signal.SIGKILL
    second.kill()  # no error, though it is over
    assert begin("0").wait(60) == 0


def test_where_a_library_has_started_threads_processes_are_not_forked(
    folder: Path, tmp_path: Path
) -> None:
    """Another thread's locks would stay locked for ever in a forked process."""
    site = tmp_path / "site"
    site.mkdir()
    text = "import threading, time\n"
    text += "threading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n"
    (site / "sitecustomize.py").write_text(text)
    path = os.pathsep.join([search_path(), str(folder), str(site)])
    server = ForkServer(environment(folder) | {"PYTHONPATH": path})
    try:
        log = tmp_path / "log.txt"
        process = server.start("probe", ["75"], environment(folder, COLOUR="red"), log)
        assert process.wait(60) == 75
        assert (
            "libraries False ours ['experiments', 'experiments.machine'] red [" in log.read_text()
        )
    finally:
        server.close()


def test_a_killed_server_ends_its_processes_and_says_so(folder: Path, tmp_path: Path) -> None:
    server = ForkServer(environment(folder))
    process = server.start(
        "experiments.train.attempt",
        [str(tmp_path), "--data", str(tmp_path), "--parent", str(server.pid)],
        environment(folder),
        tmp_path / "log.txt",
    )
    os.kill(server.pid, signal.SIGKILL)
    assert process.wait(60) == LOST
    assert not server.alive
    assert not is_alive(server.pid)
    server.close()


def test_every_library_exists() -> None:
    """A misspelt name would cost each run its import and say nothing."""
    from importlib.util import find_spec

    assert all(find_spec(name) for name in LIBRARIES)
