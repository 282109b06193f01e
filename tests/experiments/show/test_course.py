"""What is said while seeds are added: once a change of fate, with its reason."""

from __future__ import annotations

import io

from rich.console import Console

from experiments.declare.load import load_registry
from experiments.judge.allocation import Fate, Standing
from experiments.judge.claims import ClaimResult, Word
from experiments.judge.hurdles import Outlook
from experiments.launch.decide import Course
from experiments.show.course import CourseWatcher

CLAIM = load_registry().table("table9").claims[0]


def told(*fates: tuple[Fate, Word, float | None]) -> list[str]:
    """The lines of a course in which one claim stands so, one look after the other."""
    said = io.StringIO()
    watcher = CourseWatcher(Console(file=said, width=200), None)  # type: ignore[arg-type]
    for number, (fate, word, images) in enumerate(fates):
        ahead = Outlook((), None, images) if fate == "futile" else None
        claim = Standing(ClaimResult(CLAIM, word, "why"), fate, ahead)
        watcher.told(Course(None, (claim,), number, {"full": number + 3}))  # type: ignore[arg-type]
    return said.getvalue().splitlines()


def test_a_fate_is_said_once_and_again_when_it_has_changed() -> None:
    name = CLAIM.id
    assert told(("open", "undecided", None), ("open", "undecided", None)) == []
    course = [
        ("futile", "undecided", 0.2),
        ("futile", "undecided", 0.3),
        ("futile", "undecided", None),
        ("open", "undecided", None),
        ("decided", "holds", None),
        ("decided", "holds", None),
    ]
    assert told(*course) == [  # type: ignore[arg-type]
        f"{name}: futile: the choice of images alone leaves ±0.20",
        f"{name}: open again",
        f"{name}: holds",
    ]
