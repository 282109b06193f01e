"""The second mean of a long-tailed data set: over its frequent classes, by hand."""

from __future__ import annotations

import csv
import dataclasses
import io
import json

import numpy as np
import pytest
from samples import make_areas, make_record, make_spec

from experiments.declare.metrics import METRICS, value_at
from experiments.judge.assemble import TableResult
from experiments.judge.counts import count_cells
from experiments.judge.tables import assembled
from experiments.plan.request import stored_request
from experiments.show.export import to_csv, to_json, to_latex, to_markdown
from experiments.store.areas import ImageAreas, per_class_iou, scores
from experiments.store.records import Record
from ssa.datasets import CCP
from ssa.datasets.frequent import FREQUENT, frequent_mean

TABLE = """
name: tail
title: A long tail
source: nowhere
model: segnext_t
dataset: ade20k
columns: [miou]
rows:
  - {id: baseline, label: Baseline, classifier: {name: softmax}}
  - {id: full, label: SSA-Seg, classifier: {name: ssa}}
"""
RARE = [name for name in CCP.class_names if name not in FREQUENT["ccp"]]


def areas_of(num_classes: int, absent: int) -> ImageAreas:
    """One image in which each class but the last ``absent`` has 1 of 2 pixels right; class 0 all.

    The prediction of what is wrong is left unlabelled, so that it counts for no other class.
    """
    labelled = np.zeros((1, num_classes), np.int64)
    labelled[0, : num_classes - absent] = 2
    right = labelled // 2
    right[0, 0] = 2
    return ImageAreas(("one",), right, right.copy(), labelled)


def test_classes_that_never_occur_are_left_out_of_the_mean() -> None:
    areas = areas_of(59, absent=4)
    # 54 classes at 50 %, one at 100 %, four that have no number
    assert scores(areas).miou == pytest.approx((54 * 50 + 100) / 55)
    assert scores(areas).miou != pytest.approx((54 * 50 + 100) / 59)
    assert np.isnan(per_class_iou(areas)).sum() == 4


def test_a_class_that_is_only_predicted_counts_as_nought() -> None:
    areas = areas_of(59, absent=4)
    areas.predicted[0, 58] = 3
    assert scores(areas).miou == pytest.approx((54 * 50 + 100) / 56)


def ccp_record(values: dict[str, float | None]) -> Record:
    """A record on ccp with 10 % for every class that is not named."""
    record = make_record(make_spec(dataset="ccp"), make_areas(0))
    scored = tuple(values.get(name, 10.0) for name in CCP.class_names)
    changes = {"class_names": CCP.class_names, "per_class_iou": scored}
    return record.model_copy(update=changes)


def test_only_frequent_classes_that_have_a_number_are_in_the_mean() -> None:
    assert len(RARE) == 17
    first, second, *rest = FREQUENT["ccp"]
    values: dict[str, float | None] = dict.fromkeys(rest, 30.0)
    values |= {first: 70.0, second: None}
    # 40 at 30 %, one at 70 %, one without a number; 17 rare ones at 10 % have no say
    record = ccp_record(values)
    assert record.miou_frequent == pytest.approx((40 * 30 + 70) / 41)
    assert value_at(record, METRICS["miou_frequent"].field) == record.miou_frequent


def test_a_data_set_without_a_long_tail_has_no_such_mean() -> None:
    assert make_record(make_spec(), make_areas(0)).miou_frequent is None
    assert frequent_mean("ccp", RARE, [1.0] * len(RARE)) is None


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> tuple[TableResult, TableResult]:
    """A table of records on scenes, and the same with the numbers of records on ccp."""
    folder = tmp_path_factory.mktemp("tail")
    (folder / "registry" / "tables").mkdir(parents=True)
    (folder / "registry" / "tables" / "tail.yaml").write_text(TABLE)
    request = stored_request("smoke", [0], folder / "results", registry=[folder / "registry"])
    (plain,) = assembled(request, request.plan([request.registry.table("tail")]))
    record = ccp_record(dict.fromkeys(FREQUENT["ccp"], 20.0))
    first, *others = plain.rows
    cells = count_cells(first.row, None, [record])
    ours = dataclasses.replace(plain, rows=(dataclasses.replace(first, counts=cells), *others))
    return plain, ours


def test_the_column_is_there_where_a_run_has_it(results: tuple[TableResult, TableResult]) -> None:
    plain, ours = results
    assert plain.columns == ("miou",)
    assert ours.columns == ("miou", "miou_frequent")
    for write in (to_csv, to_json, to_markdown, to_latex):
        assert "requent" not in write(plain)
    baseline, full = csv.DictReader(io.StringIO(to_csv(ours)))
    assert float(baseline["miou_frequent"]) == 20.0
    assert full["miou_frequent"] == ""
    assert json.loads(to_json(ours))["rows"][0]["miou_frequent"] == 20.0
    assert "| Method | Frequent mIoU, % | mIoU" in to_markdown(ours)
    assert "| Baseline[1] | 20.00 | " in to_markdown(ours)  # [1]: it has not been trained
    assert "Method & Frequent mIoU, \\% & mIoU" in to_latex(ours)
