"""Stored results as pandas tables."""

from __future__ import annotations

import doctest
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from lab import PROJECT, Lab, environment
from samples import make_areas, make_spec, put

import experiments
from experiments.ask.frames import DamagedRecordWarning
from experiments.store.store import Store


def test_a_table_is_what_its_export_says(trained: Lab) -> None:
    frame = experiments.load_table(
        "pair", profile="smoke", results=trained.results, registry=[trained.registry]
    )
    written = pd.read_csv(trained.results / "tables" / "pair-smoke.csv")
    assert list(frame.columns) == list(written.columns)
    assert list(frame.row) == ["baseline", "full"]
    assert frame.miou_percent.tolist() == written.miou_percent.tolist()
    assert frame.loc[1, "gain_points"] == pytest.approx(written.loc[1, "gain_points"])
    assert frame.loc[0, "reported_miou_percent"] == 40.0


def test_types_do_not_depend_on_what_there_is(trained: Lab, tmp_path: Path) -> None:
    full = experiments.load_table(
        "pair", profile="smoke", results=trained.results, registry=[trained.registry]
    )
    none = trained.blank(tmp_path / "results")
    empty = experiments.load_table(
        "pair", profile="smoke", results=none.results, registry=[trained.registry]
    )
    assert empty.dtypes.to_dict() == full.dtypes.to_dict()
    assert empty.miou_percent.isna().all()
    assert empty.seeds.tolist() == [0, 0]
    assert full.seeds.dtype == "int64"
    assert full.miou_percent.dtype == full.macs_g.dtype == "float64"


def test_a_run_is_a_line_with_what_was_run_and_what_it_gave(trained: Lab) -> None:
    frame = experiments.load_runs(trained.results).set_index("run_id")
    assert len(frame) == 2
    record = trained.record("ssa")
    line = frame.loc[record.run_id]
    assert line.miou_percent == record.scores.miou
    assert line.total_s == record.timings.total_s
    assert line.git_commit == record.environment.git_commit
    assert line["classifier"] == "ssa"
    assert line["training.optimizer.lr"] == record.spec.training.optimizer.lr
    assert line["classifier.overrides.edge_size"] == 4
    assert line.finished == pd.Timestamp(record.finished)
    assert not line.stale
    assert pd.isna(frame.loc[trained.record("softmax").run_id, "classifier.overrides.edge_size"])


def test_a_point_of_a_curve_is_a_line(trained: Lab) -> None:
    frame = experiments.load_curves(trained.results)
    record = trained.record("ssa")
    mine = frame[frame.run_id == record.run_id]
    assert mine.iteration.tolist() == [point.iteration for point in record.curve]
    assert mine.miou_percent.tolist() == [point.scores.miou for point in record.curve]
    assert mine["loss.total"].tolist() == [point.losses["total"] for point in record.curve]


def test_a_damaged_record_is_named_and_left_out(tmp_path: Path) -> None:
    store = Store(tmp_path)
    whole, spoilt = make_spec(seed=0), make_spec(seed=1)
    for spec in (whole, spoilt):
        put(store, spec, make_areas(0))
    store.folder(spoilt.run_id).record.write_text("{")
    with pytest.warns(DamagedRecordWarning, match=spoilt.run_id):
        frame = experiments.load_runs(tmp_path)
    assert frame.run_id.tolist() == [whole.run_id]


def test_an_empty_folder_gives_an_empty_table(tmp_path: Path) -> None:
    assert experiments.load_runs(tmp_path).empty
    assert experiments.load_curves(tmp_path).empty


def test_the_page_about_it_is_true(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    page = PROJECT / "docs" / "pandas.md"
    failed, tried = doctest.testfile(str(page), module_relative=False)
    assert (failed, tried > 5) == (0, True)


def test_importing_the_package_does_nothing() -> None:
    code = "import sys, experiments; print([m for m in ('pandas', 'torch', 'numpy', 'pydantic') "
    code += "if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=PROJECT,
        env=environment(),
    )
    assert done.stdout.strip() == "[]"
