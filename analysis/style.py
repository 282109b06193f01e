"""How every figure looks: widths of a paper, colours for every eye, files that repeat exactly."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray

from experiments.declare.figure import Style
from experiments.files import write_atomically

WIDTH_INCHES: dict[Style, float] = {"column": 3.25, "text": 6.75}
PNG_DPI = 220  # both widths are whole numbers of pixels

#: Okabe and Ito's colours, readable for every kind of colour vision; ordered so that neighbours
#: also differ in grey
BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#E69F00", "#009E73", "#CC79A7"
VERMILION, SKY, YELLOW, BLACK = "#D55E00", "#56B4E9", "#F0E442", "#000000"
GREY, PALE = "0.45", "0.82"
#: from dark to bright without a jump, also in grey
SEQUENTIAL = "cividis"


@dataclass(frozen=True)
class LineStyle:
    """A line that can be told from the others without its colour."""

    color: str
    linestyle: str
    marker: str


BASELINE = LineStyle(BLACK, "--", "s")
OTHERS = (
    LineStyle(BLUE, "-", "o"),
    LineStyle(VERMILION, "-.", "^"),
    LineStyle(GREEN, ":", "D"),
    LineStyle(PURPLE, (0, (5, 1)), "v"),  # type: ignore[arg-type]
)


def line_styles(baselines: list[bool]) -> list[LineStyle]:
    """One style a line; baselines are black and dashed."""
    others = iter(OTHERS * (1 + len(baselines) // len(OTHERS)))
    return [BASELINE if is_baseline else next(others) for is_baseline in baselines]


def draw_spread(
    axes: Axes, places: NDArray[Any], values: NDArray[np.float64], look: LineStyle, label: str
) -> None:
    """The median over the seeds as a line, and a band from the lowest to the highest.

    Args:
        axes: to draw on.
        places: (T,)
        values: (S, T) of S seeds.
        look: of the line.
        label: in the legend.
    """
    import seaborn  # half a second that figures without lines need not wait for

    seaborn.lineplot(
        x=np.tile(places, len(values)),
        y=values.ravel(),
        estimator="median",
        errorbar=("pi", 100),  # the whole range
        err_kws={"alpha": 0.16, "linewidth": 0},
        color=look.color,
        linestyle=look.linestyle,
        marker=look.marker,
        markeredgecolor=look.color,  # which seaborn would have white and thinner
        markeredgewidth=1.0,
        label=label,
        legend=False,
        ax=axes,
    )


@contextmanager
def paper_style() -> Iterator[None]:
    """Text of 7 points and thin lines, at the size of print; fonts embedded as such."""
    settings: dict[Any, Any] = {
        "font.family": "DejaVu Sans",  # comes with matplotlib: the same everywhere
        "font.size": 7,
        "axes.titlesize": 7,
        "axes.labelsize": 7,
        "xtick.labelsize": 6,
        "ytick.labelsize": 6,
        "legend.fontsize": 6.5,
        "legend.frameon": False,
        "axes.linewidth": 0.6,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "xtick.major.size": 2.5,
        "ytick.major.size": 2.5,
        "lines.linewidth": 1.2,
        "lines.markersize": 3.5,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "image.interpolation": "nearest",
        "pdf.fonttype": 42,
        "svg.fonttype": "none",
        "figure.constrained_layout.h_pad": 0.03,
        "figure.constrained_layout.w_pad": 0.03,
    }
    with matplotlib.rc_context(settings):
        yield


def new_figure(style: Style, height: float, *, tight: bool = False) -> Figure:
    """A figure of a paper's column or text width, not managed by pyplot.

    Args:
        style: width.
        height: inches.
        tight: hardly any space between pictures.
    """
    # laid out at the resolution of the PNG: letters are narrower or wider at another
    figure = Figure(figsize=(WIDTH_INCHES[style], height), dpi=PNG_DPI, layout="constrained")
    if tight:
        engine = ConstrainedLayoutEngine(
            w_pad=0.01, h_pad=0.01, wspace=0.01, hspace=0.01, compress=True
        )
        figure.set_layout_engine(engine)
    return figure


def pictures_and_spaces(
    style: Style, shape: tuple[int, ...], num_pictures: int, num_spaces: int, legend_lines: int
) -> tuple[Figure, list[Axes], list[Axes]]:
    """Small pictures of one shape and square panels, so sized that they leave no band between.

    In a text's width the pictures stand in two columns that are as high as the panels beside them;
    in a column's width they stand in one line above the panels, two a line.

    Args:
        style: width.
        shape: (height, width, …) of a picture in pixels.
        num_pictures: how many pictures.
        num_spaces: how many panels.
        legend_lines: lines of a legend at the lower edge.

    Returns:
        The figure, the pictures' axes, the panels' axes.
    """
    width, ratio = WIDTH_INCHES[style], shape[1] / shape[0]
    edge, gap, title = 0.04, 0.07, 0.17  # inches
    columns, rows = (2, -(-num_pictures // 2)) if style == "text" else (num_pictures, 1)
    if style == "text":
        # rows · picture + (rows − 1) · title = side, and all stand side by side in the width
        taken = 2 * edge + (columns - 1) * gap + num_spaces * gap
        share = columns * ratio / rows
        side = (width - taken + share * (rows - 1) * title) / (share + num_spaces)
        high = (side - (rows - 1) * title) / rows
        height = title + side
        left = edge + columns * (high * ratio + gap)
        spaces = [(left + i * (side + gap), height, side, side) for i in range(num_spaces)]
    else:
        high = (width - 2 * edge - (columns - 1) * gap) / columns / ratio
        side = (width - 2 * edge - gap) / 2
        height = title + high
        spaces = [
            (
                edge + i % 2 * (side + gap),
                height + (i // 2 + 1) * (title + side),
                side,
                side,
            )
            for i in range(num_spaces)
        ]
        height += -(-num_spaces // 2) * (title + side)
    wide = high * ratio
    pictures = [
        (
            edge + i % columns * (wide + gap),
            title + high + i // columns * (high + title),
            wide,
            high,
        )
        for i in range(num_pictures)
    ]
    total = height + 0.04 + 0.15 * legend_lines
    figure = Figure(figsize=(width, total), dpi=PNG_DPI)

    def axes(box: tuple[float, float, float, float]) -> Axes:
        x, bottom, w, h = box  # the lower edge is counted from the figure's top
        return figure.add_axes((x / width, 1 - bottom / total, w / width, h / total))

    return figure, [axes(box) for box in pictures], [axes(box) for box in spaces]


def dots(axes: Axes, points: NDArray[np.floating], **look: Any) -> None:
    """Scatter (N, 2) points."""
    axes.scatter(points[:, 0], points[:, 1], **look)


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write ``stem.pdf`` and ``stem.png``; equal figures give equal bytes.

    Raises:
        StoreError: the disk is full or may not be written.
    """
    lay_out(figure)
    paths = []
    for suffix, metadata in (
        (".pdf", {"CreationDate": None, "Producer": None, "Creator": None}),
        (".png", {"Software": None}),
    ):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=suffix[1:], dpi=PNG_DPI, metadata=metadata)
        path = stem.with_name(stem.name + suffix)
        write_atomically(path, buffer.getvalue())
        paths.append(path)
    return paths


