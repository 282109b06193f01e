"""What it takes to see a gain, in a few sentences."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from experiments.judge.detection import Detection, Needed
from experiments.judge.power import MOST_SEEDS, POWER
from experiments.show.console import plan_sentence


def show_needed(console: Console, detection: Detection, jobs: int) -> bool:
    """Print it; whether anything is known."""
    for line in detection_lines(detection, jobs):
        console.print(escape(line), soft_wrap=True)
    return detection.spread is not None


def detection_lines(detection: Detection, jobs: int) -> list[str]:
    """One sentence a line."""
    name, spread = detection.table.name, detection.spread
    if spread is None:
        return [
            f"{name}: no row and its baseline have two seeds in common in profile "
            f"{detection.profile}, so nobody knows how runs deviate. "
            f"`./run_all.sh {name} --profile {detection.profile} --seeds 3` makes some."
        ]
    whose = "shipped" if detection.shipped else "your"
    points = f"{detection.points:g} point{'' if detection.points == 1 else 's'}"
    lines = [
        f"{name}, a gain of {points}, profile {detection.profile}: from a "
        f"deviation of {spread.deviation:.2f} points between seeds of a paired gain ({whose} runs, "
        f"{spread.num_pairs} pairs, {spread.freedom} degrees of freedom). The choice of images "
        f"alone makes ±{spread.images_alone:.2f} points, which no seed reduces."
    ]
    cases = f"in {POWER:.0%} of cases".replace("%", " %")
    if detection.alone:
        lines.append(f"  One gain by itself, {cases}: {_show(detection.alone, jobs)}")
    if detection.together:
        claims = len(detection.table.claims)
        lines.append(
            f"  As one of {claims} claims that hold together (Holm, at its strictest), {cases}: "
            f"{_show(detection.together, jobs)}"
        )
    return lines


def _show(needed: Needed, jobs: int) -> str:
    if needed.seeds is None or needed.plan is None:
        return f"not with {MOST_SEEDS} seeds."
    return f"{needed.seeds} seeds; {plan_sentence(needed.plan, jobs)}"
