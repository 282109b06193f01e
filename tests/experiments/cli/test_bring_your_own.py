"""The example of a user's own registry folder: its README's commands, as they stand there."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from lab import PATIENCE_S, PROJECT, Lab, Trainer, environment
from torch import Tensor
from typer.testing import CliRunner

from experiments.cli.app import app
from experiments.declare.extensions import PACKAGE
from experiments.declare.load import load_registry
from experiments.declare.paper import Paper
from experiments.declare.run_spec import RunSpec
from experiments.declare.table import ClassifierChoice, Table
from experiments.judge.counts import Counter, own_code
from experiments.store.store import Store
from experiments.train.trained import load_trained
from ssa.classifiers import CLASSIFIERS, PixelClassifier, build_classifier
from ssa.datasets import DATASETS
from ssa.datasets.folder import Declaration, declare

FOLDER = Path("experiments/examples/bring_your_own")
NAME = "margin_prototypes"
ROWS = ["softmax", "ssa-seg", "full", "no-margin"]


@pytest.fixture
def as_before() -> Iterator[None]:
    """What a test registers in this process is gone after it."""
    registries = (CLASSIFIERS, DATASETS)
    before = [dict(registry) for registry in registries]  # what is announced is imported by this
    yield
    for registry, things in zip(registries, before):
        registry._things = things  # type: ignore[attr-defined]
    for name in [name for name in sys.modules if name.split(".")[0] == PACKAGE]:
        del sys.modules[name]


@pytest.fixture
def registered(as_before: None) -> None:
    """The example's classifier and data set, in this process."""
    load_registry([PROJECT / FOLDER])


# --- the classifier -------------------------------------------------------------------------------


def build(**overrides: object) -> PixelClassifier:
    torch.manual_seed(0)
    return build_classifier(NAME, 8, 4, overrides=overrides, dropout_ratio=0)


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 8, 6, 5, generator=generator)
    labels = torch.randint(0, 4, (2, 1, 24, 20), generator=generator)
    labels[0, :, :8] = 255
    return features, labels


@pytest.mark.usefixtures("registered")
class TestClassifier:
    def test_it_decides_by_angle(self) -> None:
        model, (features, _) = build(), batch()
        logits = model(features)
        assert logits.shape == (2, 4, 6, 5)
        assert logits.abs().max() <= 15 + 1e-4
        torch.testing.assert_close(model(3 * features), logits)
        torch.testing.assert_close(model.deploy()(features), logits)
        torch.testing.assert_close(model.inspect(features).logits, logits)
        assert model.inspect(features).fixed_prototypes.shape == (4, 3, 8)

    def test_one_prototype_is_a_cosine_classifier(self) -> None:
        model, (features, _) = build(prototypes=1), batch()
        unit = torch.nn.functional.normalize
        weights = unit(model.prototypes[:, 0], dim=1)  # type: ignore[operator, index]
        expected = torch.einsum("bdhw,kd->bkhw", unit(features, dim=1), weights)
        torch.testing.assert_close(model(features), 15 * expected)

    def test_each_switch_changes_what_it_names(self) -> None:
        features, labels = batch()
        terms = {
            key: build(**overrides).loss(features, labels)  # type: ignore[arg-type]
            for key, overrides in {
                "full": {},
                "one": {"prototypes": 1},
                "no margin": {"margin": 0},
                "no spread": {"spread_weight": 0},
            }.items()
        }
        assert {key: set(found) for key, found in terms.items()} == {
            "full": {"ce", "spread"},
            "one": {"ce"},
            "no margin": {"ce", "spread"},
            "no spread": {"ce"},
        }
        assert terms["no margin"]["ce"] < terms["full"]["ce"], "a margin makes it harder"
        assert terms["no margin"]["spread"] == terms["full"]["spread"]
        assert terms["no spread"]["ce"] == terms["full"]["ce"]

    def test_without_margin_it_is_the_mean_over_labelled_pixels(self) -> None:
        model, (features, labels) = build(margin=0), batch()
        up = torch.nn.functional.interpolate(model(features), labels.shape[2:], mode="bilinear")
        expected = torch.nn.functional.cross_entropy(up, labels[:, 0], ignore_index=255)
        torch.testing.assert_close(model.loss(features, labels)["ce"], expected)
        nothing = model.loss(features, torch.full_like(labels, 255))
        assert nothing["ce"] == 0

    def test_likeness_is_one_for_equal_prototypes_and_none_for_orthogonal_ones(self) -> None:
        model, (features, labels) = build(spread_weight=1), batch()
        with torch.no_grad():
            model.prototypes.copy_(torch.ones(4, 3, 8))  # type: ignore[operator]
            equal = model.loss(features, labels)["spread"]
            model.prototypes.copy_(torch.eye(8)[:3].expand(4, 3, 8))  # type: ignore[operator]
            orthogonal = model.loss(features, labels)["spread"]
        torch.testing.assert_close(equal, torch.tensor(1.0))
        torch.testing.assert_close(orthogonal, torch.tensor(0.0))

    def test_its_network_is_counted_and_a_change_counts_anew(self, tmp_path: Path) -> None:
        registry = load_registry([PROJECT / FOLDER])
        table = registry.table("my_ablation")
        counter = Counter(registry, tmp_path)
        row = table.row("full")
        single = ClassifierChoice(name=NAME, overrides={"prototypes": 1})
        other = row.model_copy(update={"classifier": single})
        full, one = counter.count(table, row), counter.count(table, other)
        extra = 2 * 4 * 256  # two more prototypes for each of four classes of 256 channels
        assert full.params_m - one.params_m == pytest.approx(extra / 1e6)
        assert set(own_code(NAME)) == {f"{PACKAGE}.{NAME}"}
        assert own_code("softmax") == {}


