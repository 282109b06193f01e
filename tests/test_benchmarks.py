"""Benchmarks write one format, are compared fairly, and make their page."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.compare import main as compare
from benchmarks.compare import pairs
from benchmarks.networks import MMSEGMENTATION, SOFTMAX, SSA, figures, measure, variants
from benchmarks.page import NOTES, PAGE, RECORDS, page
from benchmarks.record import Benchmark, Clock, Figure, Machine, read, read_all
from experiments.declare.load import load_registry
from experiments.machine import PROJECT, module_command


def record(device: str = "a processor", **values: float) -> Benchmark:
    """A record with a ratio and seconds of its own."""
    machine = Machine(
        when="2026-01-01T00:00:00+00:00",
        device=device,
        processors=2,
        python="3.11",
        torch="2.13.0",
        git_commit="a" * 40,
        git_dirty=False,
        load=(0.1, 0.2),
    )
    ratio = Figure(name="step", value=values["ratio"], unit="×", beside="plain", goal=0.5)
    seconds = Figure(name="step", value=values["seconds"], unit="s")
    return Benchmark(
        benchmark="made",
        title="A made record",
        command="./run_all.sh bench made",
        setting={},
        machine=machine,
        figures=(ratio, seconds),
    )


@pytest.mark.parametrize(
    ("better", "value", "met"),
    [("lower", 1.0, True), ("lower", 1.1, False), ("higher", 1.0, True), ("higher", 0.9, False)],
)
def test_a_goal_is_met_or_missed(better: Any, value: float, met: bool) -> None:
    assert Figure(name="a", value=value, unit="×", better=better, goal=1.0).met is met
    assert Figure(name="a", value=value, unit="×", better=better).met is None


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = record(ratio=0.4, seconds=3.0)
    path = written.write(tmp_path / "new")
    assert read(path) == written
    assert read_all(path.parent) == {"made": written}


@pytest.mark.parametrize("content", ["", "[]", '{"benchmark": "made"}', '{"figure": 1}'])
def test_another_form_is_refused_with_the_next_command(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(ValueError, match=r"x\.json is not a benchmark's record .* bench NAME"):
        read_all(tmp_path)


def test_seconds_of_two_machines_are_not_compared() -> None:
    before = {"made": record(ratio=0.4, seconds=2.0)}
    same = list(pairs(before, {"made": record(ratio=0.6, seconds=3.0)}))
    assert [pair.change for pair in same] == pytest.approx([1.5, 1.5])
    assert [pair.lost for pair in same] == [True, False]
    other = list(pairs(before, {"made": record("another", ratio=0.4, seconds=3.0)}))
    assert [pair.change for pair in other] == [pytest.approx(1.0), None]
    assert list(pairs(before, {})) == []


def test_compare_says_which_goal_is_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record(ratio=0.4, seconds=2.0).write(tmp_path / "a")
    record(ratio=0.6, seconds=2.0).write(tmp_path / "b")
    with pytest.raises(SystemExit) as ended:
        compare([str(tmp_path / "a"), str(tmp_path / "b")])
    assert ended.value.code == 1
    assert "made: step, beside plain misses its goal of 0.5 now." in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        compare([str(tmp_path / "a"), str(tmp_path / "a" / "made.json")])
    assert ended.value.code == 0
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit, match="no figure in common"):
        compare([str(tmp_path / "a"), str(tmp_path / "empty")])


def test_the_page_is_what_the_shipped_records_say() -> None:
    """After a change of records: ./run_all.sh bench page."""
    records = read_all(RECORDS)
    assert records
    notes = NOTES.read_text(encoding="utf-8") if NOTES.exists() else ""
    assert PAGE.read_text(encoding="utf-8") == page(records, notes)


def test_the_page_tells_goals_quartiles_and_floors() -> None:
    made = record(ratio=0.6, seconds=2.0)
    floor = Figure.of("inference", [4.0, 5.0, 6.0], "×", floor=4.0, floor_reason="four products")
    text = page({"made": made.model_copy(update={"figures": (*made.figures, floor)})}, "A note.")
    assert "| step | plain | 0.6 × | — | at most 0.5: **missed** | — |" in text
    assert "| inference | — | 5 × | 4 to 6 | — | 4 |" in text
    assert "Floor of inference: four products." in text
    assert text.endswith("A note.\n")


def test_networks_are_compared_with_equal_trunks() -> None:
    card = load_registry().model("seaformer_l").model_dump()
    networks = variants(card, "tiny", 7)
    assert list(networks) == [SSA, SOFTMAX, MMSEGMENTATION]
    states = [network.backbone.state_dict() for network in networks.values()]  # type: ignore[union-attr]
    for state in states[1:]:
        assert all(torch.equal(state[name], value) for name, value in states[0].items())
    seconds = measure(card, rounds=2, size=64, batch=2, model_size="tiny", num_classes=7)
    found = list(figures("seaformer_l", seconds))
    assert [figure.unit for figure in found] == ["×", "×", "ms", "ms", "ms"]
    assert found[0].goal == 1.1


@pytest.mark.slow
def test_a_table_is_timed_beside_an_older_commit(tmp_path: Path) -> None:
    """On the commit that is checked out, so both sides make the same numbers."""
    if subprocess.run(["git", "-C", PROJECT, "rev-parse", "HEAD"], capture_output=True).returncode:
        pytest.skip("no git checkout; clone the project with git")
    words = ["--before", "HEAD", "--profile", "smoke", "--seeds", "1", "--item", "table12"]
    done = subprocess.run(
        [*module_command("benchmarks.table", *words), "--out", str(tmp_path)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
    )
    assert "Traceback" not in done.stderr, done.stdout + done.stderr
    made = read(tmp_path / "table_table12_smoke.json")
    speed = made.figures[0]
    assert speed.unit == "×"
    assert speed.goal == 1.4
    # a disturbed machine may time a commit 1.4 times as fast as itself: the word fits the figure
    assert speed.met is (speed.value >= speed.goal)
    assert done.returncode == (0 if speed.met else 1)
    miou = made.details["miou"]
    assert miou["here"] == miou["commit HEAD"] != {}


def test_a_commit_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    done = subprocess.run(
        [*module_command("benchmarks.table", "--before", "no-such"), "--out", str(tmp_path)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "Error: cannot check out no-such" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_clock_names_the_machine() -> None:
    machine = Clock("a card").machine()
    assert machine.device == "a card"
    assert machine.torch == torch.__version__
    assert machine.python == sys.version.split()[0]
    assert json.loads(machine.model_dump_json())["load"][0] >= 0
