"""Study of the variance: does SSA-Seg's gain grow as a class varies more from image to image?

``python -m analysis.study_variance results/tables/study_variance.json study_variance.png`` draws
one exported table, as PNG and as PDF beside it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.style import GREY, LineStyle, line_styles, new_figure, paper_style, save
from experiments.errors import SsaError
from experiments.export import show_number

HEIGHT_INCHES = 2.4
SETTING = "shift"


class NotTheStudyError(SsaError):
    """A file that is not the exported study."""


@dataclass(frozen=True)
class Point:
    """One strength of the shift: the baseline's row, SSA-Seg's row."""

    shift: float
    baseline: Mapping[str, Any]
    adapted: Mapping[str, Any]


def read_points(document: Mapping[str, Any]) -> list[Point]:
    """The pairs of rows of an exported table by their shift; pairs without runs are left out.

    Raises:
        NotTheStudyError: no row of the table gains over another at some shift.
    """
    rows = {row["row"]: row for row in document.get("rows", [])}
    pairs = [
        Point(float(row["dataset_settings"][SETTING]), rows[row["gain_over"]], row)
        for row in rows.values()
        if SETTING in row.get("dataset_settings", {}) and row["gain_over"] != row["row"]
    ]
    if not pairs:
        raise NotTheStudyError(
            f"No row of {document.get('table', 'this file')} sets the {SETTING}; draw "
            "results/tables/study_variance.json, which ./run_all.sh study_variance writes."
        )
    measured = [point for point in pairs if point.adapted["gain_points"] is not None]
    return sorted(measured, key=lambda point: point.shift)


def draw(document: Mapping[str, Any]) -> Figure:
    """Left: mIoU of both classifiers against the shift; right: the gain with its 95 % interval.

    Args:
        document: an exported table's JSON.

    Raises:
        NotTheStudyError: it is another table's.
    """
    points = read_points(document)
    with paper_style():
        figure = new_figure("text", HEIGHT_INCHES)
        left, right = figure.subplots(1, 2)
        base, ours = line_styles([True, False])
        _draw_miou(left, points, [("Softmax", base), ("SSA-Seg", ours)])
        _draw_gain(right, points, ours)
        if not points:
            right.text(0.5, 0.5, "no pair has been run", transform=right.transAxes, ha="center")
        for axes in (left, right):
            axes.set_xlabel("shift of a class between images (0: none, 1: strong)")
            axes.set_xlim(-0.05, 1.05)
        figure.suptitle(_title(document), fontsize="medium", x=0.01, ha="left")
    return figure


def _draw_miou(axes: Axes, points: Sequence[Point], lines: Sequence[tuple[str, LineStyle]]) -> None:
    for (label, style), side in zip(lines, ("baseline", "adapted")):
        rows = [getattr(point, side) for point in points]
        middle = [row["miou_percent"] for row in rows]
        low = [row["miou_percent"] - row["miou_min_percent"] for row in rows]
        high = [row["miou_max_percent"] - row["miou_percent"] for row in rows]
        axes.errorbar(
            [point.shift for point in points],
            middle,
            yerr=[low, high],
            label=label,
            capsize=2,
            color=style.color,
            linestyle=style.linestyle,
            marker=style.marker,
        )
    axes.set_ylabel("mIoU, percent (bars: min–max)")
    if points:
        axes.legend()


def _draw_gain(axes: Axes, points: Sequence[Point], style: LineStyle) -> None:
    rows = [point.adapted for point in points]
    axes.axhline(0, color=GREY, linewidth=0.6)
    axes.errorbar(
        [point.shift for point in points],
        [row["gain_points"] for row in rows],
        yerr=[
            [row["gain_points"] - row["gain_low_points"] for row in rows],
            [row["gain_high_points"] - row["gain_points"] for row in rows],
        ],
        capsize=2,
        color=style.color,
        linestyle=style.linestyle,
        marker=style.marker,
    )
    axes.set_ylabel("gain, percent points (95 % interval)")


def _title(document: Mapping[str, Any]) -> str:
    first = document["rows"][0]
    size = "" if document["profile"] == "paper" else ", scaled down,"
    number = len(document["seeds"])
    line = (
        f"{first['model']}{size} on {first['dataset']}, profile {document['profile']}, "
        f"{number} seed{'s' if number > 1 else ''}"
    )
    trend = next((c for c in document.get("claims", []) if c["kind"] == "trend"), None)
    if trend is None or trend["value"] is None:
        return line
    slope, low, high = (show_number(trend[name]) for name in ("value", "low", "high"))
    growth = f"slope {slope} [{low}, {high}] points a unit of shift"
    return f"{line}\n“The gain grows with the shift”: {trend['verdict']}, {growth}"


def main() -> int:
    """Draw one exported table."""
    parser = argparse.ArgumentParser(prog="python -m analysis.study_variance", description=__doc__)
    parser.add_argument("table", type=Path, help="an exported results/tables/study_variance*.json")
    parser.add_argument("picture", type=Path, help="where to; .png and .pdf are written")
    options = parser.parse_args()
    try:
        figure = draw(json.loads(options.table.read_text(encoding="utf-8")))
        with paper_style():  # fonts are embedded when the file is written
            paths = save(figure, options.picture.with_suffix(""))
    except (SsaError, OSError, json.JSONDecodeError) as error:
        parser.exit(1, f"Error: {error}\n")
    print("Written: " + ", ".join(map(str, paths)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
