"""A small part of the fault campaign and of the fuzz, and that both count what goes wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest
from lab import Lab, environment, fill, finished, requires_tmpfs

from benchmarks import disturbed, faults, fuzz, kept_rows
from benchmarks.disturbed import Campaign, Try, UntriedError, unclear
from benchmarks.record import Clock, read
from experiments.machine import PROJECT, module_command
from experiments.store.records import seal, unseal


@pytest.fixture(scope="module")
def campaign(trained: Lab, tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    """Beside the table that all tests share, in the profile smoke."""
    return Campaign(tmp_path_factory.mktemp("campaign"), trained, "smoke", 6.0)


# --- faults ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cut", "flip"])
def test_damaged_files_pass_for_nothing_else(campaign: Campaign, name: str) -> None:
    row = faults.tried(name, campaign, 0, 40)
    kinds = {"cut": 5, "flip": 3}[name]
    assert row["tried"] == row["survived"] == 40 * kinds, row["tries"]
    assert row["lost"] == row["wrong"] == 0


@pytest.mark.slow
def test_a_killed_call_loses_nothing(campaign: Campaign) -> None:
    outcome = disturbed.kill(campaign, Random("all of it"))
    assert outcome.survived, outcome


def test_a_changed_number_is_wrong(campaign: Campaign, trained: Lab) -> None:
    """Also one whose record is whole in itself."""
    with campaign.blank() as plain:
        lab = trained.copy(plain.results / "copy")
        assert campaign.wrong(lab) == set()
        folder = lab.store.folder(trained.record("ssa").run_id)
        document = unseal(folder.record.read_text())
        folder.record.write_text(seal(document | {"result_digest": "0" * 64}))
        assert campaign.wrong(lab) == {folder.path.name}


def test_an_exported_number_is_looked_at(campaign: Campaign, trained: Lab) -> None:
    with campaign.blank() as plain:
        lab = trained.copy(plain.results / "copy")
        path = lab.results / "tables" / "pair-smoke.json"
        digest = trained.record("softmax").result_digest
        path.write_text(path.read_text().replace(digest, "0" * 64))
        assert campaign.wrong(lab) == {trained.record("softmax").run_id}


def test_what_is_lost_wrong_or_unclear_is_not_survived() -> None:
    assert Try("a").survived
    assert not Try("a", ("a traceback",)).survived
    assert not Try("a", lost=1).survived
    assert not Try("a", wrong=1).survived
    assert unclear("all is\nwell", "is well") == []
    assert unclear("Traceback (most recent call last)") == ["a traceback on the console"]
    assert unclear("nothing of use", "the same command")[0].startswith("no word of 'the same")


def test_a_fault_that_cannot_be_brought_about_says_why(
    trained: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = Campaign(tmp_path, trained, "smoke", 1.0)
    monkeypatch.setenv("PATH", "")  # no compiler
    with pytest.raises(UntriedError, match="install gcc"):
        _ = campaign.clock
    row = faults.tried("clock", campaign, 0, 1)
    assert row["tried"] == 0
    assert "install gcc" in row["not_tried"]
    assert [figure.met for figure in faults.figures([row])] == [False, True, True, True]


def test_a_result_from_before_the_fault_counts_where_it_is_gone(
    campaign: Campaign, trained: Lab
) -> None:
    with campaign.blank() as plain:
        lab = trained.copy(plain.results / "copy")
        before = disturbed.whole_records(lab)
        lab.runs[0].record.unlink()
        assert len(disturbed.whole_records(lab)) == len(before) - 1
        assert disturbed.finished_by(lab, before) == before


def test_a_call_that_is_waited_for_in_vain_did_not_survive(
    campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang(_campaign: Campaign, _chance: Random) -> Try:
        raise AssertionError("waited in vain for its end")

    monkeypatch.setitem(faults.FAULTS, "hang", faults.Fault("a call that hangs", 1, hang))
    row = faults.tried("hang", campaign, 0, None)
    assert (row["tried"], row["survived"]) == (1, 0)
    assert "waited in vain for its end" in row["tries"][0]["problems"][0]


def test_the_record_has_four_counts_a_fault(campaign: Campaign, tmp_path: Path) -> None:
    record = faults.describe(["cut"], campaign, 3, 2, Clock())
    assert read(record.write(tmp_path)) == record
    assert record.stem == "faults_cut"
    assert [figure.met for figure in record.figures] == [True] * 4
    assert "| record, areas, checkpoint, index cut at every length | 10 | 10 | 0 | 0 |" in (
        faults.table(record)
    )


def test_what_an_earlier_call_has_tried_stays_tried(
    campaign: Campaign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same code and settings; a line that was cut as it was written is tried anew."""
    monkeypatch.setattr(kept_rows, "code", lambda: "a")
    first = faults.describe(["cut", "flip"], campaign, 3, 2, Clock(), tmp_path)
    monkeypatch.setattr(faults, "tried", lambda *_: pytest.fail("tried anew"))
    again = faults.describe(["cut", "flip"], campaign, 3, 2, Clock(), tmp_path)
    assert again.details == first.details
    with pytest.raises(pytest.fail.Exception):
        faults.describe(["cut"], campaign, 4, 2, Clock(), tmp_path)
    path = tmp_path / "faults.rows.jsonl"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(pytest.fail.Exception):
        faults.describe(["cut", "flip"], campaign, 3, 2, Clock(), tmp_path)
    monkeypatch.setattr(kept_rows, "code", lambda: None)
    with pytest.raises(pytest.fail.Exception):
        faults.describe(["cut"], campaign, 3, 2, Clock(), tmp_path)


