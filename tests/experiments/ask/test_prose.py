"""Numbers in texts: found, held against what is stored, written anew."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from lab import PROJECT, environment
from samples import make_areas, put

from experiments.ask.check import check
from experiments.ask.findings import Checked
from experiments.ask.markdown_text import read_markdown
from experiments.ask.quoted import agrees, is_result, quotes, rewritten
from experiments.ask.sources import Sources, expand
from experiments.declare.load import load_registry
from experiments.errors import RegistryError, UnclearNameError
from experiments.judge.tables import assembled
from experiments.machine import module_command
from experiments.plan.request import Request, stored_request
from experiments.show.export import export
from experiments.show.macros import commands, letters, macro_prefix
from experiments.show.quantities import Quantity
from experiments.store.promises import write_promise

TABLE = """
name: quoted
title: Three small rows
source: nowhere
model: segnext_t
dataset: ade20k
rows:
  - {id: baseline, label: Baseline, classifier: {name: softmax}, reported: {miou: 40.0}}
  - {id: dice-0.5, label: + dice, classifier: {name: softmax, overrides: {dice_weight: 0.5}}}
  - {id: full, label: "SSA-Seg, over all", classifier: {name: ssa}}
claims:
  - {id: helps, kind: gain, text: It helps, where: here, pairs: [[full, baseline]]}
"""
SKILLS = {"baseline": 0.4, "dice-0.5": 0.5, "full": 0.8}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three rows with three seeds each, as made areas have it. Do not write to it."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "registry" / "tables").mkdir(parents=True)
    (folder / "registry" / "tables" / "quoted.yaml").write_text(TABLE)
    request = stored_request("smoke", 3, folder / "results", registry=[folder / "registry"])
    for row, skill in SKILLS.items():
        fill(request, row, skill)
    export(result_of(request), request.workspace.results / "tables")
    return folder


@pytest.fixture
def stored(made: Path, tmp_path: Path) -> Request:
    """The same, to be changed."""
    shutil.copytree(made / "results", tmp_path / "results")
    return stored_request("smoke", 3, tmp_path / "results", registry=[made / "registry"])


def fill(request: Request, row_id: str, skill: float, **environment: object) -> None:
    (planned,) = request.plan([request.registry.table("quoted")]).tables
    for row in planned.rows:
        for cell in row.cells:
            if row.row.id == row_id:
                assert cell.spec is not None
                areas = make_areas(10 * cell.spec.seed + len(row_id), skill=skill)
                shutil.rmtree(request.store.folder(cell.spec.run_id).path, ignore_errors=True)
                put(request.store, cell.spec, areas, **environment)


def result_of(request: Request):  # type: ignore[no-untyped-def]
    (result,) = assembled(request, request.plan([request.registry.table("quoted")]))
    return result


Write = Callable[..., tuple[Path, Checked]]


@pytest.fixture
def written(stored: Request, tmp_path: Path) -> Write:
    """Writes a text and checks it."""

    def write(text: str | None, *, fix: bool = False, name: str = "a.md") -> tuple[Path, Checked]:
        path = tmp_path / name
        if text is not None:
            path.write_text(text)
        return path, check(stored, [path], fix=fix)

    return write


def test_a_gain_over_another_row_is_sequential_where_the_table_is(
    stored: Request, written: Write
) -> None:
    """Its interval and the table's own of the same two rows are one."""
    text = "{}<!-- from: quoted/full over baseline/gain -->, {}<!-- from: quoted/full/gain -->."
    intervals = []
    for promised in (False, True):
        if promised:
            write_promise(stored.workspace.results, "quoted", "smoke", {"full": 3})
        path, _ = written(text.format("+1.0 [0.0, 2.0]", "+1.0 [0.0, 2.0]"), fix=True)
        over, own = re.findall(r"\[.*?\]", path.read_text())
        assert over == own
        intervals.append(own)
    assert intervals[0] != intervals[1]


