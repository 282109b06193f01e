"""Records: whole or not there, whatever happened to the process or the disk."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lab import environment, requires_tmpfs
from samples import make_areas, make_record, make_spec, put

from experiments.errors import CorruptRecordError, StoreError
from experiments.files import disk_sentence, write_atomically
from experiments.store.areas import ImageAreas
from experiments.store.arrays import npz_arrays, npz_bytes
from experiments.store.lock import is_locked, run_lock
from experiments.store.progress import Progress, read_progress, write_progress
from experiments.store.records import Failure, seal, unseal
from experiments.store.store import Store

SPEC, AREAS = make_spec(), make_areas(0)
RUN = SPEC.run_id


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results")


@pytest.fixture
def full(store: Store) -> Store:
    put(store, SPEC, AREAS)
    return store


def test_a_record_comes_back_as_it_was_written(full: Store) -> None:
    assert full.read(RUN) == make_record(SPEC, AREAS)
    areas = full.read_areas(RUN)
    assert areas.names == AREAS.names
    assert np.array_equal(areas.intersection, AREAS.intersection)
    assert np.array_equal(areas.union, AREAS.union)
    assert full.run_ids() == [RUN]


def test_what_only_resuming_needs_is_dropped_with_the_record(store: Store) -> None:
    folder = store.write_spec(SPEC)
    for path in (folder.checkpoint, folder.failure, folder.progress):
        path.write_text("{}")
    put(store, SPEC, AREAS)
    left = {path.name for path in folder.path.iterdir()}
    assert left == {"spec.json", "per_image.npz", "record.json"}


def test_a_run_without_its_final_record_does_not_exist(store: Store) -> None:
    folder = store.write_spec(SPEC)
    write_atomically(folder.per_image, AREAS.to_bytes())
    (folder.path / ".record.json.abcd").write_text(seal({"half": "a record"})[:20])
    assert store.read(RUN) is None
    assert store.run_ids() == []


KILLED_WRITER = """
import os, signal, sys
from pathlib import Path
from experiments import files
before = os.fsync
def die(handle):
    before(handle)
    os.kill(os.getpid(), signal.SIGKILL)
