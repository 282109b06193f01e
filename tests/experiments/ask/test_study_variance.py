"""The study of the variance from made records to its verdict and its figure."""

from __future__ import annotations

import io
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console
from samples import make_areas, put

from analysis.kinds import NothingToDrawError
from analysis.kinds import draw as draw_kind
from analysis.reading import Material, read_material
from experiments.declare.load import load_registry
from experiments.declare.run_spec import RunSpec
from experiments.draw.draw import StoredRuns, draw_stored, gather
from experiments.judge.assemble import assemble
from experiments.judge.counts import Counter
from experiments.judge.tables import counts_of
from experiments.plan.request import Request, stored_request
from experiments.plan.resolve import Blocked
from experiments.plan.stored_rows import StoredResolver, StoredRows
from experiments.show.export import show_signed, to_json, to_markdown
from experiments.store.promises import write_promise

GAIN = {"0": 0.0, "0.3": 0.06, "0.6": 0.12, "1": 0.2}  # of the chance that a pixel is right
NUMBERS = (
    "seeds",
    "miou_percent",
    "miou_min_percent",
    "miou_max_percent",
    "gain_points",
    "gain_low_points",
    "gain_high_points",
    "gain_p_value",
)
TABLE = load_registry().table("study_variance")
FIGURE = load_registry().figure("extra_variance")


