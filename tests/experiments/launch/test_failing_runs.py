"""However a run fails: a sentence, where its log is and its exit code; and the others go on."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from lab import Lab, Trainer
from samples import make_spec

from experiments.declare.run_spec import RunSpec
from experiments.launch.crew import Outcome, launch
from experiments.launch.launcher import Inputs
from experiments.launch.local import LocalLauncher, LocalOptions
from experiments.plan.plan import PlannedRun
from experiments.store.folder import RunFolder
from experiments.store.store import Store

CLASSIFIER = """
import os, sys
from ssa.classifiers import CLASSIFIERS
from ssa.classifiers.softmax import SoftmaxClassifier, SoftmaxConfig


class Config(SoftmaxConfig):
    how: str = "well"


class Unheard(BaseException):
    pass


@CLASSIFIERS.register("failing")
class Failing(SoftmaxClassifier):
    Config = Config

    def _loss(self, features, labels):
        how = self.config.how
        if how == "key":
            {}["the key"]
        if how == "unheard":
            raise Unheard("no Exception")
        if how == "leaves":
            sys.exit(0)
        if how == "busy":
            sys.exit(75)  # what a training process says when another one has the run
        if how == "drops":
            os._exit(75)
        if how == "crashes":
            os.abort()
        return super()._loss(features, labels)
"""
#: how a run fails that can say so itself → what it says and what its log ends with
TOLD = {
    "key": "KeyError: 'the key'",
    "unheard": "Unheard: no Exception",
    "leaves": "The code left the training process by sys.exit().",
    "busy": "The code left the training process by sys.exit().",
}
#: how one fails that cannot → what the call says, its exit code, what its log ends with
UNTOLD = {
    "crashes": ("The training process was ended by SIGABRT", -6, "ended by SIGABRT"),
    "drops": ("The training process ended with code 75", 75, "ended with code 75"),
}


@pytest.fixture(scope="module")
def lab(trained: Lab, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """Tables of rows that fail: one each, and one of several beside a row that is well."""
    registry = tmp_path_factory.mktemp("failing")
    for kind in ("tables", "classifiers"):
        (registry / kind).mkdir()
    (registry / "classifiers" / "failing.py").write_text(CLASSIFIER)
    for name, ways in {"told": [*TOLD], "untold": [*UNTOLD, "well"]}.items():
        rows = [
            {"id": how, "label": how, "classifier": {"name": "failing", "overrides": {"how": how}}}
            for how in ways
        ]
        table = {"name": name, "title": "Ways to fail", "source": "nowhere", "rows": rows}
        table |= {"model": "segnext_t", "dataset": "ade20k"}
        (registry / "tables" / f"{name}.yaml").write_text(json.dumps(table))
    shutil.copytree(trained.results / "cache", registry / "results" / "cache")
    return Lab(registry / "results", registry)


@pytest.mark.parametrize("how", TOLD)
def test_a_run_that_can_say_why_it_fails_does(lab: Lab, trainer: Trainer, how: str) -> None:
    spec = lab.plan(how, table="told")
    assert trainer.train(lab, spec, "--registry", str(lab.registry)) == 1
    failure = lab.store.read_failure(spec.run_id)
    assert failure is not None
    assert failure.sentence.startswith(str(lab.registry / "classifiers" / "failing.py") + ", line")
    assert failure.sentence.endswith(TOLD[how])
    assert "failing.py" in failure.traceback
    log = lab.store.folder(spec.run_id).log.read_text().splitlines()
    assert log[-1] == failure.sentence


@pytest.fixture(scope="module")
def said(lab: Lab) -> subprocess.CompletedProcess[str]:
    """What the call for the table says of which all rows but the last fail."""
    return lab.call("untold")


@pytest.mark.slow
@pytest.mark.parametrize("how", UNTOLD)
def test_a_run_that_cannot_has_a_sentence_its_log_and_its_exit_code(
    lab: Lab, said: subprocess.CompletedProcess[str], how: str
) -> None:
    sentence, code, last = UNTOLD[how]
    folder = lab.store.folder(lab.plan(how, table="untold").run_id)
    (line,) = (
        part for part in " ".join(said.stderr.split()).split("failed ") if folder.path.name in part
    )
    assert sentence in line
    assert f"exit code {code}; log: {folder.log}" in line
    assert last in folder.log.read_text().splitlines()[-1]
    assert not folder.record.exists()


@pytest.mark.slow
def test_the_others_go_on(lab: Lab, said: subprocess.CompletedProcess[str]) -> None:
    assert said.returncode == 1
    assert "Traceback" not in said.stdout + said.stderr
    document = json.loads((lab.results / "tables" / "untold-smoke.json").read_text())
    numbers = [row["miou_percent"] for row in document["rows"]]
    assert [number is None for number in numbers] == [True, True, False]


class Noting:
    """Keeps how runs ended."""

    def __init__(self) -> None:
        self.ends: list[Outcome] = []

    def started(self, run: PlannedRun) -> None: ...

    def said(self, run: PlannedRun, sentence: str) -> None: ...

    def ended(self, outcome: Outcome) -> None:
        self.ends.append(outcome)

    def tick(self, active: Sequence[RunFolder]) -> None: ...


@pytest.mark.parametrize("error", [KeyError("the key"), RecursionError("deep"), OSError(28, "")])
def test_what_keeps_a_run_from_being_started_is_its_own(tmp_path: Path, error: Exception) -> None:
    def inputs_of(_spec: RunSpec) -> Inputs:
        raise error

    watching, store = Noting(), Store(tmp_path)
    specs = [make_spec(seed=seed) for seed in (0, 1)]
    for spec in specs:
        store.write_spec(spec)
    runs = [PlannedRun(spec, "missing", "") for spec in specs]
    ends = launch(runs, store, inputs_of, LocalLauncher(LocalOptions(jobs=1)), watching)
    assert ends == watching.ends
    assert [(end.spec, end.end) for end in ends] == [(spec, "failed") for spec in specs]
    for end in ends:
        if isinstance(error, OSError):
            assert "The disk is full" in end.sentence
            continue
        assert type(error).__name__ in end.sentence
        assert end.log is not None
        assert "Traceback" in end.log.read_text()
