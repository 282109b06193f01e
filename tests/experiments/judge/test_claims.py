"""Verdicts on claims, on made areas where the truth is known; and the shipped tables' claims."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError
from samples import make_areas, make_record, make_spec

from experiments.declare.load import load_registry
from experiments.declare.table import Table
from experiments.judge.claims import ClaimResult, Evidence, judge, together
from experiments.judge.statistics import ScoredRun
from experiments.show.claims import claim_document, show_claim
from experiments.store.areas import ImageAreas, scores
from experiments.store.records import CurvePoint, Record

SEEDS = (0, 1, 2)
IMAGES = 40
SHIPPED = load_registry()


def table_of(claim: dict[str, Any], rows: Sequence[str]) -> Table:
    return Table.model_validate(
        {
            "name": "made",
            "title": "Made",
            "source": "nowhere",
            "model": "segnext_t",
            "dataset": "scenes",
            "rows": [{"id": row, "label": row, "classifier": {"name": "softmax"}} for row in rows],
            "claims": [{"id": "it", "text": "It is so", "where": "here", **claim}],
        }
    )


def runs_of(number: int, skill: float, seeds: Sequence[int]) -> dict[int, ImageAreas]:
    return {seed: make_areas(100 * number + seed, images=IMAGES, skill=skill) for seed in seeds}


def verdict(
    claim: dict[str, Any],
    skills: Mapping[str, float],
    *,
    seeds: Sequence[int] = SEEDS,
    areas: Mapping[str, Mapping[int, ImageAreas]] | None = None,
    curves: Mapping[str, Sequence[float]] | None = None,
    rows: Sequence[str] | None = None,
) -> ClaimResult:
    """The verdict on a claim about rows whose pixels are right with a known probability."""
    made = areas or {row: runs_of(n, skill, seeds) for n, (row, skill) in enumerate(skills.items())}
    records: dict[str, dict[int, Record]] = {}
    scored: dict[str, ScoredRun] = {}
    for row, runs in made.items():
        for seed, run in runs.items():
            record = make_record(make_spec(seed=seed), run)
            name = f"run-{hash(run.digest())}"  # equal areas are one run
            change: dict[str, Any] = {"run_id": name}
            if curves is not None:
                change["curve"] = curve(curves[row], record)
                change["scores"] = change["curve"][-1].scores
            records.setdefault(row, {})[seed] = record.model_copy(update=change)
            scored[name] = ScoredRun(run)
    table = table_of(claim, rows or list(made))
    (result,) = judge(Evidence(table, records, scored.__getitem__, sequential=False))
    json.dumps(claim_document(result), allow_nan=False)
    assert show_claim(result).startswith(f"It is so (here): {result.word}")
    return result


def curve(mious: Sequence[float], record: Record) -> tuple[CurvePoint, ...]:
    """Evaluations at equal distances over the spec's 40 iterations."""
    step = record.spec.training.iterations // len(mious)
    return tuple(
        CurvePoint(
            iteration=(n + 1) * step,
            scores=record.scores.model_copy(update={"miou": miou}),
            losses={},
        )
        for n, miou in enumerate(mious)
    )


GAIN = {"kind": "gain", "pairs": [("a", "b")]}
BEST = {"kind": "best", "row": "a"}
WITHIN = {"kind": "within", "row": "a", "points": 3.0}
SHARE = {"kind": "share", "part": ("a", "b"), "whole": ("a", "c"), "at_least": 0.5}
TREND = {
    "kind": "trend",
    "along": "shift",
    "points": [{"at": n, "pair": (f"a{n}", f"b{n}")} for n in range(3)],
}


def trend(*gains: float) -> dict[str, float]:
    """Skills of three pairs whose first is better by so much."""
    return {
        row: skill
        for n, gain in enumerate(gains)
        for row, skill in ((f"a{n}", 0.6 + gain), (f"b{n}", 0.6))
    }