def faults(checked: Checked) -> list[str]:
    return [finding.fault for finding in checked.findings]


# --- what counts ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "+7.6", "−2.19 or so", "gains -0.5 there", "0.75 [0.42, 0.96] of it", "[−0.4,\n4.3]",
        "7.58 points", "8 points", "2 percent points", "49.38 % mIoU", "mIoU of 41.82", "mIoU 41.8",
        "p = 0.015", "p < 0.05", "47.1 ± 0.3",
    ],
)  # fmt: skip
def test_a_number_of_ours_is_known_by_its_sign_unit_or_interval(text: str) -> None:
    assert any(is_result(quote, text) for quote in quotes(text)), text


@pytest.mark.parametrize(
    "text",
    [
        "Python 3.10", "on 26 November 2026-11-26", "0.35× of softmax", "3 seeds, 95 % interval",
        "(2, 150, 64, 64)", "within 2e-6 or 1.1e-5", "1.2.3", "shift 0.3", "8.6 M", "table-8",
        "see [1, 2]", "1 % and 10 % of a scene", "5.4–6.0×", "onedl-mmcv 2.3.6",
    ],
)  # fmt: skip
def test_versions_dates_sizes_and_shares_are_none(text: str) -> None:
    assert not any(is_result(quote, text) for quote in quotes(text)), text


def test_code_links_and_comments_are_no_prose() -> None:
    text = (
        "`+1.5 points` [+2.5](a/+3.5.md)\n\n```\n+4.5 points\n```\n<!-- +5.5 -->\nhttp://a/+6.5\n"
    )
    assert [quote.value for quote in read_markdown(text).unsourced] == ["+2.5"]


GAIN = Quantity(7.5766, 3.3909, 11.7624, "interval", signed=True)
ENDLESS = Quantity(0.08, -math.inf, math.inf, "interval", signed=True)  # of few seeds
LOSS = Quantity(-2.1934, -6.9712, -0.6, "interval", signed=True)


@pytest.mark.parametrize(
    ("text", "quantity", "expected"),
    [
        ("+1.0 [2.0, 3.0]", GAIN, "+7.6 [3.4, 11.8]"),
        ("+1.00 [+2.00,\n  +3.00]", GAIN, "+7.58 [+3.39,\n  +11.76]"),
        ("1.0", GAIN, "7.6"),
        ("8", GAIN, "8"),
        ("1.00 points [2.0, 3.0]", GAIN, "7.58 points [3.4, 11.8]"),
        ("+1.0 [−2.0, 3.0]", LOSS, "−2.2 [−7.0, −0.6]"),
        ("-1.0", LOSS, "-2.2"),
        ("−1.0 [−2.0, −3.0]", GAIN, "+7.6 [+3.4, +11.8]"),
        ("41.82 (40.28–42.88)", Quantity(1.0, 0.5, 2.25, "range"), "1.00 (0.50–2.25)"),
        ("[2.0, 3.0]", GAIN, "[3.4, 11.8]"),
        ("+1.0 [+2.0, +3.0]", ENDLESS, "+0.1 [−∞, +∞]"),
        ("+1.00 [−∞, +∞]", GAIN, "+7.58 [+3.39, +11.76]"),
    ],
)
def test_a_number_keeps_its_digits_and_signs(text: str, quantity: Quantity, expected: str) -> None:
    (quote,) = quotes(text)
    assert rewritten(quote, quantity) == expected
    (again,) = quotes(expected)
    assert agrees(again, quantity)
    assert agrees(quote, quantity) == (text == expected)


def test_braces_name_several_numbers() -> None:
    assert list(expand("t/{a,b}/{miou,p}")) == ["t/a/miou", "t/a/p", "t/b/miou", "t/b/p"]


# --- Markdown -------------------------------------------------------------------------------------