# --- the page -------------------------------------------------------------------------------------


def test_the_pages_declarations_are_valid(tmp_path: Path) -> None:
    text = (PROJECT / "docs/bring_your_own.md").read_text()
    blocks = re.findall(r"```yaml\n(.*?)```", text, re.S)
    paper, data, table = (yaml.safe_load(block) for block in blocks)
    assert Paper.model_validate(paper).tables == ("swin_ade20k",)
    dataset = declare(data, tmp_path / "datasets/shapes.yaml", tmp_path)
    assert dataset.name == "shapes"
    assert set(data) == set(Declaration.model_fields) - {"name"}, "every field is explained"
    assert [row.id for row in Table.model_validate(table).rows] == ROWS


# --- the README -----------------------------------------------------------------------------------


class Place:
    """A folder with the example and the two programs that its README calls."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.results = root / "results"
        self.folder = root / FOLDER
        shutil.copytree(
            PROJECT / FOLDER, self.folder, ignore=shutil.ignore_patterns("data", "__pycache__")
        )
        self.program(".venv/bin/python", "")
        self.program("run_all.sh", f"-W ignore -m experiments {{}} --results '{self.results}'")

    def program(self, name: str, call: str) -> None:
        """The environment's Python under another name; run_all.sh would make an environment."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        words = call.format('"$@"') if call else '"$@"'
        path.write_text(f"#!/bin/sh\nexec '{sys.executable}' {words}\n")
        path.chmod(0o755)

    def give(self, command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            shlex.split(command),
            cwd=self.root,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=4 * PATIENCE_S,  # eight runs, on a machine that may be shared
            check=False,
        )

    def lines(self) -> list[dict[str, str]]:
        path = self.results / "tables/my_ablation-example.csv"
        return list(csv.DictReader(path.read_text().splitlines()))


def commands() -> list[str]:
    """The commands of the README's code block."""
    (block,) = re.findall(r"```bash\n(.*?)```", (PROJECT / FOLDER / "README.md").read_text(), re.S)
    return block.strip().splitlines()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = Place(tmp_path_factory.mktemp("own"))
    for command in commands():
        done = place.give(command)
        assert done.returncode == 0, command + done.stdout + done.stderr
    return place


