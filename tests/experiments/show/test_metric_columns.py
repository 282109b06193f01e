"""A metric is declared once and then stands in every form of a table that names it."""

from __future__ import annotations

import csv
import io
import json

import pytest
from rich.console import Console
from samples import make_areas, make_record

from experiments.ask.why import why
from experiments.cli.completion import metrics as proposed
from experiments.declare.metrics import METRICS
from experiments.judge.assemble import TableResult
from experiments.judge.tables import assembled
from experiments.plan.request import Request, stored_request
from experiments.show.console import show_table
from experiments.show.export import (
    to_csv,
    to_frame,
    to_json,
    to_latex,
    to_markdown,
    to_paper_latex,
)

TABLE = """
name: timed
title: What a training step costs
source: nowhere
model: segnext_t
dataset: ade20k
columns: [miou, train_ms]
rows:
  - {id: baseline, label: Baseline, classifier: {name: softmax}, reported: {miou: 40.0}}
  - {id: full, label: SSA-Seg, classifier: {name: ssa}}
"""
STEP_MS = {0: 81.25, 1: 90.5, 2: 84.04}  # seed → ms; their median is 84.04


@pytest.fixture(scope="module")
def request_(tmp_path_factory: pytest.TempPathFactory) -> Request:
    """Three records of the baseline, none of the other row."""
    folder = tmp_path_factory.mktemp("timed")
    (folder / "registry" / "tables").mkdir(parents=True)
    (folder / "registry" / "tables" / "timed.yaml").write_text(TABLE)
    request = stored_request("smoke", [0, 1, 2], folder / "results", registry=[folder / "registry"])
    (planned,) = request.plan([request.registry.table("timed")]).tables
    for seed, cell in zip(STEP_MS, planned.rows[0].cells, strict=True):
        assert cell.spec is not None
        areas = make_areas(seed)
        record = make_record(cell.spec, areas)
        timings = record.timings.model_copy(update={"iteration_ms": STEP_MS[seed]})
        request.store.write_spec(cell.spec)
        request.store.write_record(record.model_copy(update={"timings": timings}), areas.to_bytes())
    return request


@pytest.fixture(scope="module")
def timed(request_: Request) -> TableResult:
    (result,) = assembled(request_, request_.plan([request_.registry.table("timed")]))
    return result


def test_the_console_prints_it(timed: TableResult) -> None:
    console = Console(width=200, file=io.StringIO())
    show_table(console, timed)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "Step, ms" in text
    (line,) = (line for line in text.splitlines() if "Baseline" in line)
    assert " 84.0 " in line


def test_csv_and_frame_hold_the_raw_number(timed: TableResult) -> None:
    baseline, full = csv.DictReader(io.StringIO(to_csv(timed)))
    assert float(baseline["train_ms"]) == 84.04
    assert full["train_ms"] == ""
    assert to_frame(timed)["train_ms"][0] == 84.04


def test_json_holds_the_raw_number(timed: TableResult) -> None:
    baseline, full = json.loads(to_json(timed))["rows"]
    assert baseline["train_ms"] == 84.04
    assert full["train_ms"] is None


def test_markdown_and_latex_print_it(timed: TableResult) -> None:
    markdown = to_markdown(timed).splitlines()
    assert "| Method | Step, ms | mIoU" in markdown[2]
    assert markdown[4].startswith("| Baseline | 84.0 | ")
    latex = to_latex(timed)
    assert "Method & Step, ms & mIoU" in latex
    assert "Baseline & 84.0 & " in latex
    assert "Step (ms)" in to_paper_latex(timed)


def test_why_leads_to_the_runs(request_: Request) -> None:
    origin = why(request_, "timed", "baseline", "train_ms")
    assert (origin.low, origin.measured, origin.high) == (81.25, 84.04, 90.5)
    assert [run.seed for run in origin.runs] == [0, 1, 2]
    assert origin.unit == "milliseconds of one training step, data included"
    assert origin.verdict.word == "not reported"
    assert origin.reported is None


def test_only_tables_that_name_it_export_it(request_: Request) -> None:
    table = request_.registry.table("timed").model_copy(update={"columns": ("miou",)})
    (result,) = assembled(request_, request_.plan([table]))
    assert "train_ms" not in to_csv(result)
    assert "train_ms" not in to_json(result)


def test_tab_proposes_every_metric() -> None:
    assert proposed("") == list(METRICS)
    assert proposed("tr") == ["train_ms"]
    assert proposed("m") == ["miou", "macs_g", "macs_all_g", "miou_frequent"]