PROSE = """
SSA-Seg gains +1.0 [0.0,
  2.0]<!-- from: quoted/full/gain --> points, p = 0.5<!-- from: quoted/full/p -->, to a mIoU of
1.0<!-- from: quoted/SSA-Seg, over all/miou -->; over dice
+1.0<!-- from: quoted/full over + dice/gain -->.

- From 1.0 to 2.0 with the baseline 3.0
  points lower<!-- from: quoted/{lowest *,highest *}/miou; -quoted/baseline over full/gain -->.
- The paper has 40.0<!-- from: quoted/baseline/reported --> mIoU, ours is 9 points off.
  <!-- elsewhere: the text itself -->

<!-- from: row | quoted/miou; quoted/seeds | quoted/gain -->

| Method | mIoU, n | Gain | Note |
| --- | ---: | ---: | --- |
| Baseline[1] | 1.0 of 3 | – | 12.5 |
| **+ dice** | 1.00 (0.00–2.00) of 3 | | 1 |
| SSA-Seg, over all | 1.0<!-- from: quoted/full/miou_max --> | **+1.0 [0.0, 2.0]** | |
"""


def test_fix_writes_what_is_stored_and_nothing_else(written: Write) -> None:
    path, first = written(PROSE)
    assert "differs" in faults(first)
    assert path.read_text() == PROSE, "looking writes nothing"
    _, fixed = written(None, fix=True)
    assert fixed.rewritten > 8
    _, again = written(None)
    assert faults(again) == [], again.findings
    assert again.exit_code == 0
    assert again.elsewhere == 1
    blank = re.compile(r"[+−]?\d+\.\d+|\| *(?=\|)|\[.*?\]", re.DOTALL)
    before, after = (blank.sub("#", t).split("| **+ dice**")[0] for t in (PROSE, path.read_text()))
    assert before == after
    row = next(line for line in path.read_text().splitlines() if "+ dice" in line and "|" in line)
    assert re.fullmatch(
        r"\| \*\*\+ dice\*\* \| \d+\.\d\d \(\d+\.\d\d–\d+\.\d\d\) of 3 \|"
        r" \+\d+\.\d\d \[[+−]\d+\.\d\d, \+\d+\.\d\d\] \| 1 \|",
        row,
    ), row


def test_a_changed_record_is_told_with_the_line(stored: Request, written: Write) -> None:
    text = "One.\n\nGains +1.00 [0.00, 2.00]<!-- from: quoted/full/gain --> points.\n"
    written(text, fix=True)
    assert written(None)[1].exit_code == 0
    fill(stored, "full", 0.75)
    _, checked = written(None)
    assert checked.exit_code == 1
    (finding,) = checked.findings
    assert (finding.fault, finding.line) == ("differs", 3)
    assert "stored: +" in finding.sentence


def test_a_stale_number_is_told_and_is_no_failure(stored: Request, written: Write) -> None:
    text = "Gains +1.00<!-- from: quoted/full/gain -->, 1.00<!-- from: quoted/baseline/miou -->"
    written(text, fix=True)
    fill(stored, "full", SKILLS["full"], code={"ssa.classifiers.ssa": "0" * 64})
    _, checked = written(None)
    assert faults(checked) == ["stale"]
    assert "ssa.classifiers.ssa" in checked.findings[0].sentence
    assert checked.exit_code == 3


