"""The notebooks: executed on small real runs, and the shipped ones in step with their sources."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lab import JOBS, PROJECT, Lab, assert_clear, environment, finished

from analysis.boundary import band_miou
from analysis.execution import notebooks, read_source
from analysis.notebook import Chosen, gain_table, open_figure
from experiments.declare.figure import Figure, figure_stem
from experiments.declare.load import load_registry
from experiments.draw.drawing import Drawing, DrawnRun, write_drawing
from experiments.draw.inspection import inspection_path
from experiments.store.workspace import REFERENCE

#: figures both of whose lines are networks with the classifier of the paper
OF_SSA_ALONE = ("figure3", "figure6")
FIGURES = {f.name: f for f in load_registry().figures.values() if f.kind != "architecture"}
ELSEWHERE = re.compile(r"(?<![\w.])/(home|root|tmp|work|usr|Users|private|var)/")


def describe(lab: Lab, figure: Figure) -> Path:
    """A figure of the paper, drawn from the two small runs in place of its own."""
    drawn: dict[str, DrawnRun] = {}
    for row in figure.rows:
        softmax = row.baseline and figure.name not in OF_SSA_ALONE
        record = lab.record("softmax" if softmax else "ssa")
        if not row.optional:
            drawn[row.label] = DrawnRun(
                label=row.label,
                baseline=row.baseline,
                row=row.run,
                seed=record.spec.seed,
                run_id=record.run_id,
                result_digest=record.result_digest,
            )
    drawing = Drawing(
        figure=figure,
        profile="smoke",
        style=figure.style,
        runs=tuple(drawn.values()),
        missing=tuple(f"{row.run}: there is no such run" for row in figure.rows if row.optional),
    )
    return write_drawing(drawing, lab.results)


def without(folder: Path, *packages: str) -> dict[str, str]:
    """An environment in which these packages cannot be imported."""
    (folder / "sitecustomize.py").write_text(
        "import sys\n"
        "class Without:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] in {packages!r}:\n"
        "            raise ModuleNotFoundError(f'{name} is not to be imported', name=name)\n"
        "sys.meta_path.insert(0, Without())\n"
    )
    known = environment()
    return known | {"PYTHONPATH": os.pathsep.join([str(folder), known["PYTHONPATH"]])}


def execute(
    lab: Lab, *words: str, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-m", "analysis.execution", *words]
    options = ["--results", str(lab.results), "--profile", "smoke", "--jobs", str(JOBS)]
    own = ["--registry", str(lab.registry), "--row", "pair/full"]
    return subprocess.run(
        [*command, *options, *own],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=600,
        env=env or environment(),
        check=False,
    )


def cells(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text())["cells"]


def outputs(path: Path) -> list[dict[str, Any]]:
    return [o for cell in cells(path) if cell["cell_type"] == "code" for o in cell["outputs"]]


def assert_shows_its_figure(path: Path) -> None:
    """Executed to its end, in order, without error or warning; names no place of a machine."""
    code = [cell for cell in cells(path) if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    for output in outputs(path):
        assert output["output_type"] != "error", output
        assert output.get("name") != "stderr", output
    text = path.read_text()
    assert not ELSEWHERE.search(re.sub(r'"image/png": "[^"]*"', "", text))
    assert "-s0-" in text  # the runs are named
    if "tour" not in path.stem:
        assert any("image/png" in output.get("data", {}) for output in outputs(path))


@pytest.fixture(scope="module")
def store(extracted: Lab, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """Two small runs, extracted, and a description of every figure of the project."""
    lab = extracted.copy(tmp_path_factory.mktemp("notebooks") / "results")
    for figure in FIGURES.values():
        describe(lab, figure)
    return lab


@pytest.fixture(scope="module")
def executed(store: Lab, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """All notebooks executed where there is no torch. Do not write to it."""
    said = execute(store, env=without(tmp_path_factory.mktemp("site"), "torch"))
    assert said.returncode == 0, said.stdout + said.stderr
    assert said.stdout.count(".ipynb") == len(notebooks())
    return store


# --- executed on small real runs ------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", notebooks())
def test_each_is_executed_without_torch(executed: Lab, name: str) -> None:
    assert_shows_its_figure(executed.results / "notebooks" / f"{name}-smoke.ipynb")


@pytest.mark.slow
def test_what_is_missing_is_said(executed: Lab) -> None:
    text = (executed.results / "notebooks" / "figure08-smoke.ipynb").read_text()
    assert "Missing: table2/seaformer-b-cac.ade20k" in text
    text = (executed.results / "notebooks" / "figure01-smoke.ipynb").read_text()
    assert "Nothing is missing." in text


@pytest.mark.slow
def test_the_tour_ends_with_the_verdict_of_the_exported_table(executed: Lab) -> None:
    table = json.loads((executed.results / "tables" / "pair-smoke.json").read_text())
    (row,) = [row for row in table["rows"] if row["row"] == "full"]
    said = "".join(
        line
        for output in outputs(executed.results / "notebooks" / "tour-smoke.ipynb")
        for line in output.get("text", [])
    )
    assert f"gain over Baseline: {row['gain_points']:+.2f} points" in said
    assert f"[{row['gain_low_points']:+.2f}, {row['gain_high_points']:+.2f}]" in said
    ours, exported = [line for line in said.splitlines() if row["versus_paper"] in line][-2:]
    assert ours.endswith(f"{row['versus_paper']} ({row['versus_paper_reason']})")
    assert exported == f"exported: {row['versus_paper']} ({row['versus_paper_reason']})"


@pytest.mark.slow
def test_equal_results_give_equal_files(executed: Lab, tmp_path: Path) -> None:
    said = execute(executed, "figure1", "--out", str(tmp_path))
    assert said.returncode == 0, said.stdout + said.stderr
    again = (tmp_path / "figure01-smoke.ipynb").read_bytes()
    assert again == (executed.results / "notebooks" / "figure01-smoke.ipynb").read_bytes()


@pytest.mark.slow
def test_a_damaged_inspection_is_one_sentence_and_keeps_the_old_file(
    executed: Lab, tmp_path: Path
) -> None:
    lab = executed.copy(tmp_path / "results")
    before = (lab.results / "notebooks" / "figure03-smoke.ipynb").read_bytes()
    path = inspection_path(lab.store, lab.record("ssa").run_id)
    path.write_bytes(path.read_bytes()[:-100])
    said = execute(lab, "figure3")
    assert_clear(said, 1, "figure03-smoke: InspectionError:", "is damaged", "run_all.sh extract")
    assert (lab.results / "notebooks" / "figure03-smoke.ipynb").read_bytes() == before


# --- what cannot be executed ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["figure4", "figure04"])
def test_a_figure_that_is_not_drawn_is_left_out(tmp_path: Path, name: str) -> None:
    lab = Lab(tmp_path / "results", tmp_path)
    said = execute(lab, name)
    assert_clear(said, 3, "figure04-smoke is left out", "`./run_all.sh figure4 --results results")
    assert not (lab.results / "notebooks").exists()


def test_a_figure_that_the_profile_cannot_have_is_left_out_and_says_why(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-m", "experiments", "notebooks", "extra_variance"]
    said = finished([*command, "--results", str(tmp_path), "--profile", "camvid"])
    assert_clear(
        said, 3, "extra_variance-camvid is left out", "the profile camvid trains on camvid"
    )
    assert "does it" not in said.stdout


def test_an_unknown_notebook_is_a_wrong_command(tmp_path: Path) -> None:
    said = execute(Lab(tmp_path / "results", tmp_path), "figure99")
    assert_clear(said, 2, "figure99")


def test_missing_packages_are_named_with_their_remedy(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "results", tmp_path)
    said = execute(lab, "tour", env=without(tmp_path, "jupytext"))
    assert_clear(said, 1, "needs the package jupytext", "requirements/lock-dev.txt")


def test_the_verb_hands_its_options_over(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-m", "experiments", "notebooks", "extra_classes"]
    said = finished([*command, "--results", str(tmp_path), "--profile", "camvid"])
    assert_clear(said, 3, "extra_classes-camvid is left out")


# --- what is shown --------------------------------------------------------------------------------


def test_a_gain_is_the_median_over_runs_with_the_same_seed() -> None:
    figure = open_figure("extra_boundary", Chosen(REFERENCE))
    table = gain_table(figure, "band_px", "miou_percent")
    ours, theirs = (
        np.stack([band_miou(inspection) for inspection in line.inspections])
        for line in (figure.material.others[0], figure.material.baseline)
    )
    # the last column is the whole image, which the table has as band 0
    gains = np.roll(ours - theirs, 1, axis=1)
    np.testing.assert_allclose(table["gain"], np.median(gains, axis=0))
    np.testing.assert_allclose(table["lowest_gain"], gains.min(axis=0))
    np.testing.assert_allclose(table["highest_gain"], gains.max(axis=0))


# --- what is kept ---------------------------------------------------------------------------------


def test_every_figure_has_a_notebook() -> None:
    stems = {figure_stem(name, "quick") for name in FIGURES}
    assert {*stems, "tour"} == set(notebooks())


@pytest.mark.parametrize("path", notebooks().values(), ids=lambda path: path.stem)
def test_the_shipped_notebook_has_the_cells_of_its_source(path: Path) -> None:
    shipped = path.with_suffix(".ipynb")
    document = json.loads(shipped.read_text())
    expected = read_source(path)
    assert document["metadata"] == dict(expected.metadata)
    assert [
        (cell["id"], cell["cell_type"], "".join(cell["source"])) for cell in cells(shipped)
    ] == [(cell.id, cell.cell_type, cell.source) for cell in expected.cells]
    assert_shows_its_figure(shipped)


def test_the_sources_are_formatted() -> None:
    # the linter leaves notebooks out, whose last lines are expressions
    files = [str(path) for path in notebooks().values()]
    checked = finished([sys.executable, "-m", "ruff", "format", "--check", *files])
    assert checked.returncode == 0, checked.stdout
