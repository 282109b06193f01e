"""Tables as files. UPDATE_GOLDEN=1 writes the golden files anew; look at the difference."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from references import PAPER_TABLES
from rich.console import Console
from samples import make_areas, make_record, make_spec

from experiments.declare.load import load_registry
from experiments.declare.metrics import METRICS
from experiments.declare.table import ClassifierChoice, Reported, Row, Table
from experiments.judge.assemble import RowResult, TableResult, assemble
from experiments.judge.counts import Count, count_cells
from experiments.judge.ranking import marks
from experiments.judge.statistics import Gain, Summary, summarise
from experiments.judge.statistics import gain as gain_of_areas
from experiments.judge.verdict import Verdict
from experiments.plan.request import stored_request
from experiments.show.console import show_table
from experiments.show.count_table import CountRow, CountTable, export_counts
from experiments.show.export import (
    export,
    file_stem,
    show_gain,
    show_summary,
    to_csv,
    to_json,
    to_latex,
    to_markdown,
    to_paper_latex,
    to_paper_markdown,
)
from experiments.show.paper_layout import lay_out, miou_digits
from experiments.show.text import PREAMBLE, Cell, Section, escape_latex, latex_cell, with_arrow

GOLDEN = Path(__file__).with_name("golden")
WRITERS = {
    ".csv": to_csv,
    ".md": to_markdown,
    ".tex": to_latex,
    ".json": to_json,
    "-style-paper.md": to_paper_markdown,
    "-style-paper.tex": to_paper_latex,
}
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
            gain=gain_of_areas(better, runs),
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
    path, text = GOLDEN / f"table08{suffix}", WRITERS[suffix](make_result())
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


def test_a_verdict_on_all_rows_takes_no_column_in_latex() -> None:
    result = make_result()
    assert r"& Versus paper & Versus reference \\" in to_latex(result)
    verdict = Verdict("not comparable", "quick")
    rows = [replace(row, versus_paper=verdict) for row in result.rows]
    alike = replace(result, rows=tuple(rows))
    text = to_latex(alike)
    assert text.count(str(verdict)) == 1
    assert rf"Versus paper, in every row: {verdict}.}}" in text
    assert r"& Reference & Versus reference \\" in text
    assert to_markdown(alike).count(str(verdict)) == len(rows), "a screen is wide"


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


def test_symbols_of_formulas_are_printed_too(tmp_path: Path) -> None:
    text = "±2 ≈ Δ², ≥ 3 °C … ‘α’ Å × é–ž"
    escaped = escape_latex(text)
    assert r"$\pm$" in escaped
    assert r"$\Delta$" in escaped
    compiles(escaped, tmp_path)


def compiles(body: str, folder: Path) -> None:
    (folder / "preamble.tex").write_text(PREAMBLE)
    start = "\\documentclass{article}\\input{preamble}"
    document = f"{start}\\begin{{document}}\n{body}\n\\end{{document}}\n"
    (folder / "paper.tex").write_text(document)
    pdflatex(folder, "paper", "paper.tex")


def pdflatex(folder: Path, name: str, source: str) -> None:
    if shutil.which("pdflatex") is None:
        pytest.skip("no pdflatex: apt-get install texlive-latex-recommended")
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "-jobname", name, source]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, errors="replace", check=False
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Missing character" not in (folder / f"{name}.log").read_text(errors="replace")
    assert (folder / f"{name}.pdf").stat().st_size > 1000


def test_an_exported_table_compiles(tmp_path: Path) -> None:
    compiles(to_latex(make_result()), tmp_path)


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TableResult]:
    """Every table of the registry, assembled from nothing and filled with made numbers."""
    call = stored_request("quick", [0, 1, 2], tmp_path_factory.mktemp("results"))
    filled = {}
    for planned in call.plan(list(call.registry.tables.values())).tables:
        empty = assemble(planned, call.store, None)
        rows = tuple(
            replace(
                row,
                miou=summarise([30 + index / 7, 31 + index / 3, 29.5 + index % 4]),
                gain=Gain((-1) ** index * (1.25 + index), -9.0, 9.0, 3, 8, 0.5),
            )
            if index % 5 != 3
            else row
            for index, row in enumerate(empty.rows)
        )
        filled[planned.table.name] = replace(empty, rows=rows)
    return filled


def test_every_table_compiles_in_both_styles(
    everything: dict[str, TableResult], tmp_path: Path
) -> None:
    body = []
    for result in everything.values():
        paths = export(result, tmp_path, style="paper")
        body += [f"\\input{{{path.stem}}}\\clearpage" for path in paths if path.suffix == ".tex"]
    assert len(body) == 2 * len(everything) >= 2 * 13
    compiles("\n".join(body), tmp_path)


@pytest.mark.parametrize("name", ["table1", "table3", "table8"])
def test_exported_counts_compile(name: str, tmp_path: Path) -> None:
    table = load_registry().table(name)
    count = Count(params_m=8.25, macs_g=1.5, macs_all_g=2.0, num_classes=150, size=512)
    rows = tuple(
        CountRow(row, "ade20k", count, count_cells(row, count), 0.125, -0.5) for row in table.rows
    )
    paths = export_counts(CountTable(table, rows), tmp_path)
    (path,) = (path for path in paths if path.suffix == ".tex")
    compiles(f"\\input{{{path.stem}}}", tmp_path)


def test_a_table_compiles_alone_with_what_stands_beside_it(tmp_path: Path) -> None:
    export(make_result(), tmp_path)
    pdflatex(tmp_path, "table08", "\\def\\tablefile{table08}\\input{standalone}")


@pytest.mark.parametrize(
    ("name", "suffix"), [("table1", "tex"), ("table2", "md"), ("table13", "md")]
)
def test_the_papers_own_columns_are_as_they_were(
    everything: dict[str, TableResult], name: str, suffix: str
) -> None:
    result = everything[name]
    # what follows from the run's settings is not the layout's affair
    bare = [replace(row, absent=(), dataset="scenes") for row in result.rows]
    write = to_paper_latex if suffix == "tex" else to_paper_markdown
    text = write(replace(result, rows=tuple(bare)))
    path = GOLDEN / f"{file_stem(result)}-style-paper.{suffix}"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


SPEC_NAMES = {"mIoU": "miou", "params_M": "params_m", "flops_G": "macs_g"}


@pytest.mark.parametrize("number", range(1, 14))
def test_the_columns_are_those_that_the_paper_prints(number: int) -> None:
    table = load_registry().table(f"table{number}")
    printed = json.loads(PAPER_TABLES.read_text())["tables"][f"table_{number}"]["columns"]
    datasets = {"ADE20K": "ade20k", "COCO-Stuff": "coco_stuff10k", "PASCAL": "pascal_context"}
    expected = []
    for column in printed:
        over, _, metric = column.rpartition(" ")
        if (name := SPEC_NAMES.get(metric, metric)) in METRICS:
            prefix = next((ours for theirs, ours in datasets.items() if theirs in over), "")
            expected.append(f"{prefix}.{name}" if prefix else name)
    layout = table.layout
    assert layout is not None
    assert list(layout.columns) == expected
    assert layout.backbone == ("backbone" in printed)
    stubs = [c for c in printed if "lambda" in c]
    assert [f"λ_{c[-1]}" for c in stubs] == list(layout.switches)


def test_each_printed_number_stands_on_a_reported_line(
    everything: dict[str, TableResult],
) -> None:
    for result in everything.values():
        laid = lay_out(result, {})
        cells = [c for row in laid.rows if not isinstance(row, Section) for c in row]
        shown = Counter(c.text for c in cells if c.italic)
        digits = miou_digits(result)
        for row in result.rows:
            if row.row.reported.miou is not None:
                assert shown[f"{row.row.reported.miou:.{digits}f}"] > 0, row.row.id
        ours = {c.text for c in cells if not c.italic}
        for row in result.rows:
            if row.miou is not None:
                assert f"{row.miou.median:.{digits}f}" in ours, row.row.id


# --- which is best --------------------------------------------------------------------------------


def ranked(*mious: float | None, **changes: Any) -> dict[str, str]:
    rows = tuple(
        make_row(f"r{index}", miou=None if miou is None else Summary(miou, miou, miou, 1))
        for index, miou in enumerate(mious)
    )
    result = replace(make_result(), rows=rows)
    table = result.table.model_copy(update={"rows": tuple(row.row for row in rows)} | changes)
    return dict(marks(replace(result, table=table)))


def test_the_best_is_bold_and_the_second_underlined_by_the_raw_number() -> None:
    assert ranked(40.0, 42.001, 42.002) == {"r2": "best", "r1": "second"}
    assert ranked(40.0, None, 41.0) == {"r2": "best"}, "of two there is no second"
    assert ranked(40.0) == ranked(None, None) == {}


def test_equals_share_a_place() -> None:
    assert ranked(42.0, 42.0, 41.0) == {"r0": "best", "r1": "best"}
    assert ranked(43.0, 42.0, 42.0, 41.0) == {"r0": "best", "r1": "second", "r2": "second"}


def test_rows_over_another_baseline_are_not_compared(everything: dict[str, TableResult]) -> None:
    result = everything["table1"]
    found = marks(result)
    pairs = {(result.table.baseline_of(r.row).id, r.paper_dataset) for r in result.rows}
    whole = [
        key
        for key in pairs
        if all(
            r.miou
            for r in result.rows
            if (result.table.baseline_of(r.row).id, r.paper_dataset) == key
        )
    ]
    assert list(found.values()).count("best") == len(whole)
    assert "second" not in found.values()


@pytest.mark.parametrize(
    ("signed", "shown"),
    [
        ("+1.20", "↑1.20"),
        ("−0.30 [−1.00, +2.00]", "↓0.30 [−1.00, +2.00]"),
        ("+0.00", "0.00"),
        ("−0.0", "0.0"),
        ("–", "–"),
    ],
)
def test_a_gain_points_up_or_down(signed: str, shown: str) -> None:
    assert with_arrow(signed) == shown


def test_latex_marks_what_stands_out() -> None:
    assert latex_cell(Cell("42.1", " (4–5)", "best")) == r"\textbf{42.1} (4--5)"
    assert latex_cell(Cell("42.1", mark="second", notes=(1, 3))) == (
        r"\underline{42.1}\textsuperscript{1,3}"
    )
    assert latex_cell(Cell("40.0", " (↑1.0)", italic=True)) == r"\textit{40.0 ($\uparrow$1.0)}"
    assert latex_cell(Cell("+1.0", arrow=True)) == r"$\uparrow$1.0"
    assert latex_cell("λ_r & S_f") == r"$\lambda_r$ \& S\_f"


def test_whatever_stands_in_the_registry_compiles(tmp_path: Path) -> None:
    texts: list[str] = []
    for table in load_registry().tables.values():
        texts += [table.title, table.source]
        for row in table.rows:
            texts += [row.label, row.reading or "", row.group or ""]
            texts += [str(note) for note in getattr(row, "notes", {}).values()]
    texts += [model.title for model in load_registry().models.values()]
    compiles("\n\n".join(escape_latex(" ".join(text.split())) for text in texts), tmp_path)