@pytest.mark.parametrize(
    ("text", "fault", "sentence"),
    [
        ("gains +1.5 points", "no source", "<!-- from:"),
        ("| a | mIoU |\n|---|---|\n| b | 12.5 |", "no source", "<!-- from:"),
        ("+1.5<!-- from: quoted/fulll/gain -->", "unclear", "full"),
        ("+1.5<!-- from: quoted/full/gains -->", "unclear", "gain"),
        ("+1.5<!-- from: quotes/full/gain -->", "unclear", "quoted"),
        ("+1.5<!-- from: quoted@smok/full/gain -->", "unclear", "smoke"),
        ("+1.5<!-- from: quoted/claim:help/value -->", "unclear", "claim:helps"),
        ("+1.5<!-- from: quoted/full -->", "unclear", "TABLE/ROW/QUANTITY"),
        ("+1.5<!-- from: quoted/full over baseline/miou -->", "unclear", "has a gain"),
        ("+1.5<!-- from: quoted/full/verdict -->", "unclear", "a word"),
        ("0.5 [0.1, 0.2]<!-- from: quoted/full/p -->", "unclear", "no interval"),
        ("+1.5<!-- from: quoted/full/gain; quoted/full/p -->", "unclear", "names 2 numbers"),
        ("1.5<!-- from: quoted/baseline/gain -->", "nothing stored", "no such number"),
        ("<!-- from: row | quoted/gain -->\n\nNo table.", "unclear", "no table follows"),
        ("<!-- from: a | quoted/p -->\n| a | b |\n|---|---|\n| full | 1 |", "unclear", "'row'"),
        ("a<!-- if: quoted/full/gain -->", "unclear", "is WORD"),
    ],
)  # fmt: skip
def test_what_names_no_source_is_told(written: Write, text: str, fault: str, sentence: str) -> None:
    _, checked = written(text)
    assert fault in faults(checked)
    assert any(sentence in f.sentence for f in checked.findings if f.fault == fault)
    assert checked.exit_code == 1


def test_prose_may_hang_on_a_verdict(written: Write) -> None:
    text = "It helps.<!-- if: quoted/claim:helps/verdict is holds -->\n"
    text += "Three seeds.<!-- if: quoted/full/seeds is 3 -->"
    assert written(text)[1].agreeing == 2
    _, checked = written(text.replace("is holds", "is does not hold"), fix=True)
    (finding,) = checked.findings
    assert "the text is written for 'does not hold'; stored: holds" in finding.sentence
    assert finding.line == 1


def test_a_table_is_judged_over_the_seeds_of_its_last_export(stored: Request) -> None:
    assert Sources(stored).quantity("quoted/full/seeds").value == 3
    fewer = stored_request(
        "smoke", 2, stored.workspace.results, registry=list(stored.registry.folders)
    )
    export(result_of(fewer), fewer.workspace.results / "tables")
    assert Sources(stored).quantity("quoted/full/seeds").value == 2


@pytest.mark.parametrize(
    ("name", "content"), [("a.txt", b""), ("missing.md", None), ("latin.md", b"caf\xe9")]
)
def test_what_is_no_text_is_refused(
    stored: Request, tmp_path: Path, name: str, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UnclearNameError, match=name):
        check(stored, [tmp_path / name])


# --- LaTeX ----------------------------------------------------------------------------------------


PAPER = r"""\documentclass{article}
\input{results/tables/preamble}
\input{results/tables/quoted-smoke-macros} % +9.9
\begin{document}
SSA-Seg reaches \SsaQuotedSmokeFullMiou{} (\SsaQuotedSmokeFullMiouRange), a gain of
\SsaQuotedSmokeFullGain{} \SsaQuotedSmokeFullGainInterval{} points over \SsaQuotedSmokeFullSeeds{}
seeds, $p = \SsaQuotedSmokeFullP$; with dice
\SsaQuotedSmokeDiceZeroPointFiveMiou. \SsaQuotedSmokeClaimHelpsVerdict.
\input{results/tables/quoted-smoke}
\end{document}
"""


def test_a_paper_quotes_what_is_stored(stored: Request, written: Write, tmp_path: Path) -> None:
    tables = stored.workspace.results / "tables"
    paths = export(result_of(stored), tables, macros=True)
    assert tables / "quoted-smoke-macros.tex" in paths
    path, checked = written(PAPER, name="paper.tex")
    assert faults(checked) == [], checked.findings
    assert checked.agreeing == 9, "eight commands and the table"
    if shutil.which("pdflatex"):
        command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", path.name]
        ended = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
        assert ended.returncode == 0, ended.stdout[-2000:]

    fill(stored, "full", 0.7)
    _, checked = written(None, name="paper.tex")
    assert checked.exit_code == 1
    told = {finding.path.name for finding in checked.findings}
    assert told == {"quoted-smoke-macros.tex", "quoted-smoke.tex"}
    _, fixed = written(None, fix=True, name="paper.tex")
    assert fixed.rewritten > 4
    assert written(None, name="paper.tex")[1].exit_code == 0
    assert path.read_text() == PAPER


