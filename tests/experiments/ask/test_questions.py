"""why, explain, diff, status, export: what is stored can say where it comes from."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path

import pytest
from lab import PROJECT, Lab, assert_clear, environment, finished
from samples import make_areas, make_spec, put

from experiments.ask.coverage import coverage, runs_of_rows
from experiments.ask.difference import DIFFERENT, EQUAL, LACKING, difference
from experiments.ask.explain import explain, nearest_run
from experiments.ask.why import command, why
from experiments.declare.load import load_registry
from experiments.declare.lookup import check_metric, find_row
from experiments.errors import UnclearNameError, UnknownNameError
from experiments.plan.request import Request, stored_request
from experiments.store.records import Record, seal
from experiments.store.store import Store

ROWS_OF_THE_PAPER = 142


def call_of(lab: Lab, profile: str = "smoke") -> Request:
    return stored_request(profile, None, lab.results, registry=[lab.registry])


def ask(lab: Lab, *words: str) -> subprocess.CompletedProcess[str]:
    shared = ["--registry", str(lab.registry), "--results", str(lab.results), "--profile", "smoke"]
    return finished([*lab.command("list")[:5], *words, *shared])


@pytest.fixture(scope="module")
def trained(trained: Lab, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A copy: a question about every table makes the data of every table."""
    return trained.copy(tmp_path_factory.mktemp("asked") / "results")


@pytest.fixture(scope="module")
def call(trained: Lab) -> Request:
    return call_of(trained)


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["full", "SSA-Seg", "ssa-seg", "  SSA-Seg "])
def test_a_row_is_found_by_id_or_label(name: str) -> None:
    assert find_row(load_registry().table("table8"), name).id == "full"


@pytest.mark.parametrize("table", load_registry().tables)
def test_every_row_is_found_by_its_id(table: str) -> None:
    declared = load_registry().table(table)
    assert [find_row(declared, row.id) for row in declared.rows] == list(declared.rows)


def test_a_label_of_several_rows_lists_their_ids() -> None:
    with pytest.raises(UnclearNameError, match=r"3 rows of table1 .*segformer-b5-ssa\.coco_stuff"):
        find_row(load_registry().table("table1"), "SegFormer + SSA-Seg")


def test_what_is_misspelt_proposes_the_nearest(call: Request) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'pair'"):
        why(call, "pear", "full", "miou")
    with pytest.raises(UnknownNameError, match="Did you mean 'full'"):
        why(call, "pair", "ful", "miou")
    with pytest.raises(UnknownNameError, match="Did you mean 'params_m'"):
        check_metric("params")


# --- why ------------------------------------------------------------------------------------------


def test_a_cell_leads_to_its_run(call: Request, trained: Lab) -> None:
    origin, record = why(call, "pair", "baseline", "miou"), trained.record("softmax")
    assert origin.reported == 40.0
    assert origin.source == "nowhere"
    assert origin.measured == origin.low == record.scores.miou
    assert (origin.verdict.word, origin.verdict.reason) == ("not comparable", "smoke")
    (run,) = origin.runs
    assert (run.run_id, run.seed, run.state) == (record.run_id, 0, "cached")
    assert run.git_commit == record.environment.git_commit
    assert run.code_digest == record.environment.code_digest
    assert run.dataset_digest == record.spec.dataset_digest
    assert run.curve[-1] == (record.curve[-1].iteration, record.curve[-1].scores.miou)
    assert run.folder.is_dir()


def test_a_gain_leads_to_both_runs_and_says_whether_it_is_sure(call: Request, trained: Lab) -> None:
    origin = why(call, "pair", "SSA-Seg", "gain")
    expected = trained.record("ssa").scores.miou - trained.record("softmax").scores.miou
    assert origin.measured == pytest.approx(expected)
    assert origin.baseline == "baseline"
    assert {run.run_id for run in origin.runs} == set(trained.store.run_ids())
    assert origin.low is not None
    assert origin.high is not None
    sure = origin.low > 0 or origin.high < 0
    assert origin.verdict.word in (("above", "below") if sure else ("within noise",))
    assert "images only" in origin.interval


def test_a_counted_cell_needs_no_run(trained: Lab, tmp_path: Path) -> None:
    none = trained.blank(tmp_path / "results")
    origin = why(call_of(none), "pair", "full", "params_m")
    assert origin.measured == pytest.approx(4.6, abs=0.1)
    assert origin.runs == ()
    assert "512×512" in " ".join(origin.notes)
    assert "--only complexity" in origin.command


def test_a_latency_is_told_as_the_ratio_that_was_measured(tmp_path: Path) -> None:
    call = stored_request("quick", [0], tmp_path)
    origin = why(call, "table1", "seaformer-l-ssa.ade20k", "latency_ms")
    assert origin.reported == 29.9
    assert origin.measured is None
    assert any("times the time" in note and "paper 1.017" in note for note in origin.notes)


