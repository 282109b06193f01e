"""Scores of unlike things are not set against each other: no gain, no claim, and why."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lab import write_registry
from rich.console import Console
from samples import make_areas, make_record, make_spec, make_training, put

from experiments.ask.difference import difference, show_difference
from experiments.declare.load import load_registry
from experiments.declare.run_spec import RunSpec
from experiments.declare.training import Evaluation
from experiments.judge.assemble import TableResult, assemble
from experiments.judge.comparability import comparable
from experiments.judge.ranking import marks
from experiments.plan.plan import make_plan
from experiments.plan.resolve import Resolver
from experiments.show.console import show_table
from experiments.show.export import export
from experiments.store.areas import ImageAreas
from experiments.store.records import Record
from experiments.store.store import Store
from experiments.store.workspace import Workspace

#: rows on made images of other seeds; no ``gain_over``, so the first row is every one's baseline
UNLIKE = """
name: unlike
title: Rows on two data sets
source: nowhere
model: segnext_t
dataset: scenes
rows:
  - {id: baseline, label: Baseline, classifier: {name: softmax}}
  - {id: full, label: SSA-Seg, classifier: {name: ssa}}
  - {id: other, label: Baseline elsewhere, classifier: {name: softmax}, dataset_settings: {seed: 7}}
  - {id: moved, label: SSA-Seg elsewhere, classifier: {name: ssa}, dataset_settings: {seed: 7}}
claims:
  - {id: all, kind: gain, text: everything helps, where: here}
  - {id: best, kind: best, text: it is best, where: here, row: full}
  - {id: within, kind: within, text: all alike, where: here, row: full, points: 5}
  - {id: reach, kind: reach, text: early, where: here, row: moved, over: baseline, within: 0.5}
  - id: share
    kind: share
    text: half of it
    where: here
    part: [moved, other]
    whole: [full, baseline]
    at_least: 0.5
