"""Rows at their own best rate: chosen on one split, scored on another, with equal budgets."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import yaml
from lab import Lab, assert_clear, finished
from PIL import Image
from samples import make_areas, make_record, make_spec, put

from experiments.ask.coverage import runs_of_rows
from experiments.ask.explain import explain
from experiments.declare.load import load_registry
from experiments.declare.run_spec import RunSpec
from experiments.declare.table import Table
from experiments.errors import RegistryError
from experiments.judge.assemble import assemble
from experiments.judge.comparability import comparable
from experiments.judge.ranking import marks
from experiments.plan.plan import PastCosts, Plan, make_plan
from experiments.plan.request import stored_request
from experiments.plan.resolve import Blocked, Resolver
from experiments.show.console import plan_sentence
from experiments.show.export import export, footnotes
from experiments.store.store import Store
from experiments.store.workspace import Workspace

TABLE = """
name: rates
title: Two classifiers, each at its own rate
source: nowhere
model: segnext_t
dataset: ade20k
rows:
  - {id: soft, label: Softmax, classifier: {name: softmax}, rate_from: [soft-low, soft-high]}
  - {id: ours, label: SSA-Seg, classifier: {name: ssa}, rate_from: [ours-low, ours-high]}
  - {id: fixed, label: Softmax at the profile's rate, classifier: {name: softmax}}
"""
CANDIDATE = """
  - id: {name}-{word}
    label: {name}, {word}
    classifier: {{name: {classifier}}}
    training: {{lr_times: {rate}}}
    split: val
    gain_over: {name}-{word}
"""
CLAIMS = """
claims:
  - {id: better, kind: gain, text: One is better, where: ours, pairs: [[ours, soft]]}
  - {id: unlike, kind: gain, text: One is better, where: ours, pairs: [[ours, fixed]]}
"""
PROFILE = """
name: yard
title: yard
description: A data set of the test's own.
dataset: {name: yard}
model_size: tiny
seeds: 2
run_s: 30
training:
  iterations: 2
  batch: 2
  optimizer: {type: AdamW, lr: 0.01, weight_decay: 0.01, paramwise: {norm_decay_mult: 0.0}}
  schedule: {power: 0.9}
  augmentation: {scale: [64, 64], ratio_range: [1.0, 1.0], crop: [64, 64]}
evaluation: {interval: 2, split: test, batch: 4}
"""
CANDIDATES = [("soft", "softmax"), ("ours", "ssa")]
RATES = {"low": 0.1, "high": 3}


def written(folder: Path, table: str | None = None, profile: str = PROFILE) -> Path:
    """A registry folder with the table and the profile above."""
    rows = [
        CANDIDATE.format(name=name, classifier=classifier, word=word, rate=rate)
        for name, classifier in CANDIDATES
        for word, rate in RATES.items()
    ]
    for kind, text in {
        "tables/rates": table or TABLE.rstrip() + "".join(rows).rstrip() + CLAIMS,
        "profiles/yard": profile,
    }.items():
        path = folder / f"{kind}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data root and a registry."""
    generator = np.random.default_rng(0)
    root = tmp_path / "data" / "yard"
    for split, count in {"train": 4, "val": 2, "test": 3}.items():
        for number in range(count):
            for kind, shape, top, suffix in (
                ("images", (64, 64, 3), 256, "jpg"),
                ("annotations", (64, 64), 4, "png"),
            ):
                place = root / kind / split
                place.mkdir(parents=True, exist_ok=True)
                pixels = generator.integers(0, top, shape).astype(np.uint8)
                Image.fromarray(pixels).save(place / f"{split}{number}.{suffix}")
    names = ["road", "tree", "sky", "bird"]
    (root / "dataset.json").write_text(json.dumps({"class_names": names}))
    written(tmp_path / "registry")
    return tmp_path


def resolver_of(folder: Path) -> tuple[Resolver, Table]:
    registry = load_registry([folder / "registry"])
    workspace = Workspace(results=folder / "results", data_root=folder / "data")
    return Resolver(registry, registry.profile("yard"), workspace), registry.table("rates")


def plan_of(folder: Path, seeds: tuple[int, ...] = (0, 1)) -> Plan:
    resolver, table = resolver_of(folder)
    store = Store(folder / "results")
    return make_plan([table], resolver, seeds, store, PastCosts([store], {"yard": 30.0}))


def specs(plan: Plan, row: str) -> list[RunSpec]:
    return [cell.run.spec for cell in plan.cells if cell.row == row and cell.run]


def make(folder: Path, row: str, seed: int, skill: float) -> None:
    """A finished run of a row."""
    (spec,) = (spec for spec in specs(plan_of(folder), row) if spec.seed == seed)
    put(Store(folder / "results"), spec, make_areas(seed, images=8, skill=skill))


def chosen(folder: Path) -> None:
    """Finished runs of all candidates: softmax is best at the low rate, ours at the high one."""
    for name, best in {"soft": "low", "ours": "high"}.items():
        for word in RATES:
            for seed in (0, 1):
                make(folder, f"{name}-{word}", seed, 0.8 if word == best else 0.6)


def test_candidates_are_scored_on_their_own_split_at_their_own_rate(folder: Path) -> None:
    plan = plan_of(folder)
    rates = {row: specs(plan, row)[0].training.optimizer.lr for row in ("soft-low", "ours-high")}
    assert rates == {"soft-low": pytest.approx(0.001), "ours-high": pytest.approx(0.03)}
    assert {spec.evaluation.split for spec in specs(plan, "soft-low")} == {"val"}
    assert {spec.evaluation.split for spec in specs(plan, "fixed")} == {"test"}
    assert {spec.training.train_split for spec in specs(plan, "soft-low")} == {"train"}


def test_a_row_waits_until_every_candidate_has_every_seed(folder: Path) -> None:
    plan = plan_of(folder)
    assert [cell.row for cell in plan.waiting] == ["soft", "soft", "ours", "ours"]
    assert not plan.blocked
    assert len(plan.to_do) == 2 * (len(RATES) * 2 + 1)
    assert plan.expected_s(1) == pytest.approx(30.0 * (len(plan.to_do) + 4)), "their time counts"
    assert "then 4 more at the rates that these choose" in plan_sentence(plan, 1)
    for seed in (0, 1):
        make(folder, "soft-low", seed, 0.6)
    make(folder, "soft-high", 0, 0.9)
    (first, *_) = plan_of(folder).waiting
    assert first.row == "soft"
    assert first.reasons == ("Its rate is chosen when soft-high have their runs.",)


def test_the_best_on_val_is_scored_on_test_at_every_seed(folder: Path) -> None:
    chosen(folder)
    plan = plan_of(folder)
    assert not plan.waiting
    for row, rate in {"soft": 0.001, "ours": 0.03}.items():
        assert [spec.training.optimizer.lr for spec in specs(plan, row)] == pytest.approx(
            [rate] * 2
        )
        assert {spec.evaluation.split for spec in specs(plan, row)} == {"test"}
        assert [spec.seed for spec in specs(plan, row)] == [0, 1]
    more = plan_of(folder, (0, 1, 2, 3))  # the profile's seeds have chosen, others are scored
    assert [spec.seed for spec in specs(more, "soft")] == [0, 1, 2, 3]
    assert {spec.training.optimizer.lr for spec in specs(more, "soft")} == {0.001}


def test_chosen_rates_can_be_compared_and_others_not(folder: Path) -> None:
    chosen(folder)
    for row, skill in {"soft": 0.6, "ours": 0.8, "fixed": 0.6}.items():
        for seed in (0, 1):
            make(folder, row, seed, skill)
    (planned,) = plan_of(folder).tables
    result = assemble(planned, Store(folder / "results"), None)
    rows = {row.row.id: row for row in result.rows}
    assert rows["ours"].incomparable is None
    assert rows["ours"].gain is not None
    assert rows["ours"].gain.num_seeds == 2
    assert "optimizer" in str(rows["fixed"].incomparable), "its rate was not chosen"
    assert {row_id for row_id, mark in marks(result).items() if mark} == {"ours"}
    claims = {claim.claim.id: claim for claim in result.claims}
    assert claims["better"].value == pytest.approx(rows["ours"].gain.value)
    assert claims["unlike"].value is None
    assert "cannot be compared" in claims["unlike"].reason


def test_the_page_says_which_rate_was_chosen_and_from_which_scores(folder: Path) -> None:
    chosen(folder)
    (planned,) = plan_of(folder).tables
    store = Store(folder / "results")
    result = assemble(planned, store, None)
    (note,) = (text for _, text, ids in footnotes(result) if ids == {"soft"} and "rate" in text)
    low, high = (
        np.mean([store.read(spec.run_id).scores.miou for spec in specs(plan_of(folder), row)])  # type: ignore[union-attr]
        for row in ("soft-low", "soft-high")
    )
    assert "0.1 times the profile's, 0.001: the best of 2 on val" in note
    assert f"the mean of 2 seeds: {low:.2f} at 0.1, {high:.2f} at 3" in note
    assert "the same number of runs" in note
    assert "a better one may lie beyond" in note
    pages = {path.suffix: path.read_text() for path in export(result, folder / "tables")}
    assert "the best of 2 on val" in pages[".md"]


def test_its_stored_runs_are_found_at_whatever_rate(folder: Path) -> None:
    chosen(folder)
    make(folder, "soft", 0, 0.7)
    resolver, _ = resolver_of(folder)
    assert runs_of_rows(resolver, Store(folder / "results"))["rates", "soft"] == 1


def test_a_run_at_a_chosen_rate_is_explained(folder: Path) -> None:
    seeds, results = (0, 1), folder / "results"
    call = stored_request("yard", seeds, results, folder / "data", [folder / "registry"])
    waiting = explain(call, "rates/soft/0")
    assert (waiting.state, waiting.reason) == (
        "blocked",
        "Its rate is chosen when soft-low, soft-high have their runs.",
    )
    chosen(folder)
    make(folder, "soft", 0, 0.7)
    for reference in ("rates/soft/0", specs(plan_of(folder), "soft")[0].run_id):
        found = explain(call, reference)
        assert found.state in ("cached", "stale")
        assert found.used_by == ("rates/soft/0",)


def test_only_the_rate_is_forgiven() -> None:
    def record(**changes: object) -> object:
        return make_record(make_spec(**changes), make_areas(0))

    training = make_spec().training
    rate = training.optimizer.model_copy(update={"lr": 0.5})
    decay = training.optimizer.model_copy(update={"lr": 0.5, "weight_decay": 0.5})
    first = record()
    for optimizer, own, alike in ((rate, True, True), (rate, False, False), (decay, True, False)):
        second = record(training=training.model_copy(update={"optimizer": optimizer}))
        assert (comparable(first, second, own_rates=own) is None) == alike  # type: ignore[arg-type]


@pytest.mark.parametrize("split", ["test", "train"])
def test_a_split_that_is_scored_or_trained_on_chooses_nothing(folder: Path, split: str) -> None:
    table = yaml.safe_load((folder / "registry/tables/rates.yaml").read_text())
    for row in table["rows"]:
        if "split" in row:
            row["split"] = split
    written(folder / "other", yaml.safe_dump(table))
    registry = load_registry([folder / "other"])
    workspace = Workspace(results=folder / "results", data_root=folder / "data")
    resolver = Resolver(registry, registry.profile("yard"), workspace)
    own = registry.table("rates")
    blocked = resolver.resolve(own, own.row("soft-low"), 0)
    assert isinstance(blocked, Blocked)
    assert f"chooses on the split {split}" in blocked.reason
    plan = make_plan([own], resolver, [0], Store(folder / "results"))
    assert {cell.row for cell in plan.blocked} == {row.id for row in own.rows} - {"fixed"}
    assert not plan.waiting


FAULTS = {
    "other rates": ({"ours-low": {"training": {"lr_times": 0.2}}}, "equal budgets"),
    "another split": (
        {"ours-low": {"split": "extra"}, "ours-high": {"split": "extra"}},
        "equal budgets",
    ),
    "two splits": ({"ours-low": {"split": "extra"}}, "on one split"),
    "one rate": ({"ours": {"rate_from": ["ours-low"]}}, "two at least"),
    "the same rate twice": ({"ours-low": {"training": {"lr_times": 3}}}, "different rates"),
    "another classifier": ({"ours-low": {"classifier": {"name": "cac"}}}, "more than its rate"),
    "other features": (
        {"ours-low": {"training": {"lr_times": 0.1, "from_scratch": True}}},
        "more than its rate",
    ),
    "no split": ({"ours-low": {"split": None}}, "names rate and split"),
    "no rate": ({"ours-low": {"training": {}}}, "names rate and split"),
    "a row that is not there": (
        {"ours": {"rate_from": ["ours-low", "ours-hi"]}},
        "no row 'ours-hi'",
    ),
    "a rate of its own": ({"ours": {"training": {"lr_times": 2}}}, "names neither rate nor split"),
}


@pytest.mark.parametrize(("changes", "sentence"), FAULTS.values(), ids=FAULTS)
def test_a_choice_that_is_not_of_the_rate_alone_is_refused(
    folder: Path, changes: dict[str, dict[str, object]], sentence: str
) -> None:
    table = yaml.safe_load((folder / "registry/tables/rates.yaml").read_text())
    for row in table["rows"]:
        row.update(changes.get(row["id"], {}))
    written(folder / "wrong", yaml.safe_dump(table))
    with pytest.raises(RegistryError, match=sentence):
        load_registry([folder / "wrong"])


def test_one_call_chooses_and_then_trains_what_it_chose(folder: Path) -> None:
    lab = Lab(folder / "results", folder / "registry")
    command = [*lab.command("rates", "--rows", "soft*", profile="yard"), "--seeds", "1"]
    command += ["--data-root", str(folder / "data")]
    made: subprocess.CompletedProcess[str] = finished(command, **os.environ | lab.environment)
    assert_clear(made, 0, "the best of 2 on val")
    plan = plan_of(folder, (0,))
    (run,) = (cell.run for cell in plan.cells if cell.row == "soft" and cell.run)
    assert run.record is not None
    assert run.record.num_images == 3, "scored on test"
    val = {
        row: record.scores.miou
        for row in ("soft-low", "soft-high")
        for cell in plan.cells
        if cell.row == row and cell.run and (record := cell.run.record)
    }
    best = RATES[max(val, key=val.__getitem__).removeprefix("soft-")]
    assert run.spec.training.optimizer.lr == pytest.approx(0.01 * best)


def test_the_study_has_every_classifier_of_the_comparison() -> None:
    registry = load_registry()
    study = registry.table("study_rates")
    choosing = {row.id for row in study.rows if row.rate_from}
    rivals = {row.classifier.name for row in registry.table("table2").rows}
    assert choosing == rivals | {"softmax", "ssa"}
    assert {len(study.at_its_rates(study.row(each))) for each in choosing} == {4}
