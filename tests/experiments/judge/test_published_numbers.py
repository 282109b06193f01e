"""The registry holds every number of the paper (paper_tables.json), unaltered, no other."""

from __future__ import annotations

import json
from typing import Any

import pytest
from references import PAPER_TABLES

from experiments.declare.load import load_registry
from experiments.declare.table import Reported, Row, Table
from experiments.plan.resolve import resolve_classifier

NAMES = {"miou": "mIoU", "params_m": "params_M", "macs_g": "flops_G", "latency_ms": "latency_ms"}
DATASETS = {
    "ade20k": "ADE20K",
    "coco_stuff10k": "COCO-Stuff-10K",
    "pascal_context": "PASCAL-Context",
}
ROWS = 142


def published() -> dict[str, list[dict[str, Any]]]:
    tables = json.loads(PAPER_TABLES.read_text())["tables"]
    return {name.replace("_", ""): table["rows"] for name, table in tables.items()}


def declared() -> dict[str, Table]:
    return {name: table for name, table in load_registry().tables.items() if "table" in name}


def test_every_row_is_declared_once_in_the_papers_order() -> None:
    ours = {
        name: [(row.label, DATASETS[str(row.dataset or table.dataset)]) for row in table.rows]
        for name, table in declared().items()
    }
    theirs = {
        name: [(row["label"], row["dataset"]) for row in rows] for name, rows in published().items()
    }
    assert ours == theirs
    assert sum(map(len, ours.values())) == ROWS


def numbers(reported: Reported) -> dict[str, float]:
    return {NAMES[k]: v for k, v in reported.model_dump(exclude={"gain"}).items() if v is not None}


@pytest.mark.parametrize("name", [f"table{number}" for number in range(1, 14)])
def test_no_number_is_missing_or_altered(name: str) -> None:
    rows: list[Row] = list(declared()[name].rows)
    for row, paper in zip(rows, published()[name], strict=True):
        printed = {k: v for k, v in paper["metrics"].items() if v is not None}
        assert numbers(row.reported) == printed, row.id
        assert row.reported.gain == paper.get("delta_printed"), row.id
        other = {
            key: value
            for key, value in (paper.get("readme_metrics") or {}).items()
            if value is not None and value != printed.get(key)
        }
        assert (numbers(row.readme) if row.readme else {}) == other, row.id


@pytest.mark.parametrize("name", [f"table{number}" for number in range(1, 14)])
def test_every_rows_switches_are_valid(name: str) -> None:
    for row in declared()[name].rows:
        assert resolve_classifier(row)["name"] == row.classifier.name


def test_table_13_switches_the_printed_weights() -> None:
    for row, paper in zip(declared()["table13"].rows, published()["table13"], strict=True):
        switches = resolve_classifier(row)["overrides"]
        for ours, theirs in (("response", "r"), ("semantic", "s"), ("spatial", "p")):
            assert switches[f"lambda_{ours}"] == paper[f"lambda_{theirs}"]


@pytest.mark.parametrize(("row_id", "switches"), [("edge3", 3), ("edge4", 4), ("edge5", 5)])
def test_table_11_switches_the_edge(row_id: str, switches: int) -> None:
    row = declared()["table11"].row(row_id)
    assert row.label == str(switches)
    assert resolve_classifier(row)["overrides"]["edge_size"] == switches