def test_numbers_typed_by_hand_are_told(stored: Request, written: Write) -> None:
    export(result_of(stored), stored.workspace.results / "tables", macros=True)
    gain = f"{result_of(stored).rows[2].gain.value:+.2f}"
    text = PAPER.replace(r"\end{document}", rf"""
Typed: ${gain}$~points, and $-1.25\,\%$ % elsewhere: a poster
\SsaQuotedSmokeFulMiou
\begin{{tabular}}{{lr}} a & mIoU \\ b & 12.5 \\ \end{{tabular}}
\end{{document}}""")  # fmt: skip
    _, checked = written(text, name="paper.tex")
    said = {finding.text: (finding.fault, finding.sentence) for finding in checked.findings}
    assert set(said) == {r"\SsaQuotedSmokeFulMiou", "12.5"}
    assert checked.elsewhere == 2
    assert r"did you mean \SsaQuotedSmokeFullMiou" in said[r"\SsaQuotedSmokeFulMiou"][1]
    assert said["12.5"][0] == "no source"
    _, checked = written(text.replace(" % elsewhere: a poster", ""), name="paper.tex")
    (hint,) = [f.sentence for f in checked.findings if f.text == gain]
    assert r"\SsaQuotedSmokeFullGain" in hint


def test_every_row_of_the_registry_has_commands_of_its_own() -> None:
    registry = load_registry()
    prefixes = [
        macro_prefix(registry.paper, t, p) for t in registry.tables for p in registry.profiles
    ]
    assert len(set(prefixes)) == len(prefixes)
    for table in registry.tables.values():
        names = [letters(row.id) for row in table.rows]
        assert len(set(names)) == len(names), table.name
        assert all(re.fullmatch(r"[A-Za-z]+", name) for name in names)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("table8", "TableEight"), ("ssa-shift-0.3", "SsaShiftZeroPointThree"), ("r101", "ROneZeroOne"),
     ("b-21_x", "BTwentyOneX"), ("v07", "VZeroSeven"), ("n30", "NThirty")],
)  # fmt: skip
def test_names_are_spelled_in_letters(name: str, expected: str) -> None:
    assert letters(name) == expected


def test_two_rows_with_one_command_are_refused(stored: Request, tmp_path: Path) -> None:
    text = TABLE.replace("name: quoted", "name: twin")
    for old, new in (("id: dice-0.5", "id: f_ull"), ("id: full", "id: f-ull"), ("[full", "[f-ull")):
        text = text.replace(old, new)
    (tmp_path / "twin" / "tables").mkdir(parents=True)
    (tmp_path / "twin" / "tables" / "twin.yaml").write_text(text)
    request = stored_request("smoke", 3, tmp_path / "results", registry=[tmp_path / "twin"])
    (result,) = assembled(request, request.plan([request.registry.table("twin")]))
    with pytest.raises(RegistryError, match=r"f_ull/\w+ and f-ull"):
        commands(result)


def test_the_verb_says_what_it_saw(stored: Request, tmp_path: Path) -> None:
    text = tmp_path / "a.md"
    text.write_text("\n" * 99 + "gains +1.5 points\n")
    (registry,) = stored.registry.folders
    ended = subprocess.run(
        module_command(
            "experiments", "check", str(text), "--profile", "smoke",
            "--results", str(stored.workspace.results), "--registry", str(registry),
        ),
        cwd=PROJECT, env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 1, ended.stderr
    assert f"{text}:100: no source: +1.5" in ended.stdout
    assert ended.stdout.endswith("0 as stored, 1 no source.\n")