@pytest.mark.parametrize(
    ("claim", "skills", "word"),
    [
        (GAIN, {"a": 0.8, "b": 0.6}, "holds"),
        (GAIN, {"a": 0.6, "b": 0.8}, "does not hold"),
        (GAIN, {"a": 0.7, "b": 0.7}, "undecided"),
        (GAIN | {"at_least": 5.0}, {"a": 0.8, "b": 0.6}, "holds"),
        (GAIN | {"at_least": 90.0}, {"a": 0.8, "b": 0.6}, "does not hold"),
        (GAIN | {"pairs": [("a", "b"), ("a", "c")]}, {"a": 0.8, "b": 0.6, "c": 0.6}, "holds"),
        (
            GAIN | {"pairs": [("a", "b"), ("a", "c")]},
            {"a": 0.8, "b": 0.6, "c": 0.9},
            "does not hold",
        ),
        (GAIN | {"pairs": [("a", "b"), ("a", "c")]}, {"a": 0.8, "b": 0.6, "c": 0.8}, "undecided"),
        (BEST, {"b": 0.6, "a": 0.8, "c": 0.7}, "holds"),
        (BEST, {"b": 0.6, "a": 0.7, "c": 0.8}, "does not hold"),
        (BEST, {"b": 0.6, "a": 0.8, "c": 0.8}, "undecided"),
        (BEST | {"among": ["b"]}, {"b": 0.6, "a": 0.7, "c": 0.8}, "holds"),
        (WITHIN, {"a": 0.7, "b": 0.7, "c": 0.7}, "holds"),
        (WITHIN, {"a": 0.7, "b": 0.9, "c": 0.7}, "does not hold"),
        (WITHIN, {"a": 0.7, "b": 0.5, "c": 0.7}, "does not hold"),
        (WITHIN | {"points": 0.2}, {"a": 0.7, "b": 0.7, "c": 0.7}, "undecided"),
        (SHARE, {"a": 0.8, "b": 0.62, "c": 0.6}, "holds"),
        (SHARE, {"a": 0.8, "b": 0.78, "c": 0.6}, "does not hold"),
        (SHARE, {"a": 0.8, "b": 0.715, "c": 0.6}, "undecided"),
        (SHARE, {"a": 0.7, "b": 0.6, "c": 0.7}, "undecided"),
        (TREND, trend(0.0, 0.1, 0.2), "holds"),
        (TREND, trend(0.2, 0.1, 0.0), "does not hold"),
        (TREND, trend(0.1, 0.1, 0.1), "undecided"),
    ],
)
def test_the_verdict_is_the_truth(
    claim: dict[str, Any], skills: dict[str, float], word: str
) -> None:
    result = verdict(claim, skills)
    assert result.word == word, result
    if result.value is not None:
        assert result.low is not None
        assert result.high is not None
        assert result.low <= result.value <= result.high


def test_a_gains_numbers_are_those_of_the_gain_in_the_table() -> None:
    result = verdict(GAIN, {"a": 0.8, "b": 0.6})
    first, second = runs_of(0, 0.8, SEEDS), runs_of(1, 0.6, SEEDS)
    pairs = [scores(first[seed]).miou - scores(second[seed]).miou for seed in SEEDS]
    assert result.value == pytest.approx(sum(pairs) / len(pairs))
    assert result.unit == "points"
    assert result.num_seeds == 3


def test_without_pairs_every_row_is_held_against_its_baseline() -> None:
    """The first row is the baseline of the others."""
    every = {"kind": "gain"}
    assert verdict(every, {"b": 0.6, "a": 0.8, "c": 0.8}).word == "holds"
    assert verdict(every, {"b": 0.6, "a": 0.8, "c": 0.4}).word == "does not hold"


def test_the_numbers_are_the_weakest_gains() -> None:
    result = verdict(BEST, {"a": 0.8, "b": 0.5, "c": 0.7})
    assert result.word == "holds"
    assert "a over c" in result.reason


def test_one_of_many_does_not_fail_by_chance() -> None:
    """Twenty differences of nothing: some interval of 95 % may well miss zero."""
    rows = {"a": 0.7} | {f"b{n}": 0.7 for n in range(20)}
    assert verdict(BEST, rows).word == "undecided"


def test_one_seed_decides_nothing_and_the_reason_says_images_only() -> None:
    result = verdict(GAIN, {"a": 0.8, "b": 0.6}, seeds=[0])
    assert result.word == "undecided"
    assert "one seed: images only" in result.reason
    assert "one seed" not in verdict(GAIN, {"a": 0.8, "b": 0.6}).reason


def test_without_runs_nothing_is_decided() -> None:
    for claim in (GAIN, BEST, WITHIN, SHARE, REACH):
        result = verdict(claim, {"a": 0.8}, rows=["a", "b", "c"])
        assert result.word == "undecided"
        assert result.reason.startswith("missing: ")
        assert "b" in result.reason
        assert result.unit is None
    rows = [row for n in range(3) for row in (f"a{n}", f"b{n}")]
    assert "missing" in verdict(TREND, {"a0": 0.8}, rows=rows).reason


def test_only_seeds_that_all_rows_have_count() -> None:
    areas = {"a": runs_of(0, 0.8, [0, 1]), "b": runs_of(1, 0.6, [1, 2])}
    assert verdict(GAIN, {}, areas=areas).num_seeds == 1
    apart = {"a": runs_of(0, 0.8, [0]), "b": runs_of(1, 0.6, [1])}
    assert "missing" in verdict(GAIN, {}, areas=apart).reason