def test_a_call_that_ends_between_two_tries_keeps_the_first(
    campaign: Campaign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Try] = []

    def once(_campaign: Campaign, chance: Random) -> Try:
        if len(made) == 1:
            raise KeyboardInterrupt
        made.append(Try(f"at {chance.random()}", ("unclear",), lost=1))
        return made[-1]

    monkeypatch.setattr(kept_rows, "code", lambda: "a")
    monkeypatch.setitem(faults.FAULTS, "odd", faults.Fault("an odd one", 2, once))
    with pytest.raises(KeyboardInterrupt):
        faults.describe(["odd"], campaign, 3, None, Clock(), tmp_path)
    made.append(Try("another"))
    (row,) = faults.describe(["odd"], campaign, 3, None, Clock(), tmp_path).details
    assert (row["tried"], row["lost"]) == (2, 2)
    assert row["tries"][0]["note"] == made[0].note != row["tries"][1]["note"]


def test_a_clock_is_set_back_for_who_loads_the_library(campaign: Campaign, tmp_path: Path) -> None:
    try:
        library = campaign.clock
    except UntriedError as reason:
        pytest.skip(f"{reason}: apt-get install gcc")
    (tmp_path / "clock").write_bytes((-1000).to_bytes(8, sys.byteorder, signed=True))
    script = "import time, datetime; print(time.time(), datetime.datetime.now().timestamp())"
    variables = {"LD_PRELOAD": str(library), "SSA_CAMPAIGN_CLOCK": str(tmp_path / "clock")}
    said = subprocess.run(
        [sys.executable, "-c", script],
        env=environment() | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    for stamp in map(float, said.stdout.split()):
        assert -1100 < stamp - time.time() < -900


@requires_tmpfs
@pytest.mark.parametrize("small_disk", ["64k"], indirect=True)
def test_a_disk_is_filled_but_for_some_pages(small_disk: Path) -> None:
    fill(small_disk, 8192)
    free = os.statvfs(small_disk)
    assert free.f_bavail * free.f_frsize == 8192


@requires_tmpfs
def test_the_disk_that_the_campaign_fills_is_a_small_one(campaign: Campaign) -> None:
    try:
        with disturbed.small_disk(campaign, "64k") as disk:
            room = os.statvfs(disk)
            assert room.f_blocks * room.f_frsize == 64 << 10
    except UntriedError as reason:
        pytest.skip(f"{reason} (in a container: docker run --privileged)")
    assert not os.path.ismount(disk)


INTERRUPTED = """
import os, signal, sys, threading, time
from experiments.cli.app import main
before = signal.getsignal(signal.SIGTERM)
def ask():
    while signal.getsignal(signal.SIGTERM) == before:
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=ask).start()
sys.argv[1:] = ["plan", "all", "--results", sys.argv[1]]
main()
"""


def test_sigterm_is_answered_before_anything_trains(tmp_path: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", INTERRUPTED, str(tmp_path)],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 130, said
    assert "Interrupted; the same command goes on where it stopped." in said.stderr
    assert "Traceback" not in said.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_what_asks_a_finished_command_to_end_changes_nothing(number: int) -> None:
    """While Python tears down, which takes a while where torch was imported."""
    code = (
        "import atexit, os, sys; from experiments.cli.app import main; "
        f"atexit.register(os.kill, os.getpid(), {int(number)}); sys.argv = ['x', 'list']; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


# --- fuzz -----------------------------------------------------------------------------------------


def made_reader(name: str) -> fuzz.Reader:
    """One that trips over the letter a, ends its process, or never returns."""

    def whole(folder: Path) -> bytes:
        (folder / "read").write_bytes(b"")
        return b"bcda"

    def given(folder: Path) -> object:
        content = (folder / "file").read_bytes()
        if content == b"bcda" or name == "well":
            return content
        if name == "trips" and b"a" in content:
            raise KeyError("a")
        if name == "ends":
            os.kill(os.getpid(), signal.SIGKILL)
        if name == "endless":
            time.sleep(600)
        raise ValueError("no such file")

    return fuzz.Reader(name, "file", whole, given, own=(ValueError,))


def test_every_input_is_counted_and_what_ends_otherwise_can_be_read_again(tmp_path: Path) -> None:
    reader = made_reader("trips")
    tried = fuzz.fuzz(reader, tmp_path, 130)
    row = tried.row()
    assert row["tried"] == 130 == row["value"] + row["own_error"] + row["other"]
    assert row["own_errors"] == {"ValueError": row["own_error"]}
    other = tried.others[0]
    assert other.error == "KeyError: 'a'"
    with pytest.raises(KeyError):
        fuzz.Damage(reader, tmp_path).outcome(other.kind, other.number)


def test_equal_seeds_give_equal_inputs(tmp_path: Path) -> None:
    others = [fuzz.fuzz(made_reader("trips"), tmp_path, 130, seed=s).others for s in (0, 0, 1)]
    assert others[0] == others[1] != others[2]


def test_a_reader_that_ends_its_process_or_never_returns_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (other,) = fuzz.fuzz_apart(made_reader("ends"), 50, 60.0, 0).others
    assert other.error == "ended with code -9"
    monkeypatch.setattr(fuzz, "PATIENCE_S", 0.05)
    endless = fuzz.fuzz(made_reader("endless"), tmp_path, 3)
    assert {other.error for other in endless.others} == {"Endless: no end within 0.05 s"}


def test_the_time_of_a_reader_is_bounded(tmp_path: Path) -> None:
    assert fuzz.fuzz(made_reader("well"), tmp_path, 50, seconds=0.0).inputs == 0


def test_the_command_writes_the_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--inputs", "60", "--reader", "progress", "--reader", "failure"]
    with pytest.raises(SystemExit) as ended:
        fuzz.main([*words, "--out", str(tmp_path)])
    assert ended.value.code == 0
    record = read(tmp_path / "fuzz.json")
    assert [(row["reader"], row["tried"], row["other"]) for row in record.details] == [
        ("progress", 60, 0),
        ("failure", 60, 0),
    ]
    assert fuzz.table(record) in capsys.readouterr().out


def test_the_folder_that_a_call_names_is_where_the_record_goes(tmp_path: Path) -> None:
    words = ["bench", "fuzz", "--inputs", "1", "--reader", "progress", "--out", str(tmp_path / "a")]
    said = finished(module_command("experiments", *words, "--results", str(tmp_path / "b")))
    assert said.returncode == 0, said.stderr
    assert (tmp_path / "a" / "fuzz.json").exists()
    assert not (tmp_path / "b").exists()
