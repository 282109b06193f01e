"""Runs are found by their rows where the data and weights that they saw are not here."""

from __future__ import annotations

from pathlib import Path

import pytest
from lab import write_registry
from samples import make_areas, put

from experiments.ask.coverage import runs_of_rows
from experiments.declare.load import load_registry
from experiments.declare.profile import DataChoice
from experiments.declare.run_spec import RunSpec
from experiments.draw.draw import StoredRuns
from experiments.plan.data import absent, locate
from experiments.plan.plan import make_plan
from experiments.plan.request import stored_request
from experiments.plan.resolve import Blocked, Resolver
from experiments.plan.stored_rows import StoredResolver, StoredRows
from experiments.store.store import Store
from experiments.store.workspace import Workspace

AREAS = make_areas(0)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results")


@pytest.fixture
def resolver(tmp_path: Path) -> Resolver:
    """Of a machine without CamVid."""
    return resolver_of(tmp_path, "real")


def resolver_of(folder: Path, profile: str) -> Resolver:
    registry = load_registry([write_registry(folder / f"registry-{profile}")])
    workspace = Workspace(results=folder / "results", data_root=folder / "no-data")
    return Resolver(registry, registry.profile(profile), workspace)


def draft_of(resolver: Resolver, name: str = "one", row: str = "baseline") -> RunSpec:
    table = resolver.registry.table(name)
    found = resolver.draft(table, table.row(row))
    assert found is not None
    return found


def seen(draft: RunSpec, digest: str = "a", **changes: object) -> RunSpec:
    """The run of a draft on a machine that has some data."""
    return draft.model_copy(update={"dataset_digest": digest * 64, **changes})


def test_a_draft_is_what_a_blocked_row_is_known_to_be(resolver: Resolver) -> None:
    table = resolver.registry.table("one")
    found = resolver.resolve(table, table.row("baseline"), 0)
    assert isinstance(found, Blocked)
    assert found.draft == draft_of(resolver)


def test_a_row_that_a_profile_cannot_have_has_no_draft(tmp_path: Path) -> None:
    resolver = resolver_of(tmp_path, "camvid")
    table = resolver.registry.table("study_variance")
    assert resolver.draft(table, table.row("ssa-shift-1")) is None


def test_with_the_digest_of_the_data_a_draft_is_the_run(tmp_path: Path) -> None:
    resolver = resolver_of(tmp_path, "smoke")
    table = resolver.registry.table("pair")
    run = resolver.resolve(table, table.row("full"), 3)
    assert isinstance(run, RunSpec)
    draft = resolver.draft(table, table.row("full"), 3)
    assert draft is not None
    assert draft.dataset_digest == ""
    assert draft.model_copy(update={"dataset_digest": run.dataset_digest}).run_id == run.run_id


@pytest.mark.parametrize("given", [{}, {"train": 24, "val": 8}, {"shift": 0}])
def test_settings_are_filled_in_without_the_data(tmp_path: Path, given: dict[str, int]) -> None:
    choice = DataChoice(name="scenes", settings={"train": 2, "val": 1, **given})
    workspace = Workspace(results=tmp_path)
    without = absent(choice, workspace)
    assert not list(tmp_path.iterdir())
    assert without is not None
    assert without.settings == locate(choice, workspace).settings


def test_the_own_store_comes_first_and_in_it_the_newest(resolver: Resolver, tmp_path: Path) -> None:
    own, shipped = Store(tmp_path / "own"), Store(tmp_path / "shipped")
    draft = draft_of(resolver)
    dates = {"a": "2026-01-01", "b": "2026-03-01", "c": "2026-02-01"}
    for digest, date in dates.items():
        finish(put(own, seen(draft, digest), AREAS).run_id, own, date)
    finish(put(shipped, seen(draft, "d"), AREAS).run_id, shipped, "2026-04-01")
    rows = StoredRows([own, shipped])
    assert [spec.dataset_digest[0] for spec in rows.runs(draft)] == ["b", "c", "a", "d"]
    found = rows.find(draft)
    assert found is not None
    assert found.spec == seen(draft, "b")


def finish(run_id: str, store: Store, date: str) -> None:
    record = store.read(run_id)
    assert record is not None
    store.write_record(record.model_copy(update={"finished": date}), AREAS.to_bytes())


def test_a_damaged_record_gives_way_to_the_next(resolver: Resolver, store: Store) -> None:
    draft = draft_of(resolver)
    whole, damaged = (put(store, seen(draft, digest), AREAS) for digest in "ab")
    store.folder(damaged.run_id).per_image.write_bytes(b"")
    rows = StoredRows([store])
    assert {spec.run_id for spec in rows.runs(draft)} == {whole.run_id, damaged.run_id}
    found = rows.find(draft)
    assert found is not None
    assert found.run_id == whole.run_id
    store.folder(whole.run_id).record.write_text("{")
    assert StoredRows([store]).find(draft) is None


