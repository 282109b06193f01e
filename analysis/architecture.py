"""A drawing of the classifier and its teacher (figure 2), from docs/method.md; no run behind it."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from analysis.kinds import Drawn
from analysis.reading import Material
from analysis.style import BLUE, GREY, ORANGE, VERMILION, new_figure


@dataclass(frozen=True)
class Box:
    """One tensor or operation; places and sizes in tenths of an inch at text width."""

    name: str
    text: str
    x: float
    y: float
    width: float = 7.2
    height: float = 3.2
    face: str = "white"


FEATURE, PROTOTYPE, TEACHER = "#DCEAF5", "#FCEBC8", "#F0F0F0"

#: student above, teacher below; semantic and spatial part on lines of their own
BOXES = (
    Box("features", "features\n$S_f$", 4.5, 13.5, face=FEATURE),
    Box("coarse", "coarse mask\n$M_c = S_f W^T + b$", 15.5, 20, 10.5),
    Box("positions", "positions\n$P_f$ = DWConv$_{3×3}(S_f)$", 15.5, 13.5, 11.5, face=FEATURE),
    Box("semantic_centre", "centre $S_c$\nsoftmax$_K(M_c)\\cdot S_f$", 28.5, 23.2, 10.8),
    Box("spatial_centre", "centre $P_c$\nsoftmax$_N(M_c)\\cdot P_f$", 28.5, 16.8, 10.8),
    Box("semantic", "$S_p = \\varphi_s[S_c, W]$", 41, 23.2, 9.6, face=PROTOTYPE),
    Box("spatial", "$P_p = \\varphi_p[P, P_c]$", 41, 16.8, 9.6, face=PROTOTYPE),
    Box("sum", "$(S_p + P_p)W_o^T$", 52.2, 20, 8.4, face=PROTOTYPE),
    Box("decision", "$O = \\tau\\,$cos", 62.8, 20, 6.6, face=FEATURE),
    Box("truth", "ground\ntruth", 15.5, 6.2, 7.2, face=TEACHER),
    Box("teacher_spatial_centre", "class means\nof $P_f$", 28.5, 8.8, 8.6, face=TEACHER),
    Box("teacher_semantic_centre", "class means\nof $S_f$", 28.5, 3.4, 8.6, face=TEACHER),
    Box("teacher_spatial", "$\\hat P_p = \\hat\\varphi_p$", 41, 8.8, 7.2, face=TEACHER),
    Box("teacher_semantic", "$\\hat S_p = \\hat\\varphi_s$", 41, 3.4, 7.2, face=TEACHER),
    Box("teacher_sum", "$(\\hat S_p + \\hat P_p)\\hat W_o^T$", 52.2, 6.2, 8.4, face=TEACHER),
    Box("teacher_decision", "$\\hat O = \\tau\\,$cos", 62.8, 6.2, 6.6, face=TEACHER),
)

#: (from, to): data that flows to the right
ARROWS = (
    ("features", "coarse"),
    ("features", "positions"),
    ("coarse", "semantic_centre"),
    ("coarse", "spatial_centre"),
    ("positions", "spatial_centre"),
    ("semantic_centre", "semantic"),
    ("spatial_centre", "spatial"),
    ("semantic", "sum"),
    ("spatial", "sum"),
    ("sum", "decision"),
    ("truth", "teacher_semantic_centre"),
    ("truth", "teacher_spatial_centre"),
    ("teacher_semantic_centre", "teacher_semantic"),
    ("teacher_spatial_centre", "teacher_spatial"),
    ("teacher_semantic", "teacher_sum"),
    ("teacher_spatial", "teacher_sum"),
    ("teacher_sum", "teacher_decision"),
)

#: paths of the losses that pull the student to the teacher, their names and where those stand
LOSSES = (
    (((37.4, 4.4), (35.1, 4.4), (35.1, 22.3), (36.2, 22.3)), "$L_{sd}$", (35.5, 11.9)),
    (((41, 10.4), (41, 15.2)), "$L_{pd}$", (41.4, 11.9)),
    (((64.4, 7.8), (64.4, 18.4)), "$L_{rd}$", (64.9, 11.9)),
)


def draw(material: Material) -> Drawn:
    """The student's path above, the teacher's below, the losses between them."""
    figure = new_figure("text", 2.7)
    axes = figure.subplots()
    axes.set_xlim(0, 67.5)
    axes.set_ylim(0.5, 26.5)
    axes.axis("off")
    boxes = {box.name: box for box in BOXES}
    for box in BOXES:
        draw_box(axes, box)
    for start, end in ARROWS:
        _arrow(axes, _side(boxes[start], 1), _side(boxes[end], -1), color="0.25")
    # both decisions compare S_f + P_f with their prototypes
    right, turn, level = boxes["positions"].x + boxes["positions"].width / 2, 61.2, 13.5
    axes.plot([right, turn], [level, level], color=BLUE, linewidth=0.8)
    for goal in (18.4, 7.8):
        _arrow(axes, (turn, level), (turn, goal), color=BLUE)
    axes.text(52.2, level + 0.4, "$S_f + P_f$", color=BLUE, ha="center", va="bottom", fontsize=7)
    for path, name, (x, y) in LOSSES:
        across, up = zip(*path[:-1])
        axes.plot(across, up, color=VERMILION, linewidth=0.8, linestyle="--")
        _arrow(axes, path[-2], path[-1], color=VERMILION, linestyle="--")
        axes.text(x, y, name, color=VERMILION, ha="left", va="center", fontsize=7)
    axes.text(0.6, 25.6, "trained and deployed", fontsize=7, color="0.2", va="center")
    axes.text(0.6, 1.6, "training only", fontsize=7, color="0.2", va="center")
    axes.plot([0, 67.5], [10.9, 10.9], color=GREY, linewidth=0.5, linestyle=":", zorder=0)
    note = (
        "Above what is deployed: a first mask M_c gathers for each class a semantic centre (what "
        "its pixels look like here) and a spatial one (where they are); two small networks φ turn "
        "them and the learned W and P into the prototypes that the pixels S_f + P_f are compared "
        "with. Below the teacher of training: the same with the ground truth in place of M_c. "
        "Dashed: the distillation losses. docs/method.md has every equation."
    )
    return Drawn(figure, pd.DataFrame(ARROWS, columns=["from", "to"]), note)


def draw_box(axes: Axes, box: Box) -> None:
    """One rounded box with its text."""
    axes.add_patch(
        FancyBboxPatch(
            (box.x - box.width / 2, box.y - box.height / 2),
            box.width,
            box.height,
            boxstyle="round,pad=0,rounding_size=0.6",
            facecolor=box.face,
            edgecolor=ORANGE if box.face == PROTOTYPE else "0.35",
            linewidth=0.7,
        )
    )
    axes.text(box.x, box.y, box.text, ha="center", va="center", fontsize=6.3, linespacing=1.25)


def _side(box: Box, side: int) -> tuple[float, float]:
    return box.x + side * box.width / 2, box.y


def _arrow(
    axes: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    *,
    color: str,
    linestyle: str = "-",
) -> None:
    axes.add_patch(
        FancyArrowPatch(
            start,
            end,
            arrowstyle="-|>",
            mutation_scale=6,
            linewidth=0.8,
            color=color,
            linestyle=linestyle,
            shrinkA=0,
            shrinkB=0,
            zorder=1,
        )
    )
