"""Tables as files. UPDATE_GOLDEN=1 writes the golden files anew; look at the difference."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from samples import make_areas, make_record, make_spec

from experiments.assemble import RowResult, TableResult
from experiments.console import show_table
from experiments.counts import count_cells
from experiments.export import (
    export,
    file_stem,
    show_gain,
    show_summary,
    to_csv,
    to_json,
    to_latex,
    to_markdown,
)
from experiments.registry import load_registry
from experiments.schema import ClassifierChoice, Reported, Row, Table
from experiments.statistics import Gain, Summary, bootstrap_gain, summarise
from experiments.text import escape_latex
from experiments.verdict import Verdict

GOLDEN = Path(__file__).with_name("golden")
WRITERS = {"csv": to_csv, "md": to_markdown, "tex": to_latex, "json": to_json}
SPECIALS = r"50 % of A_1 & B#2 costs $3 {~^} \n <τ ≤ −1> | [x] “é”"


def make_row(row_id: str, **changes: Any) -> RowResult:
    described: dict[str, Any] = {"label": row_id.title(), "reported": Reported(), "reading": None}
    described |= {key: changes.pop(key) for key in list(changes) if key in described}
    row = Row(id=row_id, classifier=ClassifierChoice(name="softmax"), **described)
    fields: dict[str, Any] = {
        "row": row,
        "model": "SeaFormer-L",
        "dataset": "scenes",
        "paper_dataset": "ade20k",
        "records": (),
        "stale": (),
        "absent": (),
        "blocked": False,
        "miou": None,
        "gain": None,
        "reference": None,
        "versus_paper": Verdict("not comparable", "quick"),
        "versus_reference": Verdict("no reference", "the project ships no run"),
        "counts": count_cells(row, None),
    }
    return RowResult(**fields | changes)


def make_result(profile: str = "quick", name: str = "table8") -> TableResult:
    """A table with everything that can happen to a row."""
    runs = [make_areas(seed, skill=0.6) for seed in range(3)]
    better = [make_areas(seed + 7, skill=0.7) for seed in range(3)]
    records = [
        # a name of its own: another field in RunSpec shall not change the golden files
        make_record(make_spec(seed=seed), areas).model_copy(update={"run_id": f"run-s{seed}"})
        for seed, areas in enumerate(runs)
    ]
    first = summarise([record.scores.miou for record in records])
    rows = (
        make_row(
            "baseline",
            reported=Reported(miou=42.36, macs_g=6.4),
            records=tuple(records),
            miou=first,
            reference=Summary(41.25, 41.0, 41.5, 3),
            versus_reference=Verdict("agrees", "|+0.10| ≤ 0.40, noise between seeds"),
        ),
        make_row(
            "better",
            label="+ SEPA",
            reading="The paper does not say how\n  SEPA alone decides.",
            records=tuple(records),
            miou=summarise([1 / 3, 2 / 3, 0.1 + 0.2]),
            gain=bootstrap_gain(better, runs),
            stale=("changed since: ssa.classifiers.ssa",),
        ),
        make_row(
            "worse",
            label=SPECIALS,
            records=tuple(records[:1]),
            miou=Summary(40.0, 40.0, 40.0, 1),
            gain=Gain(-1.5, -2.25, 0.0, 1, 6, 0.0625),
            absent=("seed 1: no record", "seed 2: the last attempt failed: 100 % of it."),
        ),
        make_row(
            "blocked",
            reported=Reported(miou=45.36),
            blocked=True,
            absent=("No CamVid in /data_root/camvid. Put it there.",),
            versus_paper=Verdict("blocked", "No CamVid in /data_root/camvid. Put it there."),
        ),
    )
    table = Table(
        name=name,
        title="Structure ablation of SEPA & SPPA",
        source="SSA-Seg (NeurIPS 2024), Table 8",
        rows=tuple(row.row for row in rows),
        model="seaformer_l",
        dataset="ade20k",
        columns=("macs_g", "miou"),
    )
    return TableResult(table, profile, profile, (0, 1, 2), rows, seed_deviation=0.3)


@pytest.mark.parametrize("suffix", WRITERS)
def test_exports_are_as_they_were(suffix: str) -> None:
    path, text = GOLDEN / f"table08.{suffix}", WRITERS[suffix](make_result())
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


def test_equal_results_give_equal_bytes(tmp_path: Path) -> None:
    first = {path.name: path.read_bytes() for path in export(make_result(), tmp_path / "a")}
    again = {path.name: path.read_bytes() for path in export(make_result(), tmp_path / "b")}
    assert first == again
    assert list(first) == ["table08.csv", "table08.md", "table08.tex", "table08.json"]


def test_csv_gives_every_number_back_exactly() -> None:
    result = make_result()
    rows = list(csv.DictReader(io.StringIO(to_csv(result))))
    assert [row["row"] for row in rows] == [row.row.id for row in result.rows]
    for read, row in zip(rows, result.rows):
        for column, value in {
            "miou_percent": row.miou and row.miou.median,
            "miou_min_percent": row.miou and row.miou.low,
            "miou_max_percent": row.miou and row.miou.high,
            "gain_points": row.gain and row.gain.value,
            "gain_low_points": row.gain and row.gain.low,
            "gain_high_points": row.gain and row.gain.high,
            "reported_miou_percent": row.row.reported.miou,
            "reference_miou_percent": row.reference and row.reference.median,
        }.items():
            assert (float(read[column]) if read[column] else None) == value, column
        assert int(read["seeds"]) == len(row.records)
        assert read["label"] == row.row.label


def test_json_leads_from_a_number_to_the_runs_behind_it() -> None:
    document = json.loads(to_json(make_result()))
    assert document["complete"] is False
    baseline = document["rows"][0]
    assert [run["seed"] for run in baseline["runs"]] == [0, 1, 2]
    for run in baseline["runs"]:
        assert run["run_id"] == f"run-s{run['seed']}"
        assert run["git_commit"] == "c" * 40
        assert run["device"] == "cpu: a processor"
    assert "NaN" not in to_json(make_result())


def test_markdown_has_one_cell_a_column() -> None:
    lines = [line for line in to_markdown(make_result()).splitlines() if line.startswith("|")]
    cells = [re.split(r"(?<!\\)\|", line) for line in lines]
    assert len(lines) == 2 + 4
    assert len({len(row) for row in cells}) == 1


def test_every_note_is_numbered_and_used() -> None:
    text = to_markdown(make_result())
    numbers = re.findall(r"^\[(\d+)\]", text, flags=re.MULTILINE)
    assert numbers == [str(n + 1) for n in range(len(numbers))]
    table = "\n".join(line for line in text.splitlines() if line.startswith("|"))
    assert all(f"[{number}]" in table for number in numbers)
    for words in ("SEPA alone decides", "Stale: changed since", "No CamVid", "One seed:"):
        assert words in text


@pytest.mark.parametrize(
    ("name", "profile", "stem"),
    [
        ("table8", "quick", "table08"),
        ("table13", "camvid", "table13-camvid"),
        ("mine", "quick", "mine"),
        ("mine", "smoke", "mine-smoke"),
    ],
)
def test_names_of_files(name: str, profile: str, stem: str) -> None:
    assert file_stem(make_result(profile, name)) == stem


def test_numbers_as_people_read_them() -> None:
    assert show_summary(Summary(41.256, 40.0, 42.0, 3)) == "41.26 (40.00–42.00)"
    assert show_summary(Summary(41.256, 41.256, 41.256, 1)) == "41.26"
    assert show_gain(Gain(1.234, -0.1, 2.3, 3, 8, 0.5)) == "+1.23 [−0.10, +2.30]"
    assert show_summary(None) == show_gain(None) == "–"


def test_the_console_prints_labels_as_they_stand() -> None:
    """rich would take [x] for markup and swallow it."""
    console = Console(width=250, file=io.StringIO())
    show_table(console, make_result())
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert SPECIALS in text
    assert "No CamVid in /data_root/camvid" in text


# --- LaTeX ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("character", "%&#$_{}~^\\<>|[]")
def test_what_latex_would_take_for_a_command_is_escaped(character: str) -> None:
    escaped = escape_latex(f"a{character}b")
    assert escaped != f"a{character}b"
    assert escaped.startswith("a")
    assert escaped.endswith("b")


def compiles(body: str, folder: Path) -> None:
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not here (Debian: texlive-latex-recommended)")
    preamble = "\\documentclass{article}\\usepackage{booktabs,graphicx}"
    document = f"{preamble}\\begin{{document}}\n{body}\n\\end{{document}}\n"
    (folder / "paper.tex").write_text(document)
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "paper.tex"]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, errors="replace", check=False
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Missing character" not in (folder / "paper.log").read_text(errors="replace")
    assert (folder / "paper.pdf").stat().st_size > 1000


def test_an_exported_table_compiles(tmp_path: Path) -> None:
    compiles(to_latex(make_result()), tmp_path)


def test_whatever_stands_in_the_registry_compiles(tmp_path: Path) -> None:
    texts: list[str] = []
    for table in load_registry().tables.values():
        texts += [table.title, table.source]
        for row in table.rows:
            texts += [row.label, row.reading or "", row.group or ""]
            texts += [str(note) for note in getattr(row, "notes", {}).values()]
    texts += [model.title for model in load_registry().models.values()]
    compiles("\n\n".join(escape_latex(" ".join(text.split())) for text in texts), tmp_path)
