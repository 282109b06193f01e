"""Which code a number is credited to, and places that can do less than a disk of one's own."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest
from samples import make_areas, make_record, make_spec, put

from experiments.declare.extensions import PACKAGE, sources_used
from experiments.errors import StoreError
from experiments.judge.verdict import of_complexity
from experiments.launch.devices import visible_devices
from experiments.machine import PROJECT
from experiments.store.lock import is_locked, run_lock
from experiments.store.provenance import reached, remember_code
from experiments.store.records import seal
from experiments.store.store import Store, set_file_aside
from experiments.store.workspace import REFERENCE, Workspace

SPEC, AREAS = make_spec(), make_areas(0)


def test_what_is_reached_by_import_counts_and_alternatives_do_not() -> None:
    roots = {"ssa.classifiers.ssa", "ssa.datasets.segmentation", "ssa.mask_classifiers.head"}
    used = set(reached(roots))
    assert {"ssa.datasets.pixels", "ssa.classifiers.parts.teacher"} <= used
    assert {"ssa.mask_classifiers.criterion", "ssa.mask_classifiers.points"} <= used
    assert not {"ssa.classifiers.dnc", "ssa.classifiers.gmmseg", "ssa.datasets.camvid"} & used


def test_an_edit_after_the_start_changes_no_digest_of_the_process(tmp_path: Path) -> None:
    own = tmp_path / "classifiers" / "mine.py"
    own.parent.mkdir()
    own.write_text("x = 1\n")
    before = remember_code([tmp_path])
    own.write_text("x = 2\n")
    assert remember_code([tmp_path]) == before
    assert str(own) in before


def test_a_users_helpers_in_folders_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import types

    (tmp_path / "lib").mkdir()
    (tmp_path / "mine.py").write_text("from .lib.x import f\n")
    (tmp_path / "lib" / "__init__.py").write_text("")
    (tmp_path / "lib" / "x.py").write_text("from .y import g as f\n")
    (tmp_path / "lib" / "y.py").write_text("def g(): ...\n")
    package = types.ModuleType(PACKAGE)
    package.__path__ = [str(tmp_path)]
    monkeypatch.setitem(sys.modules, PACKAGE, package)
    names = {name.removeprefix(f"{PACKAGE}.") for name in sources_used([f"{PACKAGE}.mine"])}
    assert names == {"mine", "lib", "lib.x", "lib.y"}


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_worked_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """There the owner's file decides alone."""

    def refuse(_handle: int, _how: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    folder = Store(tmp_path).folder(SPEC.run_id)
    with run_lock(folder) as mine:
        assert mine
        assert is_locked(folder)
        with run_lock(folder) as other:
            assert not other
    assert not is_locked(folder)
    assert not folder.owner.exists()


@pytest.mark.parametrize(
    "content", ["", "4711\n", f"{os.getpid()}\n"], ids=["empty", "another", "reused"]
)
def test_a_lock_file_left_by_a_machine_that_went_down_locks_nothing(
    tmp_path: Path, content: str
) -> None:
    """Neither a process id that lives again nor a clock that was set back is asked."""
    folder = Store(tmp_path).write_spec(SPEC)
    folder.lock.write_text(content)
    os.utime(folder.lock, (2e9, 2e9))
    assert not is_locked(folder)
    with run_lock(folder) as mine:
        assert mine
        assert is_locked(folder)


def test_asking_for_a_lock_writes_nothing(tmp_path: Path) -> None:
    folder = Store(tmp_path).folder(SPEC.run_id)
    with run_lock(folder):
        pass
    folder.lock.chmod(0o444)
    before = folder.lock.stat().st_mtime_ns
    assert not is_locked(folder)
    assert folder.lock.stat().st_mtime_ns == before


@pytest.mark.parametrize("newer", [{"version": 2}, {"more": 1}])
def test_a_newer_record_is_refused_and_stays(tmp_path: Path, newer: dict[str, int]) -> None:
    store = Store(tmp_path)
    put(store, SPEC, AREAS)
    record = store.folder(SPEC.run_id).record
    record.write_text(seal(make_record(SPEC, AREAS).model_dump(mode="json") | newer))
    with pytest.raises(StoreError, match="newer version"):
        store.read(SPEC.run_id)
    with pytest.raises(StoreError, match="newer version"):
        store.set_aside(SPEC.run_id)
    assert record.exists()


def test_a_name_that_is_taken_is_never_taken_again(tmp_path: Path) -> None:
    kept = tmp_path / "record.json.replaced1"
    kept.write_text("kept")
    for _ in range(3):
        (tmp_path / "record.json").write_text("new")
        set_file_aside(tmp_path / "record.json", "replaced")
    assert kept.read_text() == "kept"


def test_a_record_made_anew_keeps_the_former_one(tmp_path: Path) -> None:
    store = Store(tmp_path)
    put(store, SPEC, AREAS)
    old = store.folder(SPEC.run_id).record.read_bytes()
    put(store, SPEC, make_areas(1))
    assert (store.folder(SPEC.run_id).path / "record.json.replaced").read_bytes() == old


def test_areas_that_cannot_be_read_are_a_sentence(tmp_path: Path) -> None:
    store = Store(tmp_path)
    put(store, SPEC, AREAS)
    folder = store.folder(SPEC.run_id)
    folder.per_image.unlink()
    folder.per_image.mkdir()
    with pytest.raises(StoreError, match="per_image"):
        store.read(SPEC.run_id)


def test_a_reported_zero_has_a_verdict() -> None:
    assert of_complexity(1.0, 0.0, digits=1).word == "different"


@pytest.mark.parametrize(("given", "child"), [("2,3", "3"), ("GPU-a,GPU-b", "GPU-b"), (None, "1")])
def test_devices_count_within_the_list_that_was_given(
    monkeypatch: pytest.MonkeyPatch, given: str | None, child: str
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if given:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    assert visible_devices([1]) == child


def test_the_shipped_results_are_not_written_to() -> None:
    assert REFERENCE not in Workspace(results=REFERENCE).cache.parents
    assert REFERENCE not in Workspace(results=REFERENCE).complexity.parents


def test_a_process_whose_caller_is_gone_does_not_train(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    command = [sys.executable, "-m", "experiments.train.attempt", str(tmp_path / "run")]
    command += ["--data", str(tmp_path), "--parent", str(gone.pid)]
    ended = subprocess.run(command, cwd=PROJECT, capture_output=True)
    assert ended.returncode != 0
    assert not (tmp_path / "run" / "lock").exists()
