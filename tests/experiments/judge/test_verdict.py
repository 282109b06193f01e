"""One word for each pair of numbers."""

from __future__ import annotations

import pytest

from experiments.judge.verdict import against_paper, against_reference, of_complexity


@pytest.mark.parametrize(
    ("measured", "reported", "comparable", "noise", "word"),
    [
        (42.0, None, True, 0.0, "not reported"),
        (None, 42.0, True, 0.0, "missing"),
        (42.0, 42.0, False, 0.0, "not comparable"),
        (None, 42.0, False, 0.0, "missing"),
        (42.39, 42.0, True, 0.0, "reproduced"),
        (41.61, 42.0, True, 0.0, "reproduced"),
        (42.7, 42.0, True, 0.8, "within noise"),
        (41.3, 42.0, True, 0.8, "within noise"),
        (42.9, 42.0, True, 0.8, "above"),
        (41.1, 42.0, True, 0.8, "below"),
        (42.5, 42.0, True, 0.0, "above"),
    ],
)
def test_against_the_paper(
    measured: float | None, reported: float | None, comparable: bool, noise: float, word: str
) -> None:
    verdict = against_paper(
        measured, reported, profile="quick", comparable=comparable, noise=noise, stated_error=0.4
    )
    assert verdict.word == word
    assert verdict.reason


def test_no_number_of_a_small_profile_is_ever_compared_with_the_papers() -> None:
    verdict = against_paper(42.0, 42.0, profile="quick", comparable=False, noise=9.0)
    assert str(verdict) == "not comparable (quick)"


@pytest.mark.parametrize(
    ("measured", "reference", "noise", "word"),
    [
        (42.0, None, 0.0, "no reference"),
        (None, 42.0, 0.0, "missing"),
        (42.3, 42.0, 0.0, "agrees"),
        (42.9, 42.0, 1.0, "agrees"),
        (41.0, 42.0, 0.5, "differs"),
        (43.0, 42.0, 0.5, "differs"),
    ],
)
def test_against_the_reference(
    measured: float | None, reference: float | None, noise: float, word: str
) -> None:
    verdict = against_reference(measured, reference, noise=noise, stated_error=0.4)
    assert verdict.word == word
    assert str(verdict) == word


@pytest.mark.parametrize(
    ("measured", "reported", "digits", "word"),
    [
        (6.44, 6.4, 1, "reproduced"),
        (6.52, 6.4, 1, "reproduced"),  # 1.9 % off
        (6.6, 6.4, 1, "different"),
        (None, 6.4, 1, "not measured"),
        (6.4, None, 1, "not reported"),
    ],
)
def test_of_complexity(
    measured: float | None, reported: float | None, digits: int, word: str
) -> None:
    assert of_complexity(measured, reported, digits=digits).word == word