"""


def record(areas: ImageAreas | None = None, **changes: Any) -> Record:
    return make_record(make_spec(**changes), areas or make_areas(0))


PLAIN = Evaluation(interval=20, crop=(32, 32), stride=(16, 16))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"dataset_digest": "e" * 64}, r"other images \(scenes dddddddd and scenes eeeeeeee\)"),
        ({"dataset_settings": {"train": 4}}, r"read otherwise \(train: 3 and 4\)"),
        ({"working_size": (60, 40)}, r"working size \(none and 60×40\)"),
        ({"evaluation": PLAIN.model_copy(update={"split": "test"})}, "split: val and test"),
        ({"evaluation": PLAIN.model_copy(update={"scale": (64, 48)})}, "scale: None and"),
        ({"evaluation": PLAIN.model_copy(update={"mode": "slide"})}, "mode: whole and slide"),
        ({"evaluation": PLAIN.model_copy(update={"crop": (16, 16)})}, "crop: "),
        ({"evaluation": PLAIN.model_copy(update={"multiple_of": 32})}, "multiple_of: "),
        ({"profile": "quick"}, "profiles smoke and quick"),
        ({"training": make_training(iterations=80)}, "protocol .iterations: 40 and 80"),
        ({"training": make_training(train_split="trainval")}, "on another split"),
        ({"weights": "mit_b5", "weights_sha256": "a" * 64}, "other pretrained weights"),
    ],
)
def test_unlike_runs_are_not_comparable(changes: dict[str, Any], reason: str) -> None:
    first, second = record(), record(**changes)
    for pair in ((first, second), (second, first)):
        why = comparable(*pair)
        assert why is not None
    why = comparable(first, second)
    assert why is not None
    assert re.search(reason, why)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"seed": 1},
        {"classifier": {"name": "ssa", "overrides": {}}},
        {"training": make_training(accumulation=1, amp=True)},
        {"evaluation": PLAIN.model_copy(update={"interval": 5, "batch": 3})},
        {"model": "segformer_b5", "training": make_training(iterations=80)},
    ],
)
def test_like_runs_are(changes: dict[str, Any]) -> None:
    assert comparable(record(), record(**changes)) is None


def test_other_images_under_one_digest_are_noticed() -> None:
    areas = make_areas(0)
    first, second = record(areas), record(areas, seed=1)
    names = {first.run_id: ("a", "b"), second.run_id: ("a", "c")}
    assert comparable(first, second, names.__getitem__) is not None
    assert comparable(first, record(make_areas(0, images=7))) == "6 and 7 images were scored"


@pytest.fixture
def resolver(tmp_path: Path) -> Resolver:
    folder = write_registry(tmp_path / "registry")
    (folder / "tables" / "unlike.yaml").write_text(UNLIKE)
    registry = load_registry([folder])
    workspace = Workspace(results=tmp_path / "results", data_root=tmp_path / "no data")
    return Resolver(registry, registry.profile("smoke"), workspace)


def judged(resolver: Resolver, store: Store) -> TableResult:
    """The table with every row trained; the images elsewhere are as many, or more."""
    table = resolver.registry.table("unlike")
    for row in table.rows:
        spec = resolver.resolve(table, row, 0)
        assert isinstance(spec, RunSpec)
        skill = 0.7 if "SSA" in row.label else 0.6
        put(store, spec, make_areas(0, images=12 if row.dataset_settings else 8, skill=skill))
    (planned,) = make_plan([table], resolver, [0], store).tables
    return assemble(planned, store, None)


def test_rows_on_two_data_sets_have_no_gain_over_each_other(
    resolver: Resolver, tmp_path: Path
) -> None:
    result = judged(resolver, Store(tmp_path / "results"))
    baseline, full, other, moved = result.rows
    assert baseline.incomparable is None
    assert full.gain is not None
    assert full.incomparable is None
    for row in (other, moved):
        assert row.miou is not None
        assert row.gain is None
        assert row.incomparable is not None
        assert row.incomparable.startswith("other images (scenes ")
        assert "seed: 0 and 7" in row.incomparable or "seed: 7 and 0" in row.incomparable
    assert marks(result) == {"full": "best"}
    words = {claim.claim.id: (claim.word, claim.value, claim.reason) for claim in result.claims}
    for name, (word, value, reason) in words.items():
        assert (name, word, value) == (name, "undecided", None)
        assert "cannot be compared: other images" in reason


def test_every_export_says_why_there_is_no_gain(resolver: Resolver, tmp_path: Path) -> None:
    result = judged(resolver, Store(tmp_path / "results"))
    paths = {path.suffix: path for path in export(result, tmp_path / "tables", "paper")}
    console = Console(width=400, record=True, file=(tmp_path / "console").open("w"))
    show_table(console, result)
    texts = [paths[".md"].read_text(), paths[".tex"].read_text(), console.export_text()]
    texts += [path.read_text() for path in paths.values() if "style" in path.name]
    for text in texts:
        assert "No gain over baseline, no rank: other images (scenes" in text
    rows = json.loads(paths[".json"].read_text())["rows"]
    assert [row["gain_points"] is None for row in rows] == [True, False, True, True]
    assert [row.get("no_gain", "")[:12] for row in rows] == ["", "", "other images", "other images"]
    assert np.isfinite(rows[1]["gain_p_value"])


def test_two_folders_whose_runs_saw_other_images_are_told_apart(tmp_path: Path) -> None:
    spec, stores = make_spec(), [Store(tmp_path / name) for name in "ab"]
    areas = make_areas(0)
    renamed = ImageAreas(
        tuple(f"x{name}" for name in areas.names),
        *(areas.intersection, areas.predicted, areas.labelled),
    )
    for store, own in zip(stores, (areas, renamed)):
        document = make_record(spec, own).model_copy(
            update={"result_digest": str(store.root)[-1] * 64}
        )
        store.write_record(document, own.to_bytes())
    found = difference(*(store.root for store in stores))
    (run,) = found.different
    assert run.incomparable == "the images that were scored have other names"
    console = Console(width=300, record=True, file=(tmp_path / "console").open("w"))
    show_difference(console, found, *(store.root for store in stores))
    assert "cannot be compared, the images that were scored have other names" in (
        console.export_text()
    )