def test_one_run_under_two_names_decides_nothing() -> None:
    """Small profiles read one data set for all: rows that differ by it alone are the same run."""
    same = runs_of(0, 0.7, SEEDS)
    assert "same run" in verdict(GAIN, {}, areas={"a": same, "b": same}).reason
    other = runs_of(1, 0.5, SEEDS)
    assert verdict(BEST, {}, areas={"a": same, "b": same, "c": other}).word == "holds"


# --- curves -------------------------------------------------------------------------------------

REACH = {"kind": "reach", "row": "a", "over": "b", "within": 0.5}


@pytest.mark.parametrize(
    ("ours", "word", "value"),
    [
        ([10, 40, 41, 42], "holds", 0.5),
        ([40, 40, 41, 42], "holds", 0.25),
        ([10, 20, 40, 42], "does not hold", 0.75),
        ([10, 20, 30, 39], "does not hold", math.inf),
    ],
)
def test_a_curve_reaches_what_the_other_ends_at(ours: list[float], word: str, value: float) -> None:
    curves = {"a": ours, "b": [10.0, 20.0, 30.0, 40.0]}
    result = verdict(REACH, {"a": 0.8, "b": 0.6}, curves=curves)
    assert (result.word, result.value) == (word, value)


def test_between_two_evaluations_a_curve_is_not_known() -> None:
    """Evaluated at a quarter and a half, nobody can say whether a third was enough."""
    curves = {"a": [10.0, 40.0, 41.0, 42.0], "b": [10.0, 20.0, 30.0, 40.0]}
    result = verdict(REACH | {"within": 0.34}, {"a": 0.8, "b": 0.6}, curves=curves)
    assert result.word == "undecided"
    assert (result.low, result.value, result.high) == (0.25, 0.5, 0.5)


def test_one_curve_has_no_spread() -> None:
    curves = {"a": [40.0, 41.0], "b": [10.0, 40.0]}
    result = verdict(REACH, {"a": 0.8, "b": 0.6}, curves=curves, seeds=[0])
    assert result.word == "undecided"
    assert "one seed" in result.reason


# --- what may be declared -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claim", "words"),
    [
        (GAIN | {"pairs": [("a", "x")]}, "no row 'x'"),
        (BEST | {"among": ["x"]}, "no row 'x'"),
        (GAIN | {"kind": "gian"}, "gian"),
        (GAIN | {"row": "a"}, "row"),
        (WITHIN | {"points": 0}, "greater than 0"),
        (TREND | {"points": [{"at": 0, "pair": ("a", "b")}] * 3}, "two places"),
    ],
)
def test_a_claim_that_means_nothing_is_refused(claim: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        table_of(claim, ["a", "b", "c"])


@pytest.mark.parametrize("table", SHIPPED.tables.values(), ids=lambda table: table.name)
def test_every_shipped_table_says_what_it_shows(table: Table) -> None:
    assert table.claims
    rows = {row.id for row in table.rows}
    for claim in table.claims:
        assert claim.named <= rows
        assert claim.text[0].isupper()
        assert not claim.text.endswith(".")
        assert claim.where


@pytest.mark.parametrize("number", range(1, 14))
def test_the_papers_printed_numbers_bear_its_claims_out(number: int) -> None:
    """So that no claim reads a table the wrong way round."""
    table = SHIPPED.table(f"table{number}")
    printed = {row.id: row.reported.miou for row in table.rows}
    for claim in table.claims:
        pairs: list[tuple[str, str]] = []
        if claim.kind == "gain":
            pairs = list(claim.pairs) or [(r.id, table.baseline_of(r).id) for r in table.rows]
        elif claim.kind == "best":
            pairs = [(claim.row, other) for other in claim.among or printed]
        elif claim.kind == "within":
            assert all(abs(miou - printed[claim.row]) < claim.points for miou in printed.values())
        for ours, theirs in pairs:
            if ours != theirs:
                assert printed[ours] > printed[theirs], claim.id


def test_the_claims_of_a_table_are_decided_together() -> None:
    """Of two claims each decided at 4 %, neither is at 2.5 % (Holm)."""
    claims = [ClaimResult(c, "holds", "why", p_value=0.04) for c in SHIPPED.table("table9").claims]
    assert [r.word for r in together(claims[:2])] == ["undecided"] * 2
    assert "Holm" in together(claims[:2])[0].reason
    assert [r.word for r in together(claims[:1])] == ["holds"]
    sure = replace(claims[0], p_value=0.001)
    assert [r.word for r in together([claims[1], sure])] == ["holds", "holds"]