@pytest.mark.slow
class TestReadme:
    def test_three_commands_measure_every_row(self, made: Place) -> None:
        assert len(commands()) == 3
        lines = made.lines()
        assert [line["row"] for line in lines] == ROWS
        for line in lines:
            assert line["seeds"] == "2"
            assert 0 < float(line["miou_percent"]) < 100
            assert line["dataset"] == "shapes"
        for line in lines[1:]:
            low, gain, high = (float(line[f"gain{part}_points"]) for part in ("_low", "", "_high"))
            assert low < gain < high
        assert lines[0]["gain_points"] == ""

    def test_all_forms_are_written_without_a_papers_columns(self, made: Place) -> None:
        stem = made.results / "tables/my_ablation-example"
        assert json.loads(stem.with_suffix(".json").read_text())["rows"]
        for suffix in (".md", ".tex"):
            text = stem.with_suffix(suffix).read_text()
            assert "Margin prototypes on my own images" in text
            assert "aper" not in text
            assert "Reference" not in text

    def test_the_latex_compiles(self, made: Place, tmp_path: Path) -> None:
        if shutil.which("pdflatex") is None:
            pytest.skip("no pdflatex: apt-get install texlive-latex-recommended")
        table = (made.results / "tables/my_ablation-example.tex").read_text()
        preamble = (
            "\\documentclass{article}\\usepackage[T1]{fontenc}\\usepackage{booktabs,graphicx}"
        )
        (tmp_path / "paper.tex").write_text(
            f"{preamble}\\begin{{document}}{table}\\end{{document}}"
        )
        done = subprocess.run(
            ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-2000:]
        assert (tmp_path / "paper.pdf").is_file()

    def test_a_moved_folder_is_the_same_and_trains_nothing(
        self, made: Place, tmp_path: Path
    ) -> None:
        elsewhere = tmp_path / "another machine"
        shutil.copytree(made.folder, elsewhere)
        records = sorted(made.results.glob("runs/*/record.json"))
        times = [path.stat().st_mtime_ns for path in records]
        done = made.give(commands()[-1].replace(str(FOLDER), f"'{elsewhere}'"))
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Stale" not in done.stdout
        assert len(records) == 2 * len(ROWS)
        assert [path.stat().st_mtime_ns for path in records] == times

    def test_editing_the_classifier_makes_its_runs_stale_and_no_others(
        self, made: Place, tmp_path: Path
    ) -> None:
        elsewhere = tmp_path / "edited"
        shutil.copytree(made.folder, elsewhere)
        with (elsewhere / f"classifiers/{NAME}.py").open("a") as file:
            file.write("ANOTHER_THOUGHT = True\n")
        done = made.give(
            f"./run_all.sh plan my_ablation --profile example --registry '{elsewhere}'"
        )
        expected = {row: {"cached" if row in ROWS[:2] else "stale"} for row in ROWS}
        assert states(done) == expected
        assert f"{PACKAGE}.{NAME}" in done.stdout

    def test_other_labels_are_other_runs(self, made: Place, tmp_path: Path) -> None:
        elsewhere = tmp_path / "relabelled"
        shutil.copytree(made.folder, elsewhere)
        card = elsewhere / "datasets/shapes.yaml"
        card.write_text(card.read_text().replace("{9: 255}", "{9: 0}"))
        plan = f"./run_all.sh plan my_ablation --profile example --registry '{elsewhere}'"
        assert states(made.give(plan)) == {row: {"missing"} for row in ROWS}

    @pytest.mark.usefixtures("as_before")
    def test_a_trained_network_is_taken_up_again_with_its_registry(self, made: Place) -> None:
        store = Store(made.results)
        record = store.read(next(name for name in store.run_ids() if NAME in name))
        assert record is not None
        model = load_trained(record, store, registry=[made.folder])
        assert type(model.decode_head.classifier).__module__ == f"{PACKAGE}.{NAME}"

    @pytest.mark.usefixtures("as_before")
    def test_list_names_what_is_mine(self, made: Place) -> None:
        listed = CliRunner().invoke(app, ["list", "--registry", str(made.folder)])
        assert listed.exit_code == 0, listed.output
        for name in ("my_ablation", "example", "shapes", NAME):
            assert name in listed.output

    def test_a_mistake_in_the_classifier_fails_its_runs_with_file_and_line(
        self, made: Place, tmp_path: Path, trainer: Trainer
    ) -> None:
        elsewhere = tmp_path / "mistaken"
        shutil.copytree(made.folder, elsewhere)
        path = elsewhere / f"classifiers/{NAME}.py"
        text = path.read_text()
        mistake = text.index("        each = F.cross_entropy")
        path.write_text(f"{text[:mistake]}        cosine = cosine @ labels\n{text[mistake:]}")
        line = text[:mistake].count("\n") + 1
        store = Store(made.results)
        record = store.read(next(name for name in store.run_ids() if NAME in name))
        assert record is not None
        lab = OwnLab(tmp_path / "results", elsewhere)
        assert trainer.train(lab, record.spec, "--registry", str(elsewhere)) == 1
        failure = lab.store.read_failure(record.run_id)
        assert failure is not None
        assert failure.sentence.startswith(f"{path}, line {line}: RuntimeError: ")


class OwnLab(Lab):
    """Results of runs on the example's data."""

    def data(self, spec: RunSpec) -> Path:
        assert spec.dataset == "shapes"
        return self.registry / "data/shapes"


def states(done: subprocess.CompletedProcess[str]) -> dict[str, set[str]]:
    """Row → the states of its seeds, as a plan prints them."""
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, set[str]] = {}
    for line in done.stdout.splitlines():
        cells = [cell.strip() for cell in line.split("│")]
        if len(cells) > 5 and cells[1] == "my_ablation":
            found.setdefault(cells[2], set()).add(cells[4])
    return found


@pytest.mark.slow
def test_the_library_alone_trains_behind_an_mmsegmentation_head() -> None:
    script = PROJECT / "experiments/examples/plain_torch.py"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), "ssa", "30"],
        env=os.environ | {"PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, *_ = re.findall(r"loss_ce ([\d.]+)", done.stdout)
    last = re.findall(r"loss_ce ([\d.]+)", done.stdout)[-1]
    assert float(last) < 0.5 * float(first)
    (correct,) = re.findall(r"correct pixels: ([\d.]+)", done.stdout)
    assert float(correct) > 90
