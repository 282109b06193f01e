"""What the report gathers from a folder of results."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from lab import write_registry
from samples import make_areas
from small_report import PROFILE, TABLE, SmallReport, fill, put, request, resolve

from analysis.report.coverage import coverage_of
from analysis.report.data import TableView
from analysis.report.gather import gather
from analysis.report.page import render
from experiments.declare.load import load_registry
from experiments.declare.run_spec import RunSpec
from experiments.errors import UnknownNameError
from experiments.plan.request import parse_seeds, seeds_option
from experiments.plan.resolve import Blocked, Resolver
from experiments.store.areas import scores
from experiments.store.records import seal
from experiments.store.store import Store


@pytest.mark.parametrize(
    ("row_id", "state", "runs"),
    [
        ("baseline", "measured", 3),
        ("full", "measured", 3),
        ("partial", "partial", 1),
        ("stale", "stale", 3),
        ("failed", "failed", 0),
        ("missing", "missing", 0),
    ],
)
def test_every_row_knows_where_it_stands(
    small: SmallReport, row_id: str, state: str, runs: int
) -> None:
    row = small.row(row_id)
    assert (row.state, len(row.runs)) == (state, runs)
    assert bool(row.absent) == (runs < 3)
    assert bool(row.stale) == (row_id == "stale")


def test_a_seed_that_one_row_has_from_another_table_is_no_gap_of_the_others(
    tmp_path: Path,
) -> None:
    folder, results = write_registry(tmp_path / "registry"), tmp_path / "results"
    (folder / "tables" / "states.yaml").write_text(TABLE)
    (folder / "profiles" / "three.yaml").write_text(PROFILE)
    for row in ("baseline", "full", "partial", "stale", "failed", "missing"):
        for seed in range(4):
            put(Store(results), resolve(folder, results, row, seed), 0.5)
    put(Store(results), resolve(folder, results, "baseline", 4), 0.5)

    def table() -> TableView:
        (profile,) = gather(request(folder, results)).profiles
        (shown,) = profile.tables
        return shown

    assert table().seeds == (0, 1, 2, 3), "all rows have the fourth, one alone the fifth"
    assert {row.state for row in table().rows} == {"measured"}
    exported = results / "tables" / "states-three.json"
    exported.parent.mkdir()
    exported.write_text(json.dumps({"seeds": [0, 1, 2, 3, 4]}))
    assert table().seeds == (0, 1, 2, 3, 4), "asked for, as the last export says"
    assert {row.state for row in table().rows} == {"measured", "partial"}


def test_the_measured_number_is_the_median_of_the_records(small: SmallReport) -> None:
    row = small.row("full")
    mious = [
        scores(make_areas(seed, images=12, skill=0.70 + 0.02 * seed)).miou for seed in (0, 1, 2)
    ]
    assert row.miou.median == pytest.approx(np.median(mious))
    assert (row.miou.low, row.miou.high) == (pytest.approx(min(mious)), pytest.approx(max(mious)))
    assert row.gain.low < row.gain.value < row.gain.high
    assert row.versus_paper.word == "not comparable"
    assert row.counts["macs_g"].verdict.word == "different"
    assert small.row("baseline").counts["macs_g"].measured == pytest.approx(6.3, rel=0.2)


def test_the_numbers_are_json_and_come_back_as_they_were(small: SmallReport) -> None:
    document = asdict(small.data)
    assert json.loads(json.dumps(document)) == json.loads(json.dumps(document, sort_keys=True))
    assert "NaN" not in json.dumps(document)


def test_a_run_that_no_row_asks_for_and_a_damaged_one_are_named(small: SmallReport) -> None:
    unused = [run for run in small.data.runs.values() if not run.used]
    assert [run.config in small.data.configs for run in unused] == [True]
    assert any("damaged" in sentence for sentence in small.data.damaged)


def test_the_claim_has_its_verdict_and_interval(small: SmallReport) -> None:
    (claim,) = small.data.claims
    assert (claim.word, claim.num_seeds) == ("holds", 3)
    assert "points [" in claim.numbers


def test_a_drawn_figure_is_shown_and_says_that_its_run_is_gone(small: SmallReport) -> None:
    drawn = [figure for figure in small.data.figures if figure.picture]
    assert [(f.name, f.width, f.height) for f in drawn] == [("figure4", 64, 32)]
    assert "gone" in drawn[0].stale
    assert {f.name for f in small.data.figures} == set(small.registry.figures)


def test_a_scene_has_image_truth_and_both_masks(small: SmallReport) -> None:
    (scene,) = small.data.scenes
    assert [layer.kind for layer in scene.layers] == ["image", "truth", "baseline", "ours"]
    baseline, ours = scene.layers[2:]
    assert baseline.correct < 60 < ours.correct
    assert dict(scene.legend)["road"] == "#c81e1e"
    for layer in scene.layers:
        assert small.data.pictures[layer.picture].startswith("data:image/png;base64,")


def test_the_command_names_row_profile_and_seeds(small: SmallReport) -> None:
    checkout, train = small.row("full").commands
    assert checkout == f"git checkout {'c' * 40}"
    assert "states --profile three --rows full --seeds 3" in train
    assert train.endswith("--results anew")
    assert "anew" not in small.row("missing").commands[0]


@pytest.mark.parametrize(
    ("seeds", "option"), [((0, 1, 2), "3"), ((0,), "1"), ((2,), "2,"), ((0, 2), "0,2")]
)
def test_seeds_are_written_as_the_command_line_takes_them(
    seeds: tuple[int, ...], option: str
) -> None:
    assert seeds_option(seeds) == option
    assert parse_seeds(option, load_registry().profile("quick")) == seeds


def test_measured_latency_ratios_stand_behind_their_rows(small: SmallReport) -> None:
    text, *shipped = small.row("full").latencies
    assert text.startswith("ssa over segnext_t softmax on a processor: 1.100 times the time")
    assert text.endswith("benchmarks/latency_segnext_t_here.json")
    assert str(small.results) not in text
    assert all(other.split("; ")[-1].startswith("results/reference/") for other in shipped)
    assert small.row("full").counts["latency_ms"].measured is None


def test_coverage_counts_the_rows_of_studies_apart_from_the_papers(small: SmallReport) -> None:
    found = coverage_of(small.data.profiles[0])
    assert found.paper.rows == 0
    assert (found.studies.rows, found.studies.with_records, found.stale) == (6, 4, 1)


def test_runs_are_found_where_their_data_is_not(small: SmallReport, tmp_path: Path) -> None:
    """CamVid is not here, so its rows are blocked; a record of one counts all the same."""
    asked = request(small.folder, tmp_path, "real", items=("one",))
    (blocked,) = gather(asked).profiles[0].tables[0].rows
    assert blocked.state == "blocked"
    assert "camvid" in blocked.absent[0]

    draft = _draft_without_data(small)
    store = Store(tmp_path)
    later = put(store, draft.model_copy(update={"seed": 1}), 0.6)
    (found,) = gather(asked).profiles[0].tables[0].rows
    assert (found.state, found.runs) == ("partial", (later.run_id,))
    assert found.versus_paper.word == "not reported"  # it has a number, so it is not blocked

    first = put(store, draft, 0.6)
    (found,) = gather(asked).profiles[0].tables[0].rows
    assert (found.state, found.runs) == ("measured", (first.run_id, later.run_id))


def test_a_figure_that_the_profile_cannot_have_says_why(small: SmallReport, tmp_path: Path) -> None:
    data = gather(request(small.folder, tmp_path, "real", items=("one",)))
    blocked = {figure.name: figure.blocked for figure in data.figures if figure.blocked}
    assert blocked.keys() == {"extra_variance"}
    assert "the profile real trains on camvid" in blocked["extra_variance"]
    page = render(data)
    assert blocked["extra_variance"] in page
    assert "./run_all.sh extra_variance" not in page
    assert "./run_all.sh extra_classes --profile real" in page


def _draft_without_data(small: SmallReport) -> RunSpec:
    """The run of the table ``one`` as a machine with some CamVid would have it."""
    workspace = request(small.folder, small.results).workspace
    resolver = Resolver(small.registry, small.registry.profile("real"), workspace)
    table = small.registry.table("one")
    found = resolver.resolve(table, table.row("baseline"), 0)
    assert isinstance(found, Blocked)
    assert found.draft is not None
    return found.draft.model_copy(update={"dataset_digest": "a" * 64})


def test_only_the_profiles_that_were_asked_for_are_shown(small: SmallReport) -> None:
    data = gather(request(small.folder, small.results, "smoke"))
    assert [profile.name for profile in data.profiles] == ["smoke"]
    assert data.runs == {}


def test_a_wrong_name_is_refused_with_a_near_one(small: SmallReport) -> None:
    with pytest.raises(UnknownNameError, match="states"):
        gather(request(small.folder, small.results, items=("statse",)))


def test_the_report_survives_records_that_cannot_be_read(tmp_path: Path) -> None:
    """One with a NaN, one cut short, one of a newer version: each is named, the rest is shown."""
    folder, results = write_registry(tmp_path / "registry"), tmp_path / "results"
    (folder / "tables" / "states.yaml").write_text(TABLE)
    (folder / "profiles" / "three.yaml").write_text(PROFILE)
    fill(folder, results)
    store = Store(results)
    texts = []
    for seed in range(3):
        path = store.folder(resolve(folder, results, "full", seed).run_id).record
        document = json.loads(path.read_text())
        del document["sha256"]
        texts.append((path, document))
    (nan, first), (short, _), (newer, third) = texts
    first["scores"]["miou"] = float("nan")
    body = json.dumps(first, sort_keys=True, indent=1)
    digest = hashlib.sha256(body.encode()).hexdigest()
    nan.write_text(json.dumps({"sha256": digest})[:-1] + "," + body[1:])
    short.write_text(short.read_text()[:200])
    newer.write_text(seal(third | {"version": 99}))
    data = gather(request(folder, results))
    json.dumps(asdict(data), allow_nan=False)
    for path in (nan, short, newer):
        assert any(str(path.relative_to(results)) in sentence for sentence in data.damaged)
    (shown,) = data.profiles
    rows = {row.id: row for row in shown.tables[0].rows}
    assert rows["baseline"].miou is not None
    assert rows["full"].miou is None
