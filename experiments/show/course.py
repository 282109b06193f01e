"""What is decided while seeds are added: a table on a terminal, a line a verdict elsewhere."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from experiments.judge.allocation import Standing
from experiments.launch.decide import Course, End
from experiments.plan.plan import Plan
from experiments.plan.request import Request
from experiments.show.claims import show_numbers
from experiments.show.progress_bars import train_and_show

COLOURS = {"decided": "green", "open": "yellow", "futile": "dim", "beyond seeds": "dim"}


class CourseWatcher:
    """Tells how a table's claims stand.

    Args:
        console: where to; standard error, so that results can be piped.
        request: where to train.
    """

    def __init__(self, console: Console, request: Request) -> None:
        self._console, self._request = console, request
        self._said: dict[str, str] = {}

    def train(self, plan: Plan, course: Course | None) -> bool:
        """Train what a plan lacks, the claims above the bars; whether all went well."""
        above = standing_table(course) if course and self._console.is_terminal else None
        outcomes = train_and_show(self._request, plan, above, brief=course is not None)
        return all(outcome.end != "failed" for outcome in outcomes)

    def told(self, course: Course) -> None:
        """Say whose fate has changed since the last time, with its reason then."""
        for claim in course.claims:
            name = claim.result.claim.id
            fate = claim.result.word if claim.fate == "decided" else claim.fate
            if self._said.get(name, "open") != fate:
                text = "open again" if fate == "open" else _outcome(claim)
                self._console.print(escape(f"{name}: {text}"), soft_wrap=True)
            self._said[name] = fate
        if not course.batch:
            self._console.print(escape(course_sentence(course)), soft_wrap=True)


def _outcome(claim: Standing) -> str:
    if claim.fate == "decided":
        return claim.result.word
    if claim.fate == "futile" and claim.ahead and claim.ahead.images is not None:
        return f"futile: the choice of images alone leaves ±{claim.ahead.images:.2f}"
    if claim.fate == "futile":
        return "futile: too near the border for so few seeds"
    if claim.fate == "beyond seeds":
        return f"beyond seeds: {claim.result.reason}"
    return claim.fate


def course_sentence(course: Course) -> str:
    """``2 of 6 claims decided, 1 futile, 24 runs; next lg to 5, lg-lsd to 5 seeds.``"""
    text = f"{course.count('decided')} of {len(course.claims)} claims decided"
    for fate in ("futile", "beyond seeds"):
        text += f", {course.count(fate)} {fate}" if course.count(fate) else ""
    text += f"; {course.num_runs} runs trained"
    if course.batch:
        rows = [f"{row} to {number}" for row, number in course.batch.items()]
        text += f"; next: {', '.join(rows)} seeds"
    return f"{text}."


def standing_table(course: Course) -> RichTable:
    """The claims, their numbers and what they need."""
    table = RichTable(title=escape(course_sentence(course)))
    for name in ("Claim", "Stands", "Number [95 % at any time]", "Seeds", "More"):
        table.add_column(name, justify="right" if name in ("Seeds", "More") else "left")
    for claim in course.claims:
        result, colour = claim.result, COLOURS[claim.fate]
        word = result.word if claim.fate == "decided" else claim.fate
        more = str(claim.ahead.more) if claim.fate == "open" and claim.ahead else ""
        table.add_row(
            escape(result.claim.text),
            f"[{colour}]{word}[/]",
            escape(show_numbers(result)) if result.unit else "",
            str(result.num_seeds),
            f"about {more}" if more not in ("", "None") else "",
        )
    return table


def end_sentence(end: End, command: str) -> str:
    """Why it ended, and what goes on.

    Args:
        end: how.
        command: the call.
    """
    match end:
        case "settled":
            return "Every claim is decided, futile or beyond what seeds can decide."
        case "budget":
            return f"The budget is spent; `{command}` goes on."
        case "blocked":
            return "The rows of an open claim cannot get another seed; the table says why."
        case "failed":
            return f"A run failed; `{command}` goes on where it stopped."