@dataclass(frozen=True)
class Study:
    """A folder of results with made runs of every row."""

    results: Path

    def call(self, profile: str = "smoke") -> Request:
        nowhere = self.results.parent / "data"
        return stored_request(profile, 2, self.results, nowhere)

    def copy(self, folder: Path) -> Study:
        shutil.copytree(self.results, folder / "results")
        return Study(folder / "results")

    def lose(self, row: str, seed: int) -> None:
        spec = self.call().resolver.resolve(TABLE, TABLE.row(row), seed)
        assert isinstance(spec, RunSpec)
        shutil.rmtree(self.call().store.folder(spec.run_id).path)

    def exported(self) -> tuple[str, dict[str, Any]]:
        """The table as Markdown and as JSON."""
        call = self.call()
        counter = Counter(call.registry, self.results / "counts")
        (planned,) = call.plan([TABLE]).tables
        result = assemble(planned, call.store, None, counts_of(TABLE, counter))
        return to_markdown(result), json.loads(to_json(result))

    def drawn(self, profile: str = "smoke") -> tuple[int, str]:
        """Draw the figure from what is stored; exit code and what was said."""
        said = io.StringIO()
        console = Console(file=said, width=200)
        return draw_stored(self.call(profile), [FIGURE], console), said.getvalue()

    @property
    def files(self) -> Path:
        return self.results / "figures" / "extra_variance-smoke"

    @property
    def caption(self) -> str:
        return " ".join(self.files.with_suffix(".txt").read_text().split())

    @property
    def numbers(self) -> pd.DataFrame:
        return pd.read_csv(self.files.with_suffix(".csv"), float_precision="round_trip")

    @property
    def material(self) -> Material:
        return read_material(self.files.with_suffix(".json"))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Areas whose gain grows with the shift, and the figure drawn from them. Do not write to it."""
    made = Study(tmp_path_factory.mktemp("study") / "results")
    call = made.call()
    for number, row in enumerate(TABLE.rows):
        gain = GAIN[row.id.rsplit("-", 1)[1]] if row.classifier.name == "ssa" else 0.0
        for seed in call.seeds:
            spec = call.resolver.resolve(TABLE, row, seed)
            assert isinstance(spec, RunSpec)
            put(call.store, spec, make_areas(10 * number + seed, images=40, skill=0.6 + gain))
    code, said = made.drawn()
    assert (code, "Written:" in said) == (0, True), said
    return made


@pytest.fixture(scope="module")
def exported(study: Study) -> tuple[str, dict[str, Any]]:
    return study.exported()


def trend_in(document: dict[str, Any]) -> dict[str, Any]:
    (trend,) = [claim for claim in document["claims"] if claim["kind"] == "trend"]
    return trend


# --- the table ------------------------------------------------------------------------------------


def test_a_gain_that_grows_is_found(exported: tuple[str, dict[str, Any]]) -> None:
    markdown, document = exported
    trend = trend_in(document)
    assert document["complete"]
    assert trend["verdict"] == "holds"
    assert 0 < trend["low"] <= trend["value"] <= trend["high"]
    assert "profile smoke" in markdown
    assert "the more SSA-Seg gains (what the paper's explanation" in markdown
    assert "**holds**" in markdown


def test_a_study_of_ours_has_no_column_of_the_papers(exported: tuple[str, dict[str, Any]]) -> None:
    header = next(line for line in exported[0].splitlines() if line.startswith("|"))
    assert "Paper" not in header
    assert "Versus paper" not in header


# --- the figure has the table's numbers -----------------------------------------------------------


def lose_nothing(study: Study) -> None:
    pass


def lose_a_seed(study: Study) -> None:
    study.lose("ssa-shift-0.3", 1)


def lose_other_seeds(study: Study) -> None:
    """No seed is left that a row and its baseline share."""
    study.lose("ssa-shift-0.3", 1)
    study.lose("softmax-shift-0.3", 0)


def lose_a_row(study: Study) -> None:
    study.lose("ssa-shift-1", 0)
    study.lose("ssa-shift-1", 1)


def look_while_seeds_are_added(study: Study) -> None:
    """Of two seeds no interval then has an end."""
    write_promise(study.results, TABLE.name, "smoke", {})


@pytest.mark.parametrize(
    "spoil",
    [lose_nothing, lose_a_seed, lose_other_seeds, lose_a_row, look_while_seeds_are_added],
)
def test_every_number_is_the_exported_tables(
    study: Study, tmp_path: Path, spoil: Callable[[Study], None]
) -> None:
    spoilt = study.copy(tmp_path)
    spoil(spoilt)
    code, _ = spoilt.drawn()
    assert code == (0 if spoil in (lose_nothing, look_while_seeds_are_added) else 3)
    document = spoilt.exported()[1]
    rows = {row["run_ids"]: row for row in document["rows"] if row["seeds"]}
    drawn = {row["run_ids"]: row for row in spoilt.numbers.to_dict("records")}
    assert drawn.keys() == rows.keys()
    for name, row in rows.items():
        assert drawn[name]["shift"] == row["dataset_settings"]["shift"]
        shown = {key: n if math.isfinite(n := drawn[name][key]) else None for key in NUMBERS}
        assert shown == {key: row[key] for key in NUMBERS}
    trend, caption = trend_in(document), spoilt.caption
    assert ("without end" in caption) == (spoil is look_while_seeds_are_added)
    if trend["value"] is None:
        assert "is not judged" in caption
    else:
        endless = {"low": -math.inf, "high": math.inf}
        numbers = {key: endless.get(key) if trend[key] is None else trend[key] for key in trend}
        value, *ends = (show_signed(numbers[key]) for key in ("value", "low", "high"))
        assert f"{trend['verdict']}; slope {value} points" in caption
        assert f"[{ends[0]}, {ends[1]}]" in caption
        assert ("[−∞, +∞]" in caption) == (spoil is look_while_seeds_are_added)


def test_two_shifts_have_no_trend(study: Study) -> None:
    material = study.material
    rows = tuple(row for row in FIGURE.rows if row.row.endswith(("-0", "-1")))
    two = replace(
        material,
        drawing=material.drawing.model_copy(
            update={"figure": FIGURE.model_copy(update={"rows": rows})}
        ),
        lines=tuple(x for x in material.lines if x.dataset_settings["shift"] in (0, 1)),
    )
    drawn = draw_kind(two)
    assert len(drawn.frame) == len(rows) == 4
    assert "is not judged: that takes a common seed of every row, at 3 shifts" in drawn.note


def test_the_picture_shows_medians_gains_and_intervals(study: Study) -> None:
    drawn = draw_kind(study.material)
    miou, gain = drawn.figure.axes
    frame = drawn.frame
    for axes, column, low, high, labels in (
        (miou, "miou_percent", "miou_min_percent", "miou_max_percent", ("Softmax", "SSA-Seg")),
        (gain, "gain_points", "gain_low_points", "gain_high_points", ("SSA-Seg",)),
    ):
        lines = {line.get_label(): line for line in axes.lines}
        for label, bars in zip(labels, axes.collections, strict=True):
            rows = frame[frame["label"] == label]
            assert list(lines[label].get_xdata()) == [0.0, 0.3, 0.6, 1.0]
            assert list(lines[label].get_ydata()) == list(rows[column])
            ends = [[y for _, y in segment] for segment in bars.get_segments()]
            assert ends == [list(pair) for pair in zip(rows[low], rows[high])]


def test_each_line_of_the_caption_says_its_shift(study: Study) -> None:
    for name in ("0.0", "0.3", "0.6", "1.0"):
        for label in ("Softmax", "SSA-Seg"):
            assert f"{label} on scenes, shift {name}, seeds 0, 1: seaformer_l-" in study.caption


# --- runs that are not the study's ----------------------------------------------------------------


def test_runs_without_a_shift_are_one_sentence(study: Study) -> None:
    material = study.material
    records = tuple(
        record.model_copy(
            update={"spec": record.spec.model_copy(update={"dataset_settings": {"train": 3}})}
        )
        for record in material.baseline.records
    )
    line = replace(material.baseline, records=records)
    with pytest.raises(NothingToDrawError, match="name rows that set it"):
        draw_kind(replace(material, lines=(line,)))


def test_each_shift_has_its_own_runs_where_no_scenes_can_be_made(
    study: Study, tmp_path: Path
) -> None:
    spoilt = study.copy(tmp_path)
    shutil.rmtree(spoilt.results / "cache")
    (spoilt.results / "cache").write_text("scenes cannot be made here")
    call = spoilt.call()
    assert all(isinstance(call.resolver.resolve(TABLE, row, 0), Blocked) for row in TABLE.rows)
    described = spoilt.files.with_suffix(".json").read_text()
    assert spoilt.drawn()[0] == 0
    assert spoilt.files.with_suffix(".json").read_text() == described
    rows = StoredRows([call.store])
    stored = StoredResolver(call.registry, call.profile, call.workspace, stored=rows)
    for row in TABLE.rows:
        found = stored.resolve(TABLE, row, 1)
        assert isinstance(found, RunSpec)
        assert found.dataset_settings["shift"] == row.dataset_settings["shift"]
    other = load_registry().table("table8")
    found = stored.resolve(other, other.row("baseline"), 1)
    assert isinstance(found, RunSpec)
    assert found.dataset_settings["shift"] == 0.6


def test_a_profile_on_other_data_is_told_in_one_sentence(study: Study, tmp_path: Path) -> None:
    """Also where it has the very runs that the rows would be without their shift."""
    spoilt = study.copy(tmp_path)
    call = spoilt.call("camvid")
    other = call.registry.table("table8")
    for row in ("baseline", "full"):
        blocked = call.resolver.resolve(other, other.row(row), 0)
        assert isinstance(blocked, Blocked)
        assert blocked.draft is not None
        spec = blocked.draft.model_copy(update={"dataset_digest": "a" * 64})
        put(call.store, spec, make_areas(0))
    assert gather(call, call.registry.figure("extra_classes"), StoredRuns(call), None).runs
    assert gather(call, FIGURE, StoredRuns(call), None).runs == ()
    code, said = spoilt.drawn("camvid")
    assert code == 3
    assert said == (
        "extra_variance is not drawn: The row sets shift of the data set scenes, but the profile "
        "camvid trains on camvid; run it with --profile quick.\n"
    )
    assert not spoilt.files.with_name("extra_variance-camvid.json").exists()
