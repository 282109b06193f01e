"""Does the gain grow as a class varies more from image to image: mIoU and gain by shift."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.kinds import Drawn, NothingToDrawError
from analysis.reading import Line, Material
from analysis.style import GREY, LineStyle, line_styles, new_figure
from experiments.declare.claims import FEWEST_POINTS
from experiments.judge.claims import Trend, trend
from experiments.judge.comparability import comparable_seeds
from experiments.judge.statistics import (
    Gain,
    ScoredRun,
    Summary,
    gain_over,
    shared_seeds,
    summarise,
)
from experiments.show.export import show_signed
from experiments.store.records import Record

#: of the made scenes: how far each image moves each class's look, 0 (not at all) to 1
SETTING = "shift"


@dataclass(frozen=True)
class Point:
    """One label at one shift, with the baseline at the same shift."""

    line: Line
    miou: Summary  # over the seeds, percent
    gain: Gain | None  # over the baseline; None: it is the baseline, or they share no seed
    runs: Mapping[int, ScoredRun]  # seed → run
    base: Mapping[int, ScoredRun]  # the baseline's; empty if this is the baseline

    @property
    def shift(self) -> float:
        """Of the scenes that its runs were trained and scored on."""
        return _shift(self.line)


def _shift(line: Line) -> float:
    return float(line.dataset_settings[SETTING])


def points_of(material: Material) -> list[Point]:
    """Every label at every shift, the shifts ascending; the numbers are those of a table.

    Raises:
        NothingToDrawError: no run was trained on data that has a shift.
    """
    lines = [line for line in material.lines if SETTING in line.dataset_settings]
    lines.sort(key=_shift)
    if not lines:
        raise NothingToDrawError(
            f"{material.drawing.figure.name} is drawn against the {SETTING} of made scenes, and "
            "none of its runs was trained on them; name rows that set it, as those of the table "
            "study_variance do."
        )
    runs = [{r.spec.seed: ScoredRun(material.areas(r)) for r in line.records} for line in lines]
    is_base = [line.label == material.baseline.label for line in lines]
    bases = {_shift(line): own for line, own, plain in zip(lines, runs, is_base) if plain}
    base_lines = {_shift(line): line for line, plain in zip(lines, is_base) if plain}
    points = []
    for line, own, plain in zip(lines, runs, is_base):
        base = {} if plain else bases.get(_shift(line), {})
        if comparable_seeds(_by_seed(line), _by_seed(base_lines.get(_shift(line)))):
            base = {}  # other images or another protocol: no gain
        seeds = shared_seeds(own, base)
        lenders = [other for other in runs if other is not own and other is not base]
        others = [[other[s] for s in seeds] for other in lenders if set(seeds) <= set(other)]
        gain = None
        if seeds:
            pairs = ([own[s] for s in seeds], [base[s] for s in seeds])
            gain = gain_over(*pairs, others, sequential=material.sequential)
        miou = summarise([record.scores.miou for record in line.records])
        points.append(Point(line, miou, gain, own, base))
    return points


def _by_seed(line: Line | None) -> dict[int, Record]:
    return {record.spec.seed: record for record in line.records} if line else {}


def trend_of(points: Sequence[Point], base: str, *, sequential: bool) -> Trend | None:
    """The straight line through the gains of one label over the seeds that all its runs share.

    Args:
        points: of that label.
        base: the baseline's label.
        sequential: whether seeds were added while it was looked at.

    Returns:
        None where there is no such seed, or fewer shifts than a claim of a table needs.
    """
    seeds = shared_seeds(*(runs for point in points for runs in (point.runs, point.base)))
    places = [point.shift for point in points]
    if not seeds or len(set(places)) < FEWEST_POINTS:
        return None
    pairs = [
        ([point.runs[seed] for seed in seeds], [point.base[seed] for seed in seeds])
        for point in points
    ]
    return trend(pairs, places, sequential=sequential)


def draw(material: Material) -> Drawn:
    """mIoU of every label by shift, and the gain over the baseline with its 95 % interval."""
    points = points_of(material)
    labels = list(dict.fromkeys(line.label for line in material.lines))
    base = material.baseline.label
    looks = dict(zip(labels, line_styles([label == base for label in labels])))
    style = material.drawing.style
    figure = new_figure(style, 2.1 if style == "text" else 4.0)
    left, right = figure.subplots(1, 2) if style == "text" else figure.subplots(2, 1)
    right.axhline(0, color=GREY, linewidth=0.6)
    for label, look in looks.items():
        own = [point for point in points if point.line.label == label]
        _draw(left, [(p.shift, p.miou.median, p.miou.low, p.miou.high) for p in own], look, label)
        gains = [(p.shift, p.gain.value, p.gain.low, p.gain.high) for p in own if p.gain]
        if gains:
            _draw(right, gains, look, label)
    left.set_ylabel("mIoU, %")
    left.legend()
    right.set_ylabel(f"gain over {base}, points")
    if len(labels) > 2:
        right.legend()
    for axes in (left, right):
        axes.set_xlabel(f"{SETTING} of a class between images (0: none, 1: strong)")
        axes.set_xlim(-0.05, 1.05)
        axes.set_xticks(sorted({point.shift for point in points}))
    return Drawn(figure, _frame(points), _note(material, points))


def _draw(
    axes: Axes, values: Sequence[tuple[float, float, float, float]], look: LineStyle, label: str
) -> None:
    """A line through the middles, and at each a bar from low to high."""
    places, middle, *_ = zip(*values)
    ends = np.array([each[2:] for each in values])
    known = np.isfinite(ends).all(axis=1)
    axes.vlines(np.array(places)[known], *ends[known].T, color=look.color, linewidth=0.8)
    if not known.all():  # of few seeds that were added while one looked the interval has no end
        whole = axes.get_xaxis_transform()
        axes.vlines(
            np.array(places)[~known], 0, 1, color=look.color, linewidth=0.8, transform=whole
        )
    axes.plot(
        places, middle, color=look.color, linestyle=look.linestyle, marker=look.marker, label=label
    )


def _note(material: Material, points: Sequence[Point]) -> str:
    sentences = []
    if any(point.miou.num_seeds > 1 for point in points):
        sentences.append("Left: medians over the seeds, bars from the lowest to the highest seed.")
    alone = any(point.gain and point.gain.num_seeds == 1 for point in points)
    sentences.append(
        "Right: means of the paired gains over the seeds that both have; bars are 95 % intervals "
        f"over seeds and images{', of one seed over the images only' if alone else ''}."
    )
    gains = [point.gain for point in points if point.gain]
    if any(not np.isfinite([gain.low, gain.high]).all() for gain in gains):
        sentences.append("A bar over the whole height stands for an interval without end.")
    drawing, base = material.drawing, material.baseline.label
    lacking = {row.run for row in drawing.figure.rows} - {run.row for run in drawing.runs}
    for label in dict.fromkeys(p.line.label for p in points if p.line.label != base):
        own = [point for point in points if point.line.label == label]
        line = None if lacking else trend_of(own, base, sequential=material.sequential)
        if line is None:
            sentences.append(
                f"Whether the gain of {label} grows with the {SETTING} is not judged: that takes a "
                f"common seed of every row, at {FEWEST_POINTS} shifts or more (docs/claims.md)."
            )
            continue
        slope, low, high = map(show_signed, (line.slope, *line.interval))
        sentences.append(
            f"“The gain of {label} grows with the {SETTING}”: {line.word}; slope {slope} points a "
            f"unit of {SETTING} [{low}, {high}] (docs/claims.md)."
        )
    return " ".join(sentences)


def _frame(points: Sequence[Point]) -> pd.DataFrame:
    """One line a shift and label, with the columns of an exported table."""
    return pd.DataFrame(
        [
            {
                "dataset": point.line.dataset,
                "label": point.line.label,
                SETTING: point.shift,
                "seeds": point.miou.num_seeds,
                "miou_percent": point.miou.median,
                "miou_min_percent": point.miou.low,
                "miou_max_percent": point.miou.high,
                "gain_points": point.gain.value if point.gain else None,
                "gain_low_points": point.gain.low if point.gain else None,
                "gain_high_points": point.gain.high if point.gain else None,
                "gain_p_value": point.gain.p_value if point.gain else None,
                "run_ids": " ".join(record.run_id for record in point.line.records),
            }
            for point in points
        ]
    )