os.fsync = die
files.write_atomically(Path(sys.argv[1]), "new")
"""


@pytest.mark.parametrize("earlier", [None, "old"])
def test_kill_9_between_writing_and_renaming_leaves_what_was_there(
    tmp_path: Path, earlier: str | None
) -> None:
    path = tmp_path / "record.json"
    if earlier is not None:
        write_atomically(path, earlier)
    command = [sys.executable, "-c", KILLED_WRITER, str(path)]
    killed = subprocess.run(command, env=environment(), check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (path.read_text() if path.exists() else None) == earlier
    write_atomically(path, "newer")
    assert path.read_text() == "newer"


@given(share=st.floats(0, 1, exclude_max=True))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_a_truncated_record_is_named_and_never_half_read(full: Store, share: float) -> None:
    path = full.folder(RUN).record
    text = seal(make_record(SPEC, AREAS).model_dump(mode="json"))
    path.write_text(text[: int(share * len(text))])
    with pytest.raises(CorruptRecordError, match=r"record\.json is damaged"):
        full.read(RUN)


@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=120)
def test_a_flipped_bit_is_found_or_harmless(full: Store, where: float, bit: int) -> None:
    record = make_record(SPEC, AREAS)
    raw = bytearray(seal(record.model_dump(mode="json")).encode())
    raw[int(where * len(raw))] ^= 1 << bit
    full.folder(RUN).record.write_bytes(bytes(raw))
    with contextlib.suppress(CorruptRecordError):
        assert full.read(RUN) == record  # a blank that became another blank


def test_a_record_of_another_form_is_damaged_and_not_guessed_at(full: Store) -> None:
    document = make_record(SPEC, AREAS).model_dump(mode="json")
    del document["scores"]
    full.folder(RUN).record.write_text(seal(document))
    with pytest.raises(CorruptRecordError):
        full.read(RUN)


@pytest.mark.parametrize("spoil", ["missing", "truncated", "another"])
def test_areas_that_do_not_fit_their_record_are_named(full: Store, spoil: str) -> None:
    path = full.folder(RUN).per_image
    if spoil == "missing":
        path.unlink()
    elif spoil == "truncated":
        path.write_bytes(path.read_bytes()[:-7])
    else:
        path.write_bytes(make_areas(1).to_bytes())
    with pytest.raises(CorruptRecordError, match=r"per_image\.npz"):
        full.read(RUN)


def test_a_damaged_record_is_set_aside_not_deleted(full: Store) -> None:
    path = full.folder(RUN).record
    path.write_text("half a rec")
    aside = full.set_aside(RUN)
    assert aside is not None
    assert aside.read_text() == "half a rec"
    assert full.read(RUN) is None


def test_a_whole_record_is_never_set_aside(full: Store) -> None:
    """Two calls saw the same damage; the other has made the run again in between."""
    assert full.set_aside(RUN) is None
    assert full.read(RUN) is not None
    full.folder(RUN).record.unlink()
    assert full.set_aside(RUN) is None


def test_a_damaged_record_that_another_process_works_on_is_left_alone(full: Store) -> None:
    full.folder(RUN).record.write_text("half a rec")
    with run_lock(full.folder(RUN)) as mine:
        assert mine
        assert full.set_aside(RUN) is None
    assert full.folder(RUN).record.exists()


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]"])
def test_half_a_failure_is_no_failure(store: Store, content: bytes) -> None:
    folder = store.write_spec(SPEC)
    folder.failure.write_bytes(content)
    assert store.read_failure(RUN) is None


def test_a_failure_comes_back(store: Store) -> None:
    folder = store.write_spec(SPEC)
    failure = Failure(run_id=RUN, sentence="It rained.", traceback="…", time="now")
    write_atomically(folder.failure, failure.model_dump_json())
    assert store.read_failure(RUN) == failure


# --- seal -----------------------------------------------------------------------------------------

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=6).filter(lambda k: k != "sha256"), values, max_size=4))
def test_sealing_keeps_every_value_exactly(document: dict[str, Any]) -> None:
    assume_not_empty = document or {"a": 1}
    assert unseal(seal(assume_not_empty)) == assume_not_empty


def test_a_changed_number_breaks_the_seal() -> None:
    text = seal({"miou": 42.36})
    with pytest.raises(ValueError, match="checksum"):
        unseal(text.replace("42.36", "45.36"))
    with pytest.raises(ValueError, match="no checksum"):
        unseal(json.dumps({"miou": 42.36}))


def test_a_text_that_was_only_laid_out_anew_keeps_its_seal() -> None:
    document = {"b": [1.5, None], "a": "é"}
    sealed = json.loads(seal(document))
    assert unseal(json.dumps(sealed)) == unseal(json.dumps(sealed, indent=4)) == document


def test_a_copy_with_another_seed_is_another_run() -> None:
    first = make_spec(seed=0)
    assert first.run_id == make_spec(seed=0).run_id
    other = first.model_copy(update={"seed": 1})
    assert other.run_id == make_spec(seed=1).run_id != first.run_id


def test_a_glance_reads_what_stands_there_and_never_raises(full: Store) -> None:
    assert full.peek(RUN) == json.loads(full.folder(RUN).record.read_bytes())
    full.folder(RUN).record.write_text("{")
    assert full.peek(RUN) is full.peek("nothing") is None


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.int32).reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.array(["a", "é"]),
        np.zeros((0, 4), dtype=np.int64),
        np.float32(1.5),
    ],
    ids=["rows first", "columns first", "text", "empty", "a number"],
)
def test_arrays_come_back_as_numpy_would_read_them(array: Any) -> None:
    raw = npz_bytes(one=array, two=array)
    found = npz_arrays(raw)
    with np.load(io.BytesIO(raw)) as expected:
        for name in ("one", "two"):
            np.testing.assert_array_equal(found[name], expected[name])
            assert found[name].dtype == expected[name].dtype


def test_arrays_of_objects_are_not_read() -> None:
    with pytest.raises(ValueError, match="Object arrays"):
        npz_arrays(npz_bytes(one=np.array([{}])))


def test_areas_come_back_through_the_store(full: Store) -> None:
    read = full.read_areas(RUN)
    loaded = ImageAreas.load(full.folder(RUN).per_image)
    assert read.digest() == loaded.digest() == AREAS.digest()
    assert read.names == loaded.names


def test_equal_areas_give_equal_bytes() -> None:
    assert make_areas(5).to_bytes() == make_areas(5).to_bytes()
    assert make_areas(5).digest() != make_areas(6).digest()
    assert npz_bytes(a=np.arange(3)) == npz_bytes(a=np.arange(3))


# --- lock -----------------------------------------------------------------------------------------

HOLDER = """
import sys, time
from pathlib import Path
from experiments.store.folder import RunFolder
from experiments.store.lock import run_lock
with run_lock(RunFolder(Path(sys.argv[1]))) as mine:
    print(mine, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(store: Store) -> Iterator[subprocess.Popen[str]]:
    folder = store.folder(RUN)
    command = [sys.executable, "-c", HOLDER, str(folder.path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment())
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    yield process
    process.kill()
    process.communicate()


def test_one_process_holds_a_run_and_kill_9_frees_it(
    store: Store, holder: subprocess.Popen[str]
) -> None:
    folder = store.folder(RUN)
    assert is_locked(folder)
    with run_lock(folder) as mine:
        assert not mine
    holder.kill()
    holder.wait()
    assert not is_locked(folder)
    with run_lock(folder) as mine:
        assert mine
        assert is_locked(folder)


def test_a_run_that_was_never_started_is_not_locked(store: Store) -> None:
    assert not is_locked(store.folder(RUN))
    assert not store.root.exists()


# --- the disk -------------------------------------------------------------------------------------


@requires_tmpfs
@pytest.mark.parametrize("small_disk", [65536], indirect=True)
def test_a_full_disk_keeps_what_was_there_and_says_so(small_disk: Path) -> None:
    path = small_disk / "record.json"
    write_atomically(path, "old")
    with pytest.raises(StoreError, match=r"The disk is full: .*record\.json.* --results"):
        write_atomically(path, "x" * 200_000)
    assert path.read_text() == "old"
    assert [p.name for p in small_disk.iterdir()] == ["record.json"]


def test_a_place_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file where a folder should be")
    with pytest.raises(StoreError, match=r"runs.* could not be written"):
        Store(tmp_path).write_spec(SPEC)
    sentence = disk_sentence(PermissionError(13, os.strerror(13)), tmp_path)
    assert "--results" in sentence


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.ENOENT, errno.EIO])
def test_a_disks_refusals_name_the_next_command(code: int) -> None:
    said = disk_sentence(OSError(code, os.strerror(code)), Path("results/runs/a/log.txt"))
    assert "results/runs/a/log.txt" in said
    assert "give the same command again" in said.lower()


# --- progress -------------------------------------------------------------------------------------


def test_progress_is_read_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "progress.json"
    assert read_progress(path) is None
    progress = Progress(iteration=3, iterations=8, iteration_ms=1.5, miou=None, time=0.5)
    write_progress(path, progress)
    assert read_progress(path) == progress
    for text in (path.read_text()[:-9], "", "[]", '{"iteration": 3}'):
        path.write_text(text)
        assert read_progress(path) is None


def test_progress_that_cannot_be_written_disturbs_nobody(tmp_path: Path) -> None:
    write_progress(tmp_path / "nowhere" / "progress.json", Progress(1, 2, 3.0, None, 4.0))