def lay_out(figure: Figure) -> None:
    """Lay a figure out so that all its text lies within it, and titles of a row at one height.

    Constrained layout forgets the labels of axes that it has made smaller to keep their aspect.
    What they need beyond the canvas is taken from the sides, and added below and above.
    """
    engine = figure.get_layout_engine()
    for _ in range(4):
        figure.draw_without_rendering()
        left, bottom, right, top = overflow(figure)
        if not isinstance(engine, ConstrainedLayoutEngine) or max(left, bottom, right, top) <= 0:
            break
        width, height = figure.get_size_inches()
        x, y, w, h = engine.get()["rect"]
        # what is kept for the text stays as high, in a higher figure
        higher = height + bottom + top
        y, h = (y * height + bottom) / higher, h * height / higher
        figure.set_size_inches(width, higher)
        rect = (x + left / width, y, w - (left + right) / width, h)
        engine.set(rect=rect)
    figure.align_titles()
    figure.set_layout_engine("none")  # every further pass would move things by a hair


def overflow(figure: Figure) -> tuple[float, float, float, float]:
    """By how many inches what is drawn passes the canvas: left, bottom, right, top."""
    drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    sides = (-drawn.x0, -drawn.y0, drawn.x1 - width, drawn.y1 - height)
    left, bottom, right, top = (max(0.0, round(float(side), 3)) for side in sides)
    return left, bottom, right, top


def pretty(label: str) -> str:
    """A label with the paper's symbols set as such: ``without Lsd`` → ``without $L_{sd}$``."""
    return re.sub(r"\bL(g|rd|sd|pd)\b", r"$L_{\1}$", label)


def paint(
    classes: NDArray[np.integer], palette: tuple[tuple[int, int, int], ...]
) -> NDArray[np.uint8]:
    """(H, W) class ids as (H, W, 3) RGB in the data set's own colours; unlabelled is white."""
    table = np.full((256, 3), 255, dtype=np.uint8)
    table[: len(palette)] = np.array(palette, dtype=np.uint8)
    return table[classes]


def outline(axes: Axes, mask: NDArray[np.bool_]) -> None:
    """Draw the border of a mask over a picture, white in black: seen on every ground.

    Along the edges of pixels. matplotlib's contour would be smoother, but its closed paths come out
    of the rasteriser with other grey values from one call to the next.
    """
    framed = np.pad(mask, 1).astype(np.int8)
    rows, columns = np.nonzero(np.diff(framed, axis=0))
    across = [((x - 1.5, y - 0.5), (x - 0.5, y - 0.5)) for y, x in zip(rows, columns)]
    rows, columns = np.nonzero(np.diff(framed, axis=1))
    down = [((x - 0.5, y - 1.5), (x - 0.5, y - 0.5)) for y, x in zip(rows, columns)]
    for colour, thickness in (("black", 0.8), ("white", 0.4)):
        axes.add_collection(
            LineCollection(
                [*across, *down], colors=colour, linewidths=thickness, capstyle="projecting"
            ),
            autolim=False,
        )


def hide_axes(axes: Axes) -> None:
    """No ticks and a thin frame: for pictures."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_linewidth(0.4)
