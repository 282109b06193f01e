"""The gains of a table's rows over their baseline, with intervals: a picture of one table.

``python -m analysis.gains results/tables/table08.json gains.png`` (or .pdf).
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from analysis.style import BLUE, PNG_DPI
from experiments.store.exports import read_table

COLUMN_INCHES = 6.3
ROW_INCHES = 0.36


def draw_gains(rows: Sequence[Mapping[str, Any]], title: str) -> Figure:
    """Measured gain with its 95 % interval for each row.

    The paper's gains are left out on purpose: they belong to other data and sizes.

    Args:
        rows: entries of an exported table's ``rows`` (``label``, ``gain_points``, …), the baseline
            first.
        title: above the picture.

    Returns:
        A figure of its own, not managed by pyplot.
    """
    base = rows[0]
    shown = [row for row in rows if row["gain_points"] is not None]
    size = (COLUMN_INCHES, 1.3 + ROW_INCHES * len(shown))
    figure = Figure(figsize=size, dpi=PNG_DPI, layout="constrained")
    axes = figure.add_subplot()
    places = range(len(shown))
    gains = [row["gain_points"] for row in shown]
    low = [gain - row["gain_low_points"] for gain, row in zip(gains, shown)]
    high = [row["gain_high_points"] - gain for gain, row in zip(gains, shown)]
    axes.errorbar(gains, places, xerr=[low, high], fmt="o", color=BLUE, capsize=3)
    axes.axvline(0, color="0.6", linewidth=0.8)
    axes.set_yticks(list(places), [row["label"] for row in shown])
    axes.invert_yaxis()
    axes.set_xlabel(f"gain over {base['label']}, percent points of mIoU (95 % interval)")
    figure.suptitle(title, fontsize="medium", x=0.01, ha="left")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def main() -> None:
    """Draw one exported table."""
    parser = argparse.ArgumentParser(prog="python -m analysis.gains", description=__doc__)
    parser.add_argument("table", type=Path, help="an exported results/tables/*.json")
    parser.add_argument("picture", type=Path, help="where to: .png, .pdf or .svg")
    options = parser.parse_args()
    try:
        document = read_table(options.table)
    except (OSError, ValueError) as error:
        raise SystemExit(
            f"Error: cannot read {options.table} ({error}); `./run_all.sh export TABLE` writes it."
        ) from None
    first = document["rows"][0]
    size = "" if document["profile"] == "paper" else ", scaled down,"
    title = (
        f"{document['source']}: gains\n{first['model']}{size} on {first['dataset']}, "
        f"profile {document['profile']}, {len(document['seeds'])} seeds"
    )
    matplotlib.rcParams["pdf.fonttype"] = 42  # embed fonts as such, not as outlines
    figure = draw_gains(document["rows"], title)
    options.picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.picture, metadata={"Software": None})


if __name__ == "__main__":
    main()
