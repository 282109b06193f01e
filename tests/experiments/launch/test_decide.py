"""Seeds are added until claims are decided: with made records, and once with real small runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from lab import Lab
from samples import make_areas, put
from typer.testing import CliRunner

from experiments.cli.app import app
from experiments.cli.options import parse_duration
from experiments.errors import StoreError, UnclearNameError
from experiments.judge.assemble import TableResult
from experiments.judge.tables import assembled
from experiments.launch.decide import FIRST_SEEDS, Budget, Course, End, decide
from experiments.plan.plan import Plan
from experiments.plan.request import Request, stored_request
from experiments.show.course import course_sentence, standing_table
from experiments.show.export import to_json, to_markdown
from experiments.store.areas import ImageAreas
from experiments.store.promises import path_of, read_promise

CLAIMED = """
name: claimed
title: Three small rows
source: nowhere
model: segnext_t
dataset: ade20k
rows:
  - {id: baseline, label: Baseline, classifier: {name: softmax}}
  - {id: full, label: SSA-Seg, classifier: {name: ssa}}
claims:
  - {id: helps, kind: gain, text: SSA-Seg helps, where: here, pairs: [[full, baseline]]}
"""


def register(folder: Path) -> Path:
    (folder / "tables").mkdir(parents=True)
    (folder / "tables" / "claimed.yaml").write_text(CLAIMED)
    return folder


@dataclass
class Made:
    """A call whose runs are made by hand instead of trained."""

    request: Request
    skill: dict[str, float]  # of each row's runs
    trained: list[tuple[str, int]] = field(default_factory=list)
    told: list[Course] = field(default_factory=list)
    now_s: float = 0.0
    after: Callable[[], None] = lambda: None

    def areas(self, row: str, seed: int) -> ImageAreas:
        skill = self.skill[row] + np.random.default_rng([seed, len(row)]).normal(0, 0.01)
        return make_areas(7, images=20, skill=skill)

    def train(self, plan: Plan, _course: Course | None) -> bool:
        for cell in plan.cells:
            if cell.run is not None and cell.run in plan.to_do:
                areas = self.areas(cell.row, cell.seed)
                put(self.request.store, cell.run.spec, areas, total_s=10.0)
                self.trained.append((cell.row, cell.seed))
                self.now_s += 10.0
        self.after()
        return True

    def decide(self, most: int = 12, budget_s: float | None = None) -> tuple[End, TableResult]:
        table = self.request.registry.table("claimed")
        budget = Budget(budget_s, clock=lambda: self.now_s)
        end, plan = decide(self.request, table, budget, most, self.train, self.told.append)
        (result,) = assembled(self.request, plan)
        return end, result

    def stored(self) -> TableResult:
        """The table as a plain call sees it."""
        table = self.request.registry.table("claimed")
        (result,) = assembled(self.request, self.request.plan([table]))
        return result


@pytest.fixture
def made(tmp_path: Path) -> Made:
    registry = register(tmp_path / "registry")
    request = stored_request("smoke", None, tmp_path / "results", registry=[registry])
    return Made(request, {"baseline": 0.6, "full": 0.8})


def test_a_clear_gain_is_decided_with_few_seeds_and_marked(made: Made) -> None:
    end, result = made.decide()
    assert end == "settled"
    (claim,) = result.claims
    assert claim.word == "holds"
    assert FIRST_SEEDS <= claim.num_seeds < 8
    assert sorted(made.trained) == [
        (row, seed) for row in ("baseline", "full") for seed in range(claim.num_seeds)
    ]
    text = to_markdown(result)
    assert "**holds** (sequential)" in text
    assert "Sequential: seeds were added while the verdicts were looked at" in text
    assert json.loads(to_json(result))["sequential"] is True


def test_a_plain_call_knows_of_the_seeds_that_were_added(made: Made) -> None:
    _, decided = made.decide()
    plain = made.stored()
    assert plain.complete
    assert plain.sequential
    assert plain.claims == decided.claims
    assert plain.rows[1].gain == decided.rows[1].gain


def test_a_table_whose_seeds_were_fixed_is_judged_as_before(made: Made) -> None:
    table = made.request.registry.table("claimed")
    three = replace(made.request, seeds=(0, 1, 2))
    made.train(three.plan([table]), None)
    (fixed,) = assembled(three, three.plan([table]))
    assert not fixed.sequential
    assert "sequential" not in to_markdown(fixed).lower()
    made.decide()
    (later,) = assembled(three, three.plan([table]))
    assert later.sequential, "it has been looked at, whichever seeds are asked for"
    assert later.rows[1].gain is not None
    assert fixed.rows[1].gain is not None
    assert later.rows[1].gain.high > fixed.rows[1].gain.high


def test_a_second_call_trains_nothing_and_an_interrupted_one_goes_on(made: Made) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    made.after = interrupt
    with pytest.raises(KeyboardInterrupt):
        made.decide()
    begun = list(made.trained)
    assert made.stored().sequential, "the promise is kept before the first run"
    made.after = lambda: None
    made.decide()
    assert len(set(made.trained)) == len(made.trained) > len(begun)
    number = len(made.trained)
    end, _ = made.decide()
    assert (end, len(made.trained)) == ("settled", number)


def test_what_is_stored_counts_from_the_start(made: Made) -> None:
    """Also of a row whose claim is given up or decided before it would have asked for them."""
    table = made.request.registry.table("claimed")
    made.train(replace(made.request, seeds=tuple(range(7))).plan([table]), None)
    trained = list(made.trained)
    _, result = made.decide()
    assert made.trained == trained
    assert [claim.num_seeds for claim in result.claims] == [7]
    assert [row.num_seeds for row in result.rows] == [7, 7]


def test_what_another_table_trains_meanwhile_counts_and_is_not_trained_again(made: Made) -> None:
    made.skill = {"baseline": 0.7, "full": 0.7}
    table = made.request.registry.table("claimed")

    def train_elsewhere() -> None:
        made.after = lambda: None
        made.train(replace(made.request, seeds=tuple(range(9))).plan([table]), None)

    made.after = train_elsewhere
    _, result = made.decide(most=9)
    assert len(made.trained) == len(set(made.trained)) == 2 * 9
    assert [row.num_seeds for row in result.rows] == [9, 9]


def test_without_a_gain_the_claim_is_given_up_or_left_open_at_the_most_seeds(made: Made) -> None:
    made.skill = {"baseline": 0.7, "full": 0.7}
    end, result = made.decide(most=6)
    assert end == "settled"
    assert result.claims[0].word == "undecided"
    assert made.told[-1].count("futile") == 1
    assert max(seed for _, seed in made.trained) < 6
    assert "0 of 1 claims decided, 1 futile" in course_sentence(made.told[-1])
    assert standing_table(made.told[-1]).row_count == 1


def test_a_spent_budget_begins_nothing_and_a_small_one_what_fits(made: Made) -> None:
    table = made.request.registry.table("claimed")
    made.train(made.request.plan([table]), None)  # one seed, 10 s a run
    made.trained.clear()
    end, result = made.decide(budget_s=0.0)
    assert end == "budget"
    assert made.trained == []
    assert result.claims[0].word == "undecided"
    end, _ = made.decide(budget_s=25.0)
    assert end == "budget"
    assert len(made.trained) == 2, "one run goes on at once"


def test_a_failed_run_ends_it(made: Made) -> None:
    made.train = lambda plan, course: False  # type: ignore[method-assign]
    assert made.decide()[0] == "failed"


def test_a_table_without_claims_is_refused(made: Made) -> None:
    table = made.request.registry.table("claimed")
    bare = table.model_copy(update={"claims": ()})
    with pytest.raises(UnclearNameError, match="declares no claims"):
        decide(made.request, bare, Budget(None), 5, made.train, made.told.append)
    assert not (made.request.workspace.results / "decide").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"table": "another", "profile": "smoke"}'])
def test_a_damaged_promise_is_one_sentence_with_the_next_command(made: Made, text: str) -> None:
    path = path_of(made.request.workspace.results, "claimed", "smoke")
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(StoreError, match=r"damaged.*run_all\.sh decide claimed --profile smoke"):
        made.stored()


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("45m", 2700), ("2h", 7200), ("1h30m", 5400), ("0.5h", 1800)]
)
def test_a_budget_is_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "2", "h", "0s", "2 h", "2d", "-1h", "1h30"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="--budget takes a duration"):
        parse_duration(text)


def test_real_runs_are_added_and_a_plain_call_is_judged_alike(trained: Lab, tmp_path: Path) -> None:
    lab = Lab(trained.copy(tmp_path / "results").results, register(tmp_path / "registry"))
    said = lab.call("decide", "claimed", "--max-seeds", "3")
    assert said.returncode in (0, 3), said.stderr
    assert "claims decided" in said.stderr
    promise = read_promise(lab.results, "claimed", "smoke")
    assert promise is not None
    assert promise.seeds == {"baseline": 3, "full": 3}
    assert len(lab.store.run_ids()) == 6, "two of them had been trained before"
    registry = [lab.registry]
    call = stored_request("smoke", None, lab.results, registry=registry)
    (plain,) = assembled(call, call.plan([call.registry.table("claimed")]))
    assert plain.complete
    assert plain.claims[0].sequential
    assert plain.claims[0].num_seeds == 3


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["figure4"], "decide takes a table"),
        (["table9", "--budget", "soon"], "--budget takes a duration"),
    ],
)
def test_a_wrong_call_is_one_sentence(tmp_path: Path, words: list[str], says: str) -> None:
    said = CliRunner().invoke(app, ["decide", *words, "--results", str(tmp_path / "results")])
    assert said.exit_code != 0
    assert says in f"{said.output} {said.exception}"
    assert not (tmp_path / "results").exists()
