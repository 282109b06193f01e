"""The study of the variance from made records to its verdict and its picture."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from lab import assert_clear, finished
from samples import make_areas, put

from analysis.study_variance import NotTheStudyError, draw, read_points
from analysis.style import paper_style, save
from experiments.assemble import assemble
from experiments.counts import Counter
from experiments.export import to_json, to_markdown
from experiments.plan import make_plan
from experiments.registry import load_registry
from experiments.resolve import Resolver
from experiments.schema import RunSpec
from experiments.store import Store
from experiments.workspace import Workspace

SEEDS = range(2)
GAIN = {"0": 0.0, "0.3": 0.06, "0.6": 0.12, "1": 0.2}  # of the chance that a pixel is right


@pytest.fixture(scope="module")
def markdown_and_document(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """The study on made areas whose gain grows with the shift."""
    folder, registry = tmp_path_factory.mktemp("study"), load_registry()
    table = registry.table("study_variance")
    workspace = Workspace(results=folder / "results", data_root=folder / "data")
    resolver = Resolver(registry, registry.profile("smoke"), workspace)
    store = Store(workspace.results)
    for number, row in enumerate(table.rows):
        gain = GAIN[row.id.rsplit("-", 1)[1]] if row.classifier.name == "ssa" else 0.0
        for seed in SEEDS:
            spec = resolver.resolve(table, row, seed)
            assert isinstance(spec, RunSpec)
            put(store, spec, make_areas(10 * number + seed, images=40, skill=0.6 + gain))
    plan = make_plan([table], resolver, SEEDS, store)
    counter = Counter(registry, folder / "counts")
    result = assemble(table, plan, resolver, store, None, counter)
    assert result.complete
    return to_markdown(result), json.loads(to_json(result))


@pytest.fixture
def document(markdown_and_document: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    return markdown_and_document[1]


def test_a_gain_that_grows_is_found(markdown_and_document: tuple[str, dict[str, Any]]) -> None:
    markdown, document = markdown_and_document
    (trend,) = [claim for claim in document["claims"] if claim["kind"] == "trend"]
    assert trend["verdict"] == "holds"
    assert 0 < trend["low"] <= trend["value"] <= trend["high"]
    assert "profile smoke" in markdown
    assert "the more SSA-Seg gains (what the paper's explanation" in markdown
    assert "**holds**" in markdown


def test_a_study_of_ours_has_no_column_of_the_papers(
    markdown_and_document: tuple[str, dict[str, Any]],
) -> None:
    header = next(line for line in markdown_and_document[0].splitlines() if line.startswith("|"))
    assert "Paper" not in header
    assert "Versus paper" not in header


def test_points_are_the_tables_gains_in_the_order_of_the_shift(document: dict[str, Any]) -> None:
    points = read_points({**document, "rows": document["rows"][::-1]})
    assert [point.shift for point in points] == [0.0, 0.3, 0.6, 1.0]
    rows = {row["row"]: row for row in document["rows"]}
    for point, name in zip(points, GAIN):
        assert point.adapted == rows[f"ssa-shift-{name}"]
        assert point.baseline == rows[f"softmax-shift-{name}"]


def test_the_picture_shows_gains_and_intervals(document: dict[str, Any]) -> None:
    figure = draw(document)
    miou, gain = figure.axes
    for axes in (miou, gain):
        assert "shift" in axes.get_xlabel()
        assert "percent" in axes.get_ylabel()
    (bars,) = gain.containers
    line, _, (interval,) = bars.lines  # type: ignore[misc]
    rows = [point.adapted for point in read_points(document)]
    assert list(line.get_ydata()) == [row["gain_points"] for row in rows]
    for segment, row in zip(interval.get_segments(), rows):
        ends = [row["gain_low_points"], row["gain_high_points"]]
        assert [y for _, y in segment] == pytest.approx(ends)
    assert "holds" in figure.get_suptitle()


def test_a_shift_that_has_not_been_run_is_left_out(document: dict[str, Any]) -> None:
    rows = [
        {**row, "gain_points": None} if row["row"] == "ssa-shift-1" else row
        for row in document["rows"]
    ]
    assert [p.shift for p in read_points({**document, "rows": rows})] == [0.0, 0.3, 0.6]
    none = [{**row, "gain_points": None, "miou_percent": None} for row in document["rows"]]
    assert read_points({**document, "rows": none}) == []
    assert len(draw({**document, "rows": none}).axes) == 2


def test_another_table_is_refused(document: dict[str, Any]) -> None:
    rows = [{**row, "dataset_settings": {}} for row in document["rows"]]
    with pytest.raises(NotTheStudyError, match=r"study_variance\.json"):
        draw({**document, "rows": rows})


def test_the_command_writes_what_the_function_draws(
    document: dict[str, Any], tmp_path: Path
) -> None:
    table = tmp_path / "study_variance.json"
    table.write_text(json.dumps(document))
    process = call(table, tmp_path / "a.png")
    assert process.returncode == 0, process.stderr
    with paper_style():
        paths = save(draw(document), tmp_path / "b")
    for path in paths:
        assert path.read_bytes() == path.with_stem("a").read_bytes()


def test_the_command_says_what_it_wants(tmp_path: Path) -> None:
    table = tmp_path / "other.json"
    table.write_text("{}")
    assert_clear(call(table, tmp_path / "a.png"), 1, "./run_all.sh study_variance")


def call(table: Path, picture: Path) -> subprocess.CompletedProcess[str]:
    return finished([sys.executable, "-m", "analysis.study_variance", str(table), str(picture)])