def test_the_command_is_the_one_that_makes_the_cell(call: Request, trained: Lab) -> None:
    words = shlex.split(command(call, call.registry.table("pair")))
    assert words[:2] == ["./run_all.sh", "pair"]
    plan = finished([*trained.command("list")[:5], "plan", *words[1:]])
    assert plan.returncode == 0, plan.stderr
    assert "2 runs, 2 cached, 0 to do" in plan.stdout


def test_a_cell_without_a_run_says_so_and_exits_3(trained: Lab, tmp_path: Path) -> None:
    none = trained.blank(tmp_path / "results")
    said = ask(none, "why", "pair", "full")
    assert_clear(said, 3, "seed 0: no record", "./run_all.sh pair")
    assert not none.store.runs.exists()


def test_why_prints_what_a_person_asks_for(trained: Lab) -> None:
    said = ask(trained, "why", "pair", "Baseline")
    record = trained.record("softmax")
    words = (record.run_id, "40.00", "not comparable", record.finished, "again with", "cached")
    assert_clear(said, 0, *words)


# --- explain --------------------------------------------------------------------------------------


def test_a_stored_run_is_found_by_cell_by_beginning_and_by_digest(
    call: Request, trained: Lab
) -> None:
    run_id = trained.record("ssa").run_id
    for reference in ("pair/full/0", run_id, run_id[:-3], run_id.rsplit("-", 1)[1]):
        found = explain(call, reference)
        assert (found.run_id, found.state) == (run_id, "cached"), reference
        assert "pair/full/0" in found.used_by
        assert found.nearest is None


def test_a_missing_run_names_the_fields_that_set_it_apart(call: Request, trained: Lab) -> None:
    found = explain(call, "pair/full/7")
    assert found.state == "missing"
    assert found.nearest is not None
    assert found.nearest.run_id == trained.record("ssa").run_id
    assert [(d.field, d.first, d.second) for d in found.nearest.differences] == [("seed", 7, 0)]


def test_a_stale_run_names_the_modules(trained: Lab, tmp_path: Path) -> None:
    lab = trained.copy(tmp_path / "results")
    record = lab.record("ssa")
    change_record(lab, record, {"ssa.losses.segmentation": "0" * 64})
    found = explain(call_of(lab), "pair/full/0")
    assert (found.state, found.reason) == ("stale", "changed since: ssa.losses.segmentation")


def change_record(lab: Lab, record: Record, code: dict[str, str]) -> None:
    own = record.environment
    changed = own.model_copy(update={"code": own.code | code})
    document = record.model_copy(update={"environment": changed}).model_dump(mode="json")
    lab.store.folder(record.run_id).record.write_text(seal(document))


def test_the_fewest_differing_fields_win(tmp_path: Path) -> None:
    store, spec = Store(tmp_path), make_spec(seed=3)
    put(store, make_spec(seed=0, num_classes=7), make_areas(0))
    near = put(store, make_spec(seed=0), make_areas(0))
    store.folder(put(store, make_spec(seed=1), make_areas(1)).run_id).record.write_text("{")
    found = nearest_run(spec, [store])
    assert found is not None
    assert found.run_id == near.run_id
    assert [each.field for each in found.differences] == ["seed"]


@pytest.mark.parametrize("reference", ["pair/full", "nothing-like-it", "pair/full/x"])
def test_a_reference_that_means_nothing_is_a_sentence(call: Request, reference: str) -> None:
    with pytest.raises(UnclearNameError, match="TABLE/ROW/SEED"):
        explain(call, reference)


@pytest.mark.parametrize(
    ("reference", "code", "says"),
    [
        ("segnext", 2, "begin with 'segnext'"),
        ("pair/full/9", 3, "1 field differs"),
    ],
)
def test_explain_on_the_command_line(trained: Lab, reference: str, code: int, says: str) -> None:
    assert_clear(ask(trained, "explain", reference), code, says)


# --- diff -----------------------------------------------------------------------------------------


def test_a_folder_does_not_differ_from_its_copy(trained: Lab, tmp_path: Path) -> None:
    other = trained.copy(tmp_path / "copy")
    found = difference(trained.results, other.results)
    assert found.exit_code == EQUAL
    assert len(found.equal) == 2
    said = finished(
        [*trained.command("list")[:5], "diff", str(trained.results), str(other.results)]
    )
    assert_clear(said, 0, "Nothing differs.")


