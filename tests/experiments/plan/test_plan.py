"""What a call will do: every state has its reason, and the estimate follows from the past."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import get_args

import pytest
from lab import write_registry
from samples import make_areas, make_spec, put

from experiments.declare.load import load_registry
from experiments.declare.run_spec import RunSpec
from experiments.declare.table import Table
from experiments.machine import PROJECT
from experiments.plan.plan import (
    DONE,
    PastCosts,
    Plan,
    PlannedCell,
    PlannedRow,
    PlannedRun,
    PlannedTable,
    State,
    look_up,
)
from experiments.plan.plan import make_plan as plan_tables
from experiments.plan.resolve import Blocked, Resolver
from experiments.store.lock import run_lock
from experiments.store.provenance import changed_modules, code_digest, code_used
from experiments.store.records import Failure
from experiments.store.resumable import write_checkpoint_code
from experiments.store.store import Store
from experiments.store.workspace import Workspace

SPEC = make_spec()
AREAS = make_areas(0)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results")


def plan_of(*cells: PlannedCell) -> Plan:
    """A plan of cells alone, each in a row of its own."""
    registry = load_registry()
    table, profile = registry.table("table8"), registry.profile("smoke")
    declared, card = table.rows[0], registry.model(str(table.model))
    rows = (
        PlannedRow(
            declared.model_copy(update={"id": each.row}),
            card,
            "scenes",
            "ade20k",
            each.row,
            (each,),
        )
        for each in cells
    )
    return Plan((PlannedTable(table, profile, tuple(rows)),))


def state_of(store: Store, spec: RunSpec = SPEC) -> tuple[str, str]:
    found = look_up(spec, store)
    assert found.state in get_args(State)
    assert (found.record is not None) == (found.state in DONE)
    return found.state, found.reason


def test_what_was_never_begun_is_missing(store: Store) -> None:
    assert state_of(store) == ("missing", "no record")


def test_what_was_interrupted_is_resumed(store: Store) -> None:
    folder = store.write_spec(SPEC)
    folder.checkpoint.write_bytes(b"state")
    write_checkpoint_code(folder, code_used([]))
    assert state_of(store) == ("missing", "interrupted; resumes")


def test_a_checkpoint_of_other_code_is_named_before_it_is_left(store: Store) -> None:
    folder = store.write_spec(SPEC)
    folder.checkpoint.write_bytes(b"state")
    state, reason = state_of(store)
    assert (state, "starts anew" in reason) == ("missing", True), "nobody knows what made it"
    write_checkpoint_code(folder, code_used([]) | {"experiments.train.loops": "0" * 64})
    state, reason = state_of(store)
    assert state == "missing"
    assert reason.startswith("interrupted; starts anew")
    assert reason.endswith("made with other code (experiments.train.loops)")


def test_what_failed_says_why(store: Store) -> None:
    failure = Failure(run_id=SPEC.run_id, sentence="It rained.", traceback="", time="")
    store.write_spec(SPEC).failure.write_text(failure.model_dump_json())
    assert state_of(store) == ("missing", "the last attempt failed: It rained.")


def test_what_another_process_trains_is_running(store: Store) -> None:
    with run_lock(store.write_spec(SPEC)):
        assert state_of(store)[0] == "running"
    assert state_of(store)[0] == "missing"


def test_what_has_a_whole_record_is_cached(store: Store) -> None:
    put(store, SPEC, AREAS)
    assert state_of(store) == ("cached", "")


def test_what_is_damaged_is_named(store: Store) -> None:
    put(store, SPEC, AREAS)
    store.folder(SPEC.run_id).record.write_text("{")
    state, reason = state_of(store)
    assert state == "damaged"
    assert str(store.folder(SPEC.run_id).record) in reason


def test_what_other_code_made_is_stale_and_names_the_modules(store: Store) -> None:
    now = code_used([])
    code = now | {"experiments.judge.statistics": "0" * 64, "ssa.gone": "1" * 64}
    put(store, SPEC, AREAS, code=code)
    assert state_of(store) == ("stale", "changed since: experiments.judge.statistics, ssa.gone")
    record = store.read(SPEC.run_id)
    assert record is not None
    # made anew it takes as long as it took
    assert look_up(SPEC, store).expected_s == record.timings.total_s > 0


def test_code_that_is_the_same_has_not_changed() -> None:
    importlib.import_module("experiments.train.loops")
    code = code_used([])
    assert "experiments.train.loops" in code
    assert "experiments.declare.run_spec" not in code, "what can change no number is inert"
    assert changed_modules(code) == []
    assert code_digest(code) == code_digest(dict(reversed(code.items())))
    assert code_digest(code) != code_digest(code | {"experiments.train.loops": "0" * 64})
    assert (PROJECT / "run_all.sh").is_file()


@pytest.mark.parametrize(
    ("pattern", "rows"),
    [(None, ["a-1", "a-2", "b"]), ("a-*", ["a-1", "a-2"]), ("b", ["b"]), ("B", []), ("a", [])],
)
def test_a_pattern_picks_rows_by_their_id(pattern: str | None, rows: list[str]) -> None:
    done = PlannedRun(SPEC, "cached", "")
    plan = plan_of(*(PlannedCell("t", row, 0, done) for row in ("a-1", "a-2", "b")))
    assert [cell.row for cell in plan.only(pattern).cells] == rows


def test_a_plan_is_complete_when_every_cell_asked_for_has_a_record() -> None:
    cells = [
        PlannedCell("t", state, 0, PlannedRun(SPEC, state, ""))
        for state in get_args(State)
        if state != "blocked"
    ] + [PlannedCell("t", "blocked", 0, None, ("no data",))]
    complete = {cell.row for cell in cells if plan_of(cell).complete}
    assert complete == set(DONE)
    assert not plan_of(*cells).complete


# --- the estimate ---------------------------------------------------------------------------------


def cell(name: str, state: State, expected: float | None) -> PlannedCell:
    spec = make_spec(profile=name)
    return PlannedCell("t", "r", 0, PlannedRun(spec, state, "", None, expected))


def test_an_estimate_spreads_what_is_missing_over_the_jobs() -> None:
    plan = plan_of(
        cell("a", "missing", 10.0), cell("b", "missing", 30.0), cell("c", "cached", 99.0)
    )
    assert plan.expected_s(jobs=1) == 40.0
    assert plan.expected_s(jobs=2) == 30.0
    assert [run.spec.profile for run in plan.to_do] == ["a", "b"]


def test_an_unknown_run_is_thought_to_be_like_the_known() -> None:
    plan = plan_of(cell("a", "missing", 10.0), cell("b", "missing", None))
    assert plan.expected_s(jobs=1) == 20.0
    assert plan_of(cell("b", "missing", None)).expected_s(1) is None
    assert plan_of(cell("c", "cached", None)).expected_s(1) == 0.0


def test_a_run_that_two_tables_need_counts_once() -> None:
    shared = cell("a", "missing", 10.0)
    other = PlannedCell("u", "r", 0, shared.run)
    assert plan_of(shared, other).expected_s(1) == 10.0
    assert len(plan_of(shared, other).runs) == 1


def test_costs_come_from_runs_of_the_same_kind_or_else_of_similar_ones(store: Store) -> None:
    ssa = {"name": "ssa", "overrides": {}}
    for seed, seconds in enumerate([10.0, 20.0, 60.0]):
        put(store, make_spec(seed=seed), AREAS, total_s=seconds)
    put(store, make_spec(classifier=ssa), AREAS, total_s=100.0)
    put(store, make_spec(seed=9), AREAS)
    store.folder(make_spec(seed=9).run_id).record.write_text("damaged")
    costs = PastCosts([store])
    assert costs.of(make_spec(seed=7)) == 20.0
    assert costs.of(make_spec(classifier=ssa, seed=7)) == 100.0
    assert costs.of(make_spec(model="other")) == pytest.approx(20.0, rel=0.1)  # its classifier
    assert costs.of(make_spec(profile="other")) is None
    assert look_up(make_spec(seed=7), store, costs).expected_s == 20.0


# --- tables ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def resolver(tmp_path_factory: pytest.TempPathFactory) -> Resolver:
    folder = tmp_path_factory.mktemp("plan")
    registry = load_registry([write_registry(folder / "registry")])
    workspace = Workspace(results=folder / "results", data_root=folder / "nothing here")
    return Resolver(registry, registry.profile("smoke"), workspace)


def test_two_tables_with_the_same_row_need_one_run(resolver: Resolver, store: Store) -> None:
    tables = [resolver.registry.table("pair"), resolver.registry.table("one")]
    plan = plan_tables(tables, resolver, [0, 1], store)
    assert [(c.table, c.row, c.seed) for c in plan.cells] == [
        ("pair", "baseline", 0),
        ("pair", "baseline", 1),
        ("pair", "full", 0),
        ("pair", "full", 1),
        ("one", "baseline", 0),
        ("one", "baseline", 1),
    ]
    assert len(plan.runs) == 4, "the softmax row of both tables is the same run"
    assert {run.spec.dataset for run in plan.runs} == {"scenes"}


def test_after_a_run_it_alone_is_looked_up_again(resolver: Resolver, store: Store) -> None:
    tables = [resolver.registry.table("pair"), resolver.registry.table("one")]
    plan = plan_tables(tables, resolver, [0, 1], store)
    trained, other = plan.runs[:2]
    for run in (trained, other):
        put(store, run.spec, AREAS)
    after = plan.after([trained.spec.run_id], store)
    states = [cell.run.state for cell in after.cells if cell.run]
    assert states == ["cached", "missing", "missing", "missing", "cached", "missing"]
    assert [cell.spec for cell in after.cells] == [cell.spec for cell in plan.cells]
    assert after.tables[0].rows[0].shipped == plan.tables[0].rows[0].shipped != ()


def test_seeds_and_switches_are_other_runs(resolver: Resolver, store: Store) -> None:
    table = resolver.registry.table("pair")
    row = table.rows[1].model_dump()
    row["classifier"]["overrides"] = {"teacher": False, "response_weight": 0}
    row["classifier"]["overrides"] |= {"semantic_weight": 0, "spatial_weight": 0}
    changed = Table.model_validate(table.model_dump() | {"rows": [table.rows[0].model_dump(), row]})
    ids = {
        run.spec.run_id
        for which in (table, changed)
        for run in plan_tables([which], resolver, [0, 1], store).runs
    }
    assert len(ids) == 6  # 2 of the shared first row, 2 of each second


def test_data_that_is_not_there_blocks_a_cell_with_the_remedy(
    resolver: Resolver, store: Store
) -> None:
    real = Resolver(resolver.registry, resolver.registry.profile("real"), resolver.workspace)
    plan = plan_tables([resolver.registry.table("one")], real, [0], store)
    assert plan.runs == ()
    (cell,) = plan.blocked
    assert "CamVid" in str(cell.blocked)
    assert "nothing here" in str(cell.blocked)


# --- rows that set something of the data set ----------------------------------------------------


def resolver_in(folder: Path, profile: str) -> Resolver:
    workspace = Workspace(results=folder / "results", data_root=folder / "data")
    return Resolver(load_registry(), load_registry().profile(profile), workspace)


def test_a_rows_data_settings_stand_over_the_profiles(tmp_path: Path) -> None:
    table, resolver = load_registry().table("study_variance"), resolver_in(tmp_path, "smoke")
    spec = resolver.resolve(table, table.row("ssa-shift-1"), 0)
    assert isinstance(spec, RunSpec)
    assert (spec.dataset_settings["shift"], spec.dataset_settings["train"]) == (1.0, 24)


def test_the_default_setting_is_the_run_of_the_other_tables(tmp_path: Path) -> None:
    registry, resolver = load_registry(), resolver_in(tmp_path, "smoke")
    study, table8 = registry.table("study_variance"), registry.table("table8")
    for ours, theirs in (("softmax-shift-0.6", "baseline"), ("ssa-shift-0.6", "full")):
        first = resolver.resolve(study, study.row(ours), 0)
        second = resolver.resolve(table8, table8.row(theirs), 0)
        assert isinstance(first, RunSpec)
        assert isinstance(second, RunSpec)
        assert first.run_id == second.run_id


def test_data_settings_without_their_data_set_block_the_row(tmp_path: Path) -> None:
    table, resolver = load_registry().table("study_variance"), resolver_in(tmp_path, "camvid")
    blocked = resolver.resolve(table, table.rows[0], 0)
    assert isinstance(blocked, Blocked)
    assert "camvid" in blocked.reason
    assert "--profile quick" in blocked.reason
