"""The command line with real processes, real files and real damage."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from lab import (
    PATIENCE_S,
    Lab,
    assert_clear,
    fill,
    finished,
    requires_tmpfs,
    runs_of,
    trainings,
    wait_until,
)

from experiments.files import write_atomically
from experiments.store.records import seal, unseal


def exports(lab: Lab) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((lab.results / "tables").iterdir())}


def state_of_files(lab: Lab) -> dict[str, int]:
    """When each file of the runs was last written."""
    files = [path for path in lab.store.runs.rglob("*") if path.is_file()]
    return {str(path): path.stat().st_mtime_ns for path in files}


@pytest.fixture
def spoilt(trained: Lab, tmp_path: Path) -> Lab:
    """A copy of the trained results, to be changed."""
    return trained.copy(tmp_path / "results")


# --- wrong commands -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "profile", "code", "says"),
    [
        (["tabel8"], "smoke", 2, "Did you mean 'table8'?"),
        (["plan", "tabel8"], "smoke", 2, "Did you mean 'table8'?"),
        (["docter"], "smoke", 2, "Did you mean 'doctor'?"),
        (["figure88"], "smoke", 2, "Did you mean 'figure8'?"),
        (["pair"], "smok", 2, "Unknown profile 'smok'. Did you mean 'smoke'?"),
        (["pair", "--sedes", "3"], "smoke", 2, "--sedes"),
        (["pair", "--seeds", "three"], "smoke", 2, "--seeds takes a number of seeds (3) or a list"),
        (["pair", "--jobs", "0"], "smoke", 2, "--jobs"),
        (["pair", "--jobs", "many"], "smoke", 2, "--jobs"),
        (["pair", "--device", "tpu"], "smoke", 2, "--device"),
        (["pair", "--rows", "ful"], "smoke", 2, "Unknown row of pair 'ful'. Did you mean 'full'?"),
        (["pair", "--registry", "/nowhere"], "smoke", 1, "registry folder /nowhere does not exist"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_wrong_command_is_one_sentence(
    trained: Lab, tmp_path: Path, words: list[str], profile: str, code: int, says: str
) -> None:
    lab = Lab(tmp_path / "results", trained.registry)
    said = lab.call(*words, profile=profile)
    assert_clear(said, code, says)
    assert said.stdout == ""
    assert not lab.results.exists(), "a wrong command writes nothing"


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("mine", "name: [mine", "mine.yaml is not valid YAML"),
        ("mine", "name: table8\ntitle: T\nsource: S\nrows: []\n", "'table8', which"),
        ("mine", "name: mine\ntitle: T\nsource: S\nrows: 3\n", "mine.yaml: rows"),
    ],
    ids=["invalid YAML", "name taken", "wrong type"],
)
def test_a_wrong_registry_is_one_sentence(tmp_path: Path, name: str, text: str, says: str) -> None:
    (tmp_path / "registry" / "tables").mkdir(parents=True)
    (tmp_path / "registry" / "tables" / f"{name}.yaml").write_text(text)
    lab = Lab(tmp_path / "results", tmp_path / "registry")
    assert_clear(lab.call("mine"), 1, says)


@pytest.mark.parametrize("there", ["nothing", "empty", "a file", "half of it"])
def test_data_that_cannot_be_read_blocks_the_cells_and_the_table_says_so(
    trained: Lab, tmp_path: Path, there: str
) -> None:
    data = tmp_path / "data"
    if there == "a file":
        data.write_text("not a folder")
    elif there != "nothing":
        data.mkdir()
    if there == "half of it":
        (data / "camvid" / "images" / "train").mkdir(parents=True)
    lab = Lab(tmp_path / "results", trained.registry)
    said = lab.call("one", "--data-root", str(data), profile="real")
    assert_clear(said, 3, "Not run:", "CamVid", str(data))
    document = json.loads((lab.results / "tables" / "one-real.json").read_text())
    assert document["complete"] is False
    (row,) = document["rows"]
    assert row["miou_percent"] is None
    assert row["versus_paper"] == "blocked"
    assert str(data) in row["absent"][0]


def test_a_plan_trains_nothing(trained: Lab, tmp_path: Path) -> None:
    lab = trained.blank(tmp_path)
    said = lab.call("plan", "pair")
    assert said.returncode == 0
    assert "2 runs, 0 cached, 2 to do" in said.stdout
    dry = lab.call("pair", "--dry-run")
    assert dry.stdout == said.stdout
    assert not lab.store.runs.exists()


def test_no_run_formats_its_config(trained: Lab, tmp_path: Path) -> None:
    """yapf took a quarter of a second eleven times a run, and wrote its grammar into the cache."""
    lab, cache = trained.blank(tmp_path / "results"), tmp_path / "cache"
    said = finished(lab.command("one"), XDG_CACHE_HOME=str(cache))
    assert_clear(said, 0)
    assert not list(cache.glob("YAPF/**/*"))


# --- what is there is not made again --------------------------------------------------------------


def test_a_table_is_printed_and_exported(trained: Lab) -> None:
    names = [f"pair-smoke.{suffix}" for suffix in ("csv", "json", "md", "tex")]
    assert list(exports(trained)) == [*names, "preamble.tex", "standalone.tex"]
    document = json.loads(exports(trained)["pair-smoke.json"])
    assert document["complete"] is True
    baseline, full = document["rows"]
    assert baseline["miou_percent"] == trained.record("softmax").scores.miou
    assert baseline["gain_points"] is None
    gain = trained.record("ssa").scores.miou - trained.record("softmax").scores.miou
    assert full["gain_points"] == pytest.approx(gain, abs=1e-9)
    assert full["gain_low_points"] <= gain <= full["gain_high_points"]
    assert baseline["versus_paper"] == "not comparable"
    assert full["versus_paper"] == "not reported"
    for row, classifier in ((baseline, "softmax"), (full, "ssa")):
        (run,) = row["runs"]
        assert run["result_digest"] == trained.record(classifier).result_digest


def test_a_second_call_trains_nothing_and_exports_the_same_bytes(spoilt: Lab) -> None:
    before, files = exports(spoilt), state_of_files(spoilt)
    shutil.rmtree(spoilt.results / "tables")
    again = spoilt.call("pair")
    assert again.returncode == 0, again.stderr
    assert again.stderr == "", "there is nothing to report on"
    assert exports(spoilt) == before
    assert state_of_files(spoilt) == files
    assert "SSA-Seg" in again.stdout


def test_a_record_of_other_code_is_shown_as_stale_and_neither_remade_nor_hidden(
    spoilt: Lab,
) -> None:
    folder = spoilt.store.folder(spoilt.record("ssa").run_id)
    document = unseal(folder.record.read_text())
    document["environment"]["code"]["ssa.classifiers.ssa"] = "0" * 64
    write_atomically(folder.record, seal(document))
    files = state_of_files(spoilt)
    planned = spoilt.call("plan", "pair")
    assert "stale" in planned.stdout
    assert "changed since: ssa.classifiers.ssa" in " ".join(planned.stdout.split())
    said = spoilt.call("pair")
    assert said.returncode == 0
    assert "Stale: changed since: ssa.classifiers.ssa." in said.stdout
    assert state_of_files(spoilt) == files
    row = json.loads(exports(spoilt)["pair-smoke.json"])["rows"][1]
    assert row["stale"] == ["changed since: ssa.classifiers.ssa"]
    assert b"Stale: changed since" in exports(spoilt)["pair-smoke.md"]


@pytest.mark.slow
def test_stale_runs_are_made_anew_when_asked_and_their_records_kept(
    trained: Lab, spoilt: Lab
) -> None:
    folder = spoilt.store.folder(spoilt.record("ssa").run_id)
    document = unseal(folder.record.read_text())
    document["environment"]["code"]["ssa.classifiers.ssa"] = "0" * 64
    write_atomically(folder.record, seal(document))
    old, areas = folder.record.read_bytes(), folder.per_image.read_bytes()
    planned = spoilt.call("plan", "pair")
    assert "1 cached, 1 stale (--remake-stale trains them anew), 0 to do" in planned.stdout
    said = spoilt.call("pair", "--remake-stale")
    assert_clear(said, 0)
    assert "Stale" not in said.stdout
    assert spoilt.record("ssa").result_digest == trained.record("ssa").result_digest
    assert folder.record.with_name("record.json.replaced").read_bytes() == old
    assert folder.per_image.with_name("per_image.npz.replaced").read_bytes() == areas
    kept = spoilt.store.folder(spoilt.record("softmax").run_id)
    assert [trainings(folder), trainings(kept)] == [2, 1]


@pytest.mark.slow
def test_damaged_results_are_named_set_aside_and_made_again(trained: Lab, spoilt: Lab) -> None:
    truncated = spoilt.store.folder(trained.record("softmax").run_id)
    rotten = spoilt.store.folder(trained.record("ssa").run_id)
    text = truncated.record.read_text()
    truncated.record.write_text(text[: len(text) // 2])
    rotten.per_image.write_bytes(rotten.per_image.read_bytes()[:-1] + b"?")
    said = spoilt.call("pair")
    assert_clear(said, 0, f"{truncated.record} is damaged", f"{rotten.per_image} is damaged")
    assert "set aside" in said.stderr
    assert truncated.record.with_suffix(".json.damaged").read_text() == text[: len(text) // 2]
    for classifier in ("softmax", "ssa"):
        again, before = spoilt.record(classifier), trained.record(classifier)
        assert again.result_digest == before.result_digest
        assert again.per_image_sha256 == before.per_image_sha256
    assert [trainings(folder) for folder in (truncated, rotten)] == [2, 2]


# --- failures -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_failing_run_is_recorded_and_stops_no_other(trained: Lab, tmp_path: Path) -> None:
    lab = trained.blank(tmp_path)
    said = lab.call("troubled")
    assert said.returncode == 1
    assert "Traceback" not in said.stdout + said.stderr
    failures = {
        folder.path.name: failure
        for folder in lab.runs
        if (failure := lab.store.read_failure(folder.path.name))
    }
    assert len(failures) == 2
    sentences = " ".join(failure.sentence for failure in failures.values())
    assert "is no longer a finite number before iteration 4; lower the learning rate" in sentences
    assert "RuntimeError" in sentences
    assert all("Traceback" in failure.traceback for failure in failures.values())
    words = " ".join(said.stdout.split())
    assert said.stderr.count("failed ") == 2
    assert "Not run: seed 0: the last attempt failed: The loss" in words
    document = json.loads((lab.results / "tables" / "troubled-smoke.json").read_text())
    diverging, broken, well = document["rows"]
    assert diverging["miou_percent"] is broken["miou_percent"] is None
    assert well["miou_percent"] == lab.record("softmax").scores.miou
    assert document["complete"] is False


@requires_tmpfs
@pytest.mark.slow
@pytest.mark.parametrize("small_disk", ["3500k"], indirect=True)  # the copy and half a run
def test_a_disk_that_fills_up_in_training_costs_that_run_only(
    trained: Lab, small_disk: Path
) -> None:
    lab = trained.copy(small_disk / "results")
    before = [trained.record("softmax"), trained.record("ssa")]
    said = lab.call("one", "--seeds", "2")
    assert_clear(said, 1, "The disk is full", "--results")
    assert [lab.record("softmax"), lab.record("ssa")] == before
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    said = lab.call("one", "--seeds", "2")
    assert_clear(said, 0)
    assert len(lab.store.run_ids()) == 3
    assert lab.store.read(before[0].run_id) == before[0]


@requires_tmpfs
@pytest.mark.parametrize("small_disk", ["3500k"], indirect=True)  # the copy and half a run
def test_a_disk_that_is_full_from_the_start(trained: Lab, small_disk: Path) -> None:
    lab = trained.copy(small_disk / "results")
    with (lab.results / "tables" / "pair-smoke.csv").open("a") as outdated:
        outdated.write("a row that is no longer there\n")
    tables = exports(lab)
    fill(small_disk)
    for words in (["one", "--seeds", "2"], ["pair"]):
        said = lab.call(*words)
        assert_clear(said, 1, "The disk is full", "--results")
    assert [lab.record(name) for name in ("softmax", "ssa")] == [
        trained.record(name) for name in ("softmax", "ssa")
    ]
    assert exports(lab) == tables, "an export that cannot be replaced stays as it was"


@requires_tmpfs
@pytest.mark.slow
@pytest.mark.parametrize("small_disk", ["64m"], indirect=True)
def test_a_disk_that_takes_not_even_the_log_is_still_named(trained: Lab, small_disk: Path) -> None:
    lab = trained.blank(small_disk / "results")
    with lab.calling("one", profile="long") as process:
        wait_until(lambda: any(f.progress.exists() for f in runs_of(lab)), "the first steps")
        fill(small_disk)
        out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert "Traceback" not in out + err
    assert "The disk is full" in " ".join(err.split())