def test_a_run_that_one_lacks_is_named(trained: Lab, tmp_path: Path) -> None:
    other = trained.copy(tmp_path / "copy")
    run_id = trained.record("ssa").run_id
    other.store.folder(run_id).record.unlink()
    found = difference(trained.results, other.results)
    assert found.exit_code == LACKING
    assert found.only_first == (run_id,)


def test_other_results_are_told_with_scores_machine_and_cells(trained: Lab, tmp_path: Path) -> None:
    other = trained.copy(tmp_path / "copy")
    record = other.record("ssa")
    scores = record.scores.model_copy(update={"miou": 12.5})
    own = record.environment.model_copy(update={"threads": 99})
    changes = {"scores": scores, "environment": own, "result_digest": "0" * 64}
    document = record.model_copy(update=changes).model_dump(mode="json")
    other.store.folder(record.run_id).record.write_text(seal(document))
    assert ask(other, "export", "pair").returncode == 0
    found = difference(trained.results, other.results)
    assert found.exit_code == DIFFERENT
    (run,) = found.different
    assert [(d.field, d.second) for d in run.scores] == [("miou", 12.5)]
    assert [d.field for d in run.environment] == ["threads"]
    assert run.spec == ()
    cells = {(c.table, c.row, c.column): c.second for c in found.cells}
    assert cells["pair-smoke", "full", "miou_percent"] == 12.5
    said = finished(
        [*trained.command("list")[:5], "diff", str(trained.results), str(other.results)]
    )
    assert_clear(said, 1, "threads", "miou_percent", record.run_id)


def test_runs_asked_for_otherwise_name_the_fields(tmp_path: Path) -> None:
    for folder, classes in (("a", 4), ("b", 5)):
        put(Store(tmp_path / folder), make_spec(num_classes=classes), make_areas(0))
    found = difference(tmp_path / "a", tmp_path / "b")
    ((_, _, fields),) = found.respecified
    assert [(d.field, d.first, d.second) for d in fields] == [("num_classes", 4, 5)]


def test_a_damaged_record_is_named_in_a_comparison(trained: Lab, tmp_path: Path) -> None:
    other = trained.copy(tmp_path / "copy")
    path = other.store.folder(trained.record("ssa").run_id).record
    path.write_text("{")
    found = difference(trained.results, other.results)
    assert found.exit_code == DIFFERENT
    assert str(path) in found.damaged[0]


def test_a_folder_without_results_is_a_sentence(trained: Lab, tmp_path: Path) -> None:
    words = ["diff", str(trained.results), str(tmp_path)]
    assert_clear(finished([*trained.command("list")[:5], *words]), 1, "holds no results")


# --- status ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def covered(call: Request) -> dict[str, object]:
    from experiments.ask.coverage import to_json

    return dict(json.loads(to_json(coverage(call))))


def test_status_counts_every_published_row(covered: dict[str, object]) -> None:
    paper = covered["totals"]["paper"]  # type: ignore[index]
    declared = [t for n, t in load_registry().tables.items() if n.startswith("table")]
    assert paper["rows"] == ROWS_OF_THE_PAPER == sum(len(t.rows) for t in declared)
    printed = [row.reported for t in declared for row in t.rows]
    assert paper["reported"] == sum(r.miou is not None for r in printed)
    counted = sum((r.params_m is not None) + (r.macs_g is not None) for r in printed)
    assert paper["counts_reported"] == counted
    assert sum(paper["verdicts"].values()) == paper["reported"]
    assert sum(paper["count_verdicts"].values()) == counted


def test_status_counts_what_is_measured_here(covered: dict[str, object]) -> None:
    tables = {t["name"]: t for t in covered["tables"]}  # type: ignore[attr-defined, index]
    pair = tables["pair"]
    assert pair["kind"] == "own"
    assert (pair["rows"], pair["measured"], pair["complete"]) == (2, 2, 2)
    assert (pair["any_profile"], pair["stale"], pair["blocked"]) == (2, 0, 0)
    # the same two runs are the SegNeXt-T rows of Table 1, on each of its data sets
    assert tables["table1"]["measured"] == 6
    assert tables["table5"]["measured"] == tables["table5"]["any_profile"] == 0


def test_runs_of_another_profile_are_counted_as_such(trained: Lab) -> None:
    call = call_of(trained, "long")
    found = runs_of_rows(call.resolver, call.store)
    assert found["pair", "full"] == 1
    pair = next(t for t in coverage(call).tables if t.name == "pair")
    assert (pair.measured, pair.any_profile) == (0, 2)


def test_status_on_the_command_line(trained: Lab) -> None:
    said = ask(trained, "status")
    assert_clear(said, 0, "The paper", "142", "Studies of ours")
    as_json = ask(trained, "status", "--json")
    assert json.loads(as_json.stdout)["totals"]["paper"]["rows"] == ROWS_OF_THE_PAPER