def test_only_the_digests_that_lack_are_taken_from_a_record(
    resolver: Resolver, store: Store
) -> None:
    draft = draft_of(resolver).model_copy(update={"weights": "mscan_t"})
    put(store, seen(draft, "a", weights_sha256="1" * 64), AREAS)
    rows = StoredRows([store])
    assert rows.find(draft) is not None
    assert rows.find(seen(draft, "a")) is not None, "the data is here, the weights are not"
    assert rows.find(seen(draft, "b")) is None, "the data that is here is other data"
    assert rows.find(draft.model_copy(update={"weights_sha256": "2" * 64})) is None


@pytest.mark.parametrize(
    "change",
    [{"working_size": (120, 90)}, {"dataset_settings": {"x": 1}}, {"model_size": "small"}],
)
def test_a_run_that_differs_otherwise_is_not_the_rows(
    resolver: Resolver, store: Store, change: dict[str, object]
) -> None:
    draft = draft_of(resolver)
    put(store, seen(draft, **change), AREAS)
    assert StoredRows([store]).find(draft) is None


def test_rows_with_settings_of_the_data_are_told_apart(tmp_path: Path, store: Store) -> None:
    """The study of strengths of the shift: no row may take the run of another."""
    resolver = resolver_of(tmp_path, "smoke")
    table = resolver.registry.table("study_variance")
    strong, usual = (draft_of(resolver, table.name, f"ssa-shift-{s}") for s in ("1", "0.6"))
    record = put(store, seen(strong), AREAS)
    rows = StoredRows([store])
    assert [spec.run_id for spec in rows.runs(strong)] == [record.run_id]
    assert rows.runs(usual) == []
    assert runs_of_rows(resolver, store) == {(table.name, "ssa-shift-1"): 1}
    assert not (store.root / "cache").exists(), "nothing is made to count"


def test_a_figure_takes_no_run_of_other_data_settings(tmp_path: Path, store: Store) -> None:
    """Where scenes cannot be made, a newer run on a stronger shift must not stand for a row."""
    resolver = resolver_of(tmp_path, "smoke")
    store.root.mkdir()
    (store.root / "cache").write_text("scenes cannot be made here")
    usual, strong = (
        put(store, seen(draft_of(resolver, "study_variance", row), digest), AREAS)
        for digest, row in (("a", "ssa-shift-0.6"), ("b", "ssa-shift-1"))
    )
    call = stored_request("smoke", None, store.root, tmp_path / "no-data")
    finish(strong.run_id, store, "2027-01-01")
    stored, plan = StoredRuns(call), call.plan([call.registry.table("study_variance")])
    for row, run_id in (("ssa-shift-0.6", usual.run_id), ("ssa-shift-1", strong.run_id)):
        record, reason = stored.of(plan, f"study_variance/{row}", 0)
        assert record is not None, reason
        assert record.run_id == run_id
    record, reason = stored.of(plan, "study_variance/ssa-shift-0.3", 0)
    assert record is None
    assert "Cannot write the scenes data set" in reason


def test_runs_of_every_seed_are_counted_with_weights_and_without(
    tmp_path: Path, store: Store
) -> None:
    resolver = resolver_of(tmp_path, "paper")
    draft = draft_of(resolver, "table8", "full")
    assert draft.weights is not None
    scratch = draft.training.model_copy(update={"from_scratch": True})
    sentence = "from scratch, where paper starts from pretrained weights"
    without = {"weights": None, "training": scratch}
    without["deviations"] = (*draft.deviations, sentence)
    for seed in (0, 5):
        put(store, seen(draft, weights_sha256="1" * 64, seed=seed), AREAS)
    put(store, seen(draft, **without), AREAS)
    assert runs_of_rows(resolver, store)["table8", "full"] == 3


def test_a_row_is_resolved_to_its_stored_run_seed_by_seed(resolver: Resolver, store: Store) -> None:
    table = resolver.registry.table("one")
    record = put(store, seen(draft_of(resolver), seed=1), AREAS)
    finding = StoredResolver(
        resolver.registry, resolver.profile, resolver.workspace, stored=StoredRows([store])
    )
    plan = make_plan([table], finding, [0, 1], store)
    first, second = plan.cells
    assert first.run is None
    assert first.draft == draft_of(resolver)
    assert second.run is not None
    assert second.run.spec == record.spec
    assert second.spec == record.spec
    assert finding.resolve(table, table.row("baseline"), 1) == record.spec
    assert isinstance(finding.resolve(table, table.row("baseline"), 0), Blocked)
