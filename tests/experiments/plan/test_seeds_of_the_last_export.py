"""What only looks at a table shows the seeds of its last export, not the profile's number."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from samples import make_areas, put

from experiments.ask.why import why
from experiments.judge.tables import assembled
from experiments.plan.request import Request, stored_request
from experiments.show.bundle import bundle
from experiments.show.export import export
from experiments.store.promises import Promise, path_of

TABLE, ROW = "table8", "full"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Four seeds of Table 8's rows, and an export of all four."""
    request = stored_request("smoke", 4, tmp_path / "results")
    (planned,) = request.plan([request.registry.table(TABLE)]).tables
    for cell in planned.cells:
        assert cell.spec is not None
        put(request.store, cell.spec, make_areas(cell.seed))
    (result,) = assembled(request, request.stored_plan([planned.table]))
    export(result, request.workspace.results / "tables")
    return request.workspace.results


def seeds_of(request: Request) -> tuple[int, ...]:
    (planned,) = request.stored_plan([request.registry.table(TABLE)]).tables
    return planned.seeds


def test_nothing_asked_is_the_last_export(results: Path) -> None:
    assert stored_request("smoke", None, results).profile.seeds < 4
    assert seeds_of(stored_request("smoke", None, results)) == (0, 1, 2, 3)


def test_what_is_asked_goes_before_it(results: Path) -> None:
    assert seeds_of(stored_request("smoke", 2, results)) == (0, 1)


def test_why_and_a_bundle_tell_of_the_same(results: Path, tmp_path: Path) -> None:
    request = stored_request("smoke", None, results)
    assert why(request, TABLE, ROW, "gain").seeds == (0, 1, 2, 3)
    bundle(request, TABLE, tmp_path / "bundle")
    made = json.loads((tmp_path / "bundle" / "tables" / "table08-smoke.json").read_text())
    assert made["seeds"] == [0, 1, 2, 3]


@pytest.mark.parametrize("text", ["", "[]", "{", '{"seeds": 3}', '{"seeds": []}', "[" * 9999])
def test_without_an_export_it_is_the_profiles_number(results: Path, text: str) -> None:
    (results / "tables" / "table08-smoke.json").write_text(text)
    request = stored_request("smoke", None, results)
    assert seeds_of(request) == tuple(range(request.profile.seeds))


def test_a_table_that_decide_chose_seeds_for_keeps_them(results: Path) -> None:
    path = path_of(results, TABLE, "smoke")
    path.parent.mkdir(parents=True)
    promise = Promise(table=TABLE, profile="smoke", seeds={ROW: 3})
    path.write_text(promise.model_dump_json())
    request = stored_request("smoke", None, results)
    (planned,) = request.stored_plan([request.registry.table(TABLE)]).tables
    assert planned.sequential
    assert {len(row.cells) for row in planned.rows} == {request.profile.seeds, 3}
