"""How many more seeds would decide a claim, and how many it takes to see a gain."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from lab import write_registry
from samples import make_areas, put
from typer.testing import CliRunner

from experiments.cli.app import app
from experiments.declare.load import load_registry
from experiments.judge.claims import ClaimResult, together
from experiments.judge.detection import detection
from experiments.judge.hurdles import Hurdle, outlook
from experiments.judge.power import PairSpread, pair_spread
from experiments.judge.spread import half_width
from experiments.judge.statistics import Estimate
from experiments.plan.request import Request, stored_request
from experiments.show.claims import show_claim
from experiments.show.detection import detection_lines

CLAIMS = load_registry().table("table9").claims


def estimate(value: float, deviation: float = 1.0, seeds: int = 3, images: float = 0.0) -> Estimate:
    return Estimate(value, deviation**2 / seeds, images, seeds, 150, 2.0)


def open_claim(*estimates: Estimate) -> ClaimResult:
    """A claim that all of them are positive."""
    above = tuple(Hurdle(each, 0.0, above=True, rows=("a", "b")) for each in estimates)
    below = [
        (Hurdle(each, 0.0, above=False, rows=("a", "b"), number=len(estimates)),)
        for each in estimates
    ]
    return ClaimResult(CLAIMS[0], "undecided", "why", ways=(above, *below))


@pytest.mark.parametrize("value", [1.0, -1.0, 0.4])
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 6])
def test_with_so_many_more_seeds_it_is_decided_and_with_one_less_it_is_not(
    value: float, alpha: float
) -> None:
    now = estimate(value)
    ahead = outlook(open_claim(now).ways, alpha)
    assert ahead is not None
    assert ahead.more
    widths = [now.with_seeds(3 + ahead.more - n).half_width(1 - alpha) for n in (0, 1)]
    assert widths[0] < abs(value) <= widths[1]


def test_of_several_gains_the_slowest_counts_and_those_in_the_clear_need_nothing() -> None:
    sure, near, far = estimate(50.0), estimate(2.0), estimate(0.8)
    alone = outlook(open_claim(far).ways, 0.05)
    ahead = outlook(open_claim(sure, near, far).ways, 0.05)
    assert alone is not None
    assert ahead is not None
    assert ahead.more == alone.more
    assert [hurdle.estimate for hurdle in ahead.open] == [near, far]


def test_one_gain_on_the_wrong_side_is_the_way_to_a_contradiction() -> None:
    ahead = outlook(open_claim(estimate(2.0), estimate(-2.0)).ways, 0.05)
    assert ahead is not None
    (hurdle,) = ahead.open
    assert not hurdle.above
    assert hurdle.number == 2


@pytest.mark.parametrize(
    ("now", "says"),
    [
        (estimate(1.0), r"about \d+ more seeds of its rows would decide it"),
        (estimate(1.0, images=0.3**2), r"about \d+ more seeds"),
        (estimate(1.0, images=0.6**2), r"the choice of images alone leaves ±1\.19"),
        (estimate(0.01), "more than 200 seeds"),
        (estimate(0.0), "more than 200 seeds"),
    ],
)
def test_an_undecided_claim_says_what_would_decide_it(now: Estimate, says: str) -> None:
    (result,) = together([open_claim(now)])
    assert re.search(says, show_claim(result)), show_claim(result)


def test_nothing_is_said_of_one_seed_or_of_a_verdict() -> None:
    (single,) = together([open_claim(estimate(1.0, seeds=1))])
    assert show_claim(single).endswith("why.")
    (decided,) = together([replace(open_claim(estimate(50.0)), word="holds", p_value=0.001)])
    assert decided.outlook is None


def test_the_hint_is_at_the_level_that_the_claim_will_be_held_against() -> None:
    """Of six claims the first is held against 0.05 / 6, which takes more seeds."""
    alone, *six = (together([open_claim(estimate(1.0))] * n)[0].outlook for n in (1, 6))
    assert alone is not None
    assert six[0] is not None
    assert (six[0].more or 0) > (alone.more or 0) > 0


@pytest.mark.parametrize("images", [0.0, 0.3])
@pytest.mark.parametrize("seeds", [2, 5, 12])
def test_the_power_is_the_share_of_simulated_tables_that_see_the_gain(
    images: float, seeds: int
) -> None:
    generator = np.random.default_rng([seeds, int(10 * images)])
    gains = 1.0 + generator.normal(0, 0.9, (20000, seeds))
    gains += generator.normal(0, images, (20000, 1))
    width = half_width(gains.var(1, ddof=1) / seeds, seeds, images**2, 150)
    seen = float(np.mean(gains.mean(1) > width))
    spread = PairSpread(0.9, 10, images**2, 150, 6)
    assert spread.power(1.0, seeds) == pytest.approx(seen, abs=0.015)


def test_the_fewest_seeds_with_that_power_are_asked_for() -> None:
    spread = PairSpread(0.9, 10, 0.0, 150, 6)
    seeds = spread.seeds_to_see(1.0)
    assert seeds is not None
    assert spread.power(1.0, seeds) >= 0.8 > spread.power(1.0, seeds - 1)
    assert PairSpread(0.9, 10, 1.0, 150, 6).seeds_to_see(1.0) is None, "images forbid it"


@pytest.fixture(scope="module")
def call(tmp_path_factory: pytest.TempPathFactory) -> Request:
    """Results with three seeds of the rows of ``pair``."""
    folder = tmp_path_factory.mktemp("detect")
    registry = write_registry(folder / "registry")
    request = stored_request("smoke", 3, folder / "results", registry=[registry])
    for row, skill in zip(
        request.plan([request.registry.table("pair")]).tables[0].rows, (0.6, 0.7)
    ):
        for cell in row.cells:
            assert cell.spec is not None
            areas = make_areas(10 * cell.seed + int(10 * skill), images=20, skill=skill)
            put(request.store, cell.spec, areas)
    return request


def test_stored_deviations_say_how_many_seeds_runs_and_hours_a_gain_takes(call: Request) -> None:
    found = detection(call, call.registry.table("pair"), 2.0)
    assert found.spread is not None
    assert found.spread.freedom == 2
    assert not found.shipped
    assert found.alone is not None
    assert found.alone.plan is not None
    assert len(found.alone.plan.runs) == 2 * (found.alone.seeds or 0)
    assert len(found.alone.plan.to_do) == len(found.alone.plan.runs) - 6
    text = " ".join(detection_lines(found, 2))
    assert re.search(r"in 80 % of cases: \d+ seeds; \d+ runs, 6 cached, \d+ to do; about", text)


def test_the_deviation_is_that_of_paired_gains(call: Request) -> None:
    from experiments.judge.assemble import evidence_of

    (planned,) = call.plan([call.registry.table("pair")]).tables
    spread = pair_spread(evidence_of(planned, call.store))
    mious = [[record.scores.miou for record in row.records.values()] for row in planned.rows]
    assert spread is not None
    assert spread.deviation == pytest.approx(np.std(np.subtract(*mious[::-1]), ddof=1))


def test_without_two_seeds_anywhere_it_says_what_makes_some(call: Request, tmp_path: Path) -> None:
    workspace = replace(call.workspace, results=tmp_path / "results")
    bare = detection(replace(call, workspace=workspace), call.registry.table("pair"), 1.0)
    (line,) = detection_lines(bare, 2)
    assert "`./run_all.sh pair --profile smoke --seeds 3` makes some" in line


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["table9", "--detect", "0"], "--detect takes a gain in points"),
        (["figure4", "--detect", "1"], "--detect is about the gains of a table"),
    ],
)
def test_a_wrong_question_is_one_sentence(words: list[str], says: str) -> None:
    said = CliRunner().invoke(app, ["plan", *words])
    assert said.exit_code != 0
    assert says in " ".join(f"{said.output} {said.exception}".split())
