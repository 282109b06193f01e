"""Where the next seeds go: to open claims, the cheap and the near first, shared rows for all."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from experiments.declare.load import load_registry
from experiments.judge.allocation import Standing, next_seeds, standings
from experiments.judge.claims import ClaimResult
from experiments.judge.hurdles import Hurdle
from experiments.judge.statistics import Estimate

CLAIMS = load_registry().table("table9").claims
MOST = 30


def claim(
    row: str, value: float, *, seeds: int = 5, images: float = 0.0, word: str = "undecided"
) -> ClaimResult:
    """A claim that a row is better than the row ``base``; deviation 1 between seeds."""
    estimate = Estimate(value, 1.0 / seeds, images, seeds, 150, 2.0, sequential=True)
    ways = tuple((Hurdle(estimate, 0.0, side, (row, "base")),) for side in (True, False))
    return ClaimResult(CLAIMS[0], word, "why", ways=ways)  # type: ignore[arg-type]


def fates(*results: ClaimResult, most: int = MOST) -> list[str]:
    return [standing.fate for standing in standings(results, most)]


def chosen(
    claims: Sequence[Standing], seeds: dict[str, int], runs: int = 1, **more: object
) -> dict[str, int]:
    return next_seeds(claims, seeds, lambda _: 1.0, runs, MOST, **more)  # type: ignore[arg-type]


def test_a_claim_is_futile_where_so_many_seeds_would_not_decide_it_even_with_luck() -> None:
    near, far, decided = claim("a", 0.01, seeds=20), claim("b", 1.0), claim("c", 9, word="holds")
    assert fates(near, far, decided) == ["futile", "open", "decided"]


def test_nothing_is_futile_before_its_spread_is_known() -> None:
    assert fates(claim("a", 0.01, seeds=3)) == ["open"]


def test_a_claim_that_the_images_reach_over_is_futile_and_says_so() -> None:
    (standing,) = standings([claim("a", 1.0, seeds=20, images=1.0)], MOST)
    assert standing.fate == "futile"
    assert standing.ahead is not None
    assert standing.ahead.images is not None
    assert standing.ahead.images > 1.0


def test_with_the_most_seeds_an_open_claim_is_futile() -> None:
    assert fates(claim("a", 1.0, seeds=5), most=5) == ["futile"]


def test_a_claim_without_runs_is_beyond_seeds() -> None:
    assert fates(ClaimResult(CLAIMS[0], "undecided", "missing: no runs")) == ["beyond seeds"]


def test_the_near_claim_comes_first_and_a_decided_row_gets_nothing() -> None:
    claims = standings([claim("a", 0.9), claim("b", 1.6), claim("c", 9, word="holds")], MOST)
    assert chosen(claims, {"base": 5, "a": 5, "b": 5, "c": 5}) == {"b": 6, "base": 6}


def test_a_row_that_lags_is_brought_up_first_without_its_partner() -> None:
    """The baseline has more seeds already, so that a pair costs one run."""
    claims = standings([claim("a", 1.6)], MOST)
    assert chosen(claims, {"base": 8, "a": 5}, runs=2) == {"a": 7}


def test_a_row_that_claims_share_counts_for_all_of_them() -> None:
    """Once the baseline has a sixth seed, each other claim's pair costs one run and not two."""
    claims = standings([claim("a", 1.0), claim("b", 1.0), claim("c", 1.0)], MOST)
    seeds = dict.fromkeys(("base", "a", "b", "c"), 5)
    assert chosen(claims, seeds, runs=4) == {"base": 6, "a": 6, "b": 6, "c": 6}


def test_the_cheap_row_comes_first() -> None:
    claims = standings([claim("a", 1.2), claim("b", 1.2)], MOST)
    prices = {"base": 1.0, "a": 10.0, "b": 1.0}
    seeds = dict.fromkeys(prices, 5)
    assert next_seeds(claims, seeds, prices.__getitem__, 2, MOST) == {"base": 6, "b": 6}


@pytest.mark.parametrize("runs", [0, 1, 3])
def test_what_does_not_fit_is_not_begun(runs: int) -> None:
    claims = standings([claim("a", 1.2)], MOST)
    seeds = {"base": 5, "a": 5}

    def fits(given: dict[str, int]) -> bool:
        return sum(n - seeds[row] for row, n in given.items()) <= runs

    expected = {"base": 6, "a": 6} if runs > 1 else {}
    assert chosen(claims, seeds, runs=8, fits=fits) == expected
