"""From records to a table: medians, gains, verdicts and what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from lab import write_registry
from samples import make_areas, put

from experiments.declare.load import load_registry
from experiments.declare.run_spec import RunSpec
from experiments.declare.table import Table
from experiments.judge.assemble import TableResult, assemble
from experiments.judge.counts import Counter
from experiments.judge.statistics import gain as gain_of_areas
from experiments.judge.tables import counts_of
from experiments.plan.plan import make_plan
from experiments.plan.resolve import Resolver
from experiments.store.areas import scores
from experiments.store.store import Store
from experiments.store.workspace import Workspace

SKILL = {"baseline": 0.6, "full": 0.7}


@pytest.fixture(scope="module")
def resolver(tmp_path_factory: pytest.TempPathFactory) -> Resolver:
    folder = tmp_path_factory.mktemp("assemble")
    registry = load_registry([write_registry(folder / "registry")])
    profile = registry.profile("smoke").model_copy(update={"seeds": 3})
    workspace = Workspace(results=folder / "results", data_root=folder / "no data")
    return Resolver(registry, profile, workspace)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results")


def fill(store: Store, resolver: Resolver, row: str, seeds: Sequence[int], shift: int = 0) -> None:
    table = resolver.registry.table("pair")
    for seed in seeds:
        spec = resolver.resolve(table, table.row(row), seed)
        assert isinstance(spec, RunSpec)
        put(store, spec, make_areas(seed + shift, images=20, skill=SKILL[row]))


def put_together(
    store: Store,
    resolver: Resolver,
    *,
    seeds: int = 3,
    reference: Store | None = None,
    table: Table | None = None,
) -> TableResult:
    table = table or resolver.registry.table("pair")
    (planned,) = make_plan([table], resolver, range(seeds), store).tables
    counter = Counter(resolver.registry, store.root / "counts")
    return assemble(planned, store, reference, counts_of(table, counter))


def test_medians_spreads_and_gains_are_those_of_the_records(
    store: Store, resolver: Resolver
) -> None:
    for row in SKILL:
        fill(store, resolver, row, range(3))
    result = put_together(store, resolver)
    assert result.complete
    runs = {row: [make_areas(s, images=20, skill=SKILL[row]) for s in range(3)] for row in SKILL}
    mious = {row: [scores(areas).miou for areas in runs[row]] for row in SKILL}
    baseline, full = result.rows
    for found in result.rows:
        values = mious[found.row.id]
        assert found.miou is not None
        assert found.miou.median == pytest.approx(np.median(values), abs=1e-12)
        assert (found.miou.low, found.miou.high) == pytest.approx((min(values), max(values)))
        assert [record.spec.seed for record in found.records] == [0, 1, 2]
        assert found.absent == ()
        assert found.stale == ()
    assert baseline.gain is None
    assert full.gain == gain_of_areas(runs["full"], runs["baseline"])
    groups = [np.array(values) for values in mious.values()]
    squares = sum(((group - group.mean()) ** 2).sum() for group in groups)
    assert result.seed_deviation == pytest.approx(np.sqrt(squares / 4))


def test_a_gain_uses_the_seeds_that_both_rows_have(store: Store, resolver: Resolver) -> None:
    fill(store, resolver, "baseline", [0, 1])
    fill(store, resolver, "full", [1, 2])
    result = put_together(store, resolver)
    gain = result.rows[1].gain
    assert gain is not None
    assert gain.num_seeds == 1
    shared = [make_areas(1, images=20, skill=SKILL[row]) for row in ("full", "baseline")]
    assert gain == gain_of_areas([shared[0]], [shared[1]])


def test_a_missing_row_renders_and_says_why(store: Store, resolver: Resolver) -> None:
    fill(store, resolver, "full", range(3))
    result = put_together(store, resolver)
    assert not result.complete
    baseline, full = result.rows
    assert baseline.miou is None
    assert baseline.versus_paper.word == "missing"
    assert baseline.absent == tuple(f"seed {seed}: no record" for seed in range(3))
    assert full.miou is not None
    assert full.gain is None, "there is nothing to gain over"
    assert result.seed_deviation is not None
    assert np.isfinite(result.seed_deviation)


def test_a_blocked_row_says_what_blocks_it(store: Store, resolver: Resolver) -> None:
    real = Resolver(resolver.registry, resolver.registry.profile("real"), resolver.workspace)
    result = put_together(store, real, seeds=1)
    assert not result.complete
    for row in result.rows:
        assert row.blocked
        assert row.versus_paper.word == "blocked"
        assert "no data" in row.versus_paper.reason
        assert row.absent == (row.versus_paper.reason,)


def test_numbers_of_a_small_profile_stand_beside_the_papers_uncompared(
    store: Store, resolver: Resolver
) -> None:
    fill(store, resolver, "baseline", range(3))
    baseline, _ = put_together(store, resolver).rows
    assert str(baseline.versus_paper) == "not comparable (smoke)"
    assert baseline.row.reported.miou == 40.0
    assert baseline.dataset == "scenes"
    assert baseline.paper_dataset == "ade20k"


def test_the_papers_own_protocol_is_compared(store: Store, resolver: Resolver) -> None:
    profile = resolver.profile.model_copy(update={"compares_with_paper": True})
    full_size = Resolver(resolver.registry, profile, resolver.workspace)
    fill(store, full_size, "baseline", range(3))
    baseline, full = put_together(store, full_size).rows
    assert baseline.miou is not None
    assert baseline.versus_paper.word == ("above" if baseline.miou.median > 40 else "below")
    assert full.versus_paper.word == "not reported"


@pytest.mark.parametrize(("shift", "word"), [(0, "agrees"), (100, "agrees")])
def test_the_same_code_agrees_with_the_shipped_reference(
    store: Store, resolver: Resolver, tmp_path: Path, shift: int, word: str
) -> None:
    reference = Store(tmp_path / "reference")
    fill(store, resolver, "baseline", range(3))
    fill(reference, resolver, "baseline", range(3), shift=shift)
    baseline, full = put_together(store, resolver, reference=reference).rows
    assert baseline.reference is not None
    assert baseline.reference.num_seeds == 3
    assert baseline.versus_reference.word == word
    assert full.versus_reference.word == "no reference"


def test_a_broken_installation_differs_from_the_shipped_reference(
    store: Store, resolver: Resolver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = Store(tmp_path / "reference")
    fill(store, resolver, "baseline", range(3))
    monkeypatch.setitem(SKILL, "baseline", 0.9)
    fill(reference, resolver, "baseline", range(3))
    assert put_together(store, resolver, reference=reference).rows[0].versus_reference.word == (
        "differs"
    )


def test_a_damaged_reference_is_no_reference(
    store: Store, resolver: Resolver, tmp_path: Path
) -> None:
    reference = Store(tmp_path / "reference")
    fill(store, resolver, "baseline", range(3))
    fill(reference, resolver, "baseline", [0])
    (run_id,) = reference.run_ids()
    reference.folder(run_id).record.write_text("half")
    assert put_together(store, resolver, reference=reference).rows[0].reference is None