# --- export and list ------------------------------------------------------------------------------


def test_export_trains_nothing(trained: Lab, tmp_path: Path) -> None:
    none = trained.blank(tmp_path / "results")
    assert ask(none, "export", "pair").returncode == 3
    assert not none.store.runs.exists()
    assert (none.results / "tables" / "pair-smoke.csv").exists()


def test_export_writes_what_the_run_wrote(trained: Lab, tmp_path: Path) -> None:
    lab = trained.copy(tmp_path / "results")
    written = {path.name: path.read_bytes() for path in (lab.results / "tables").iterdir()}
    for path in (lab.results / "tables").iterdir():
        path.unlink()
    assert ask(lab, "export", "pair").returncode == 0
    again = {path.name: path.read_bytes() for path in (lab.results / "tables").iterdir()}
    assert again == written
    said = ask(lab, "export", "pair", "--style", "paper")
    assert_clear(said, 0, "/pair-smoke.{csv,md,tex,json},", "/pair-smoke-style-paper.{md,tex}")
    added = {path.name for path in (lab.results / "tables").iterdir()} - written.keys()
    assert added == {"pair-smoke-style-paper.md", "pair-smoke-style-paper.tex"}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["export", "figure4"], "figure4 is a figure; draw what is stored with `figures`"),
        (["export", "pair", "--style", "text"], "--style text is for figures"),
    ],
)
def test_figures_are_drawn_and_not_exported(trained: Lab, words: list[str], says: str) -> None:
    assert_clear(ask(trained, *words), 2, says)


def test_list_shows_studies_apart() -> None:
    said = finished([*Lab(Path(), Path()).command("list")[:5], "list"])
    lines = said.stdout.splitlines()
    start = lines.index("Studies of ours:")
    assert any("study_" in line for line in lines[start:])
    assert not any("study_" in line for line in lines[:start])


# --- completion -----------------------------------------------------------------------------------


def proposals(line: str, shell: str = "bash") -> list[str]:
    """What a shell is told when Tab is pressed at the end of ``line``."""
    words = line.split(" ")
    asked = {"_RUN_ALL_SH_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_ARGS": line}
    asked |= {"COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)}
    done = subprocess.run(
        Lab(Path(), Path()).command("list")[:5],
        env=environment() | asked,
        capture_output=True,
        text=True,
        check=False,
        cwd=PROJECT,
    )
    assert done.stderr == ""
    return done.stdout.split("\n")


@pytest.mark.parametrize(
    ("line", "expected", "absent"),
    [
        ("./run_all.sh ", {"table8", "all", "study_controls", "plan", "why", "diff"}, {"run"}),
        ("./run_all.sh why table8 s", {"sepa", "sppa-lg-lpd"}, {"full"}),
        ("./run_all.sh why table8 full ", {"miou", "gain", "latency_ms"}, set()),
        ("./run_all.sh table8 --profile ", {"quick", "smoke", "camvid"}, set()),
    ],
)
def test_tab_completes(line: str, expected: set[str], absent: set[str]) -> None:
    proposed = set(proposals(line))
    assert expected <= proposed
    assert not absent & proposed


def test_zsh_is_told_titles_too() -> None:
    assert any("table8" in line and "SEPA" in line for line in proposals("./run_all.sh tab", "zsh"))


def test_bash_completes_the_door_after_the_line_that_is_to_be_added(tmp_path: Path) -> None:
    start = " ".join(map(shlex.quote, Lab(Path(), Path()).command("list")[:5]))
    home = environment() | {"HOME": str(tmp_path), "PYTHONPATH": str(PROJECT)}

    def bash(script: str) -> str:
        ended = subprocess.run(
            ["bash", "--norc", "-c", script],
            env=home,
            capture_output=True,
            text=True,
            check=True,
            cwd=tmp_path,
        )
        assert ended.stderr == ""
        return ended.stdout

    said = bash(f"{start} --install-completion")
    assert not list(tmp_path.iterdir())  # nobody's start files are written to
    (line,) = (part.partition("source ")[2] for part in said.splitlines() if ".bashrc" in part)
    assert all(f"completion.{shell}" in said for shell in ("zsh", "fish"))
    program = tmp_path / "run_all.sh"  # stands for the door, which would build an environment
    program.write_text(f'#!/bin/sh\nexec {start} "$@"\n')
    program.chmod(0o755)
    # what bash does at Tab after `./run_all.sh why table8 fu`
    proposed = bash(f"""
    source {line}
    COMP_WORDS=(./run_all.sh why table8 fu); COMP_CWORD=3
    complete -p run_all.sh
    _run_all_sh_completion ./run_all.sh
    echo "${{COMPREPLY[@]}}"
    """)
    assert proposed.split("\n")[1] == "full", proposed
