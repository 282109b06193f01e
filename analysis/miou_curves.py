"""Validation mIoU against iterations, with the spread of the seeds (figure 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from analysis.kinds import Drawn
from analysis.reading import Line, Material
from analysis.style import GREY, LineStyle, draw_spread, line_styles, new_figure


@dataclass(frozen=True)
class Curve:
    """mIoU of some seeds at the iterations that all of them were evaluated at."""

    label: str
    iterations: NDArray[np.int64]  # (T,)
    miou: NDArray[np.float64]  # (S, T) percent

    @property
    def median(self) -> NDArray[np.float64]:
        """(T,) over the seeds."""
        return np.median(self.miou, axis=0)


def curve_of(line: Line) -> Curve:
    """The curves of a line's seeds as one array."""
    values = [
        {point.iteration: point.scores.miou for point in record.curve} for record in line.records
    ]
    common = sorted(set.intersection(*(set(value) for value in values)))
    return Curve(
        line.label,
        np.array(common, dtype=np.int64),
        np.array([[value[i] for i in common] for value in values]),
    )


def reaches(curve: Curve, goal: float) -> int | None:
    """The first evaluated iteration at which the median is at least ``goal``; None: never."""
    above = np.flatnonzero(curve.median >= goal)
    return int(curve.iterations[above[0]]) if above.size else None


def draw(material: Material) -> Drawn:
    """One panel a data set; the band spans the seeds, the mark is where the baseline is reached."""
    datasets = material.datasets
    style = material.drawing.style
    columns = len(datasets) if style == "text" else 1
    rows = -(-len(datasets) // columns)
    figure = new_figure(style, 2.1 * rows)
    grid = figure.subplots(rows, columns, squeeze=False)
    notes = []
    for axes, dataset in zip(grid.flat, datasets):
        lines = material.on(dataset)
        curves = [curve_of(line) for line in lines]
        base = next((c for c, line in zip(curves, lines) if line.baseline), curves[0])
        notes += draw_curves(
            axes, curves, line_styles([line.baseline for line in lines]), base, dataset
        )
        axes.set_title(dataset, loc="left")
    if any(len(line.seeds) > 1 for line in material.lines):
        notes.insert(0, LEGEND)
    return Drawn(figure, curves_frame(material), " ".join(notes))


LEGEND = "Lines are medians over the seeds, bands reach from the lowest to the highest seed."


def draw_curves(
    axes: Axes, curves: Sequence[Curve], styles: Sequence[LineStyle], base: Curve, dataset: str
) -> list[str]:
    """Draw the curves of one data set; returns the sentences about where ``base`` is reached."""
    goal = float(base.median[-1])
    sentences = []
    for curve, style in zip(curves, styles):
        draw_spread(axes, curve.iterations, curve.miou, style, curve.label)
        if curve is base:
            continue
        reached = reaches(curve, goal)
        last = int(base.iterations[-1])
        if reached is None:
            sentences.append(
                f"On {dataset} {curve.label} does not reach the {goal:.1f} % that {base.label} "
                f"ends with after {last} iterations."
            )
            continue
        sentences.append(
            f"On {dataset} {curve.label} reaches the {goal:.1f} % that {base.label} ends with "
            f"after {last} iterations at iteration {reached}."
        )
        axes.plot([reached, reached], [0, goal], color=style.color, linewidth=0.7, linestyle=":")
        axes.annotate(
            f"{reached}",
            (reached, 0),
            xytext=(-2, 3),
            textcoords="offset points",
            ha="right",
            color=style.color,
            fontsize=6,
        )
    axes.axhline(goal, color=GREY, linewidth=0.6, linestyle=(0, (1, 2)))
    highest = max(float(curve.miou.max()) for curve in curves)
    axes.set_ylim(0, max(1.28 * highest, 1.0))  # room for the legend above every line
    axes.set_xlabel("iteration")
    axes.set_ylabel("mIoU, %")
    axes.legend(loc="upper left", ncols=min(len(curves), 3))
    return sentences


def curves_frame(material: Material) -> pd.DataFrame:
    """One line a data set, label, seed and evaluation."""
    return pd.DataFrame(
        [
            {
                "dataset": line.dataset,
                "label": line.label,
                "seed": record.spec.seed,
                "iteration": point.iteration,
                "miou_percent": point.scores.miou,
                "run_id": record.run_id,
            }
            for line in material.lines
            for record in line.records
            for point in record.curve
        ]
    )
