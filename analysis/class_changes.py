"""Which classes gain and which lose: IoU per class against the baseline, sorted."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.kinds import Drawn
from analysis.reading import Line, Material
from analysis.style import BLUE, VERMILION, new_figure

ROW_INCHES = 0.155
#: more classes than this are cut to the largest changes, and the caption says so
MOST_SHOWN = 40


def changes(line: Line, baseline: Line) -> pd.DataFrame:
    """Per class: IoU of the baseline and change, medians over the seeds, sorted by the change.

    Returns:
        columns class, baseline_iou_percent, iou_percent, change_points, change_low_points,
        change_high_points (lowest and highest seed, paired), classes that never occur left out.
    """
    ours, theirs = _iou(line), _iou(baseline)
    seeds = [seed for seed in line.seeds if seed in baseline.seeds]
    paired = np.array(
        [ours[line.seeds.index(s)] - theirs[baseline.seeds.index(s)] for s in seeds]
    ).reshape(len(seeds), -1)
    change = np.median(ours, axis=0) - np.median(theirs, axis=0)
    frame = pd.DataFrame(
        {
            "class": line.records[0].class_names,
            "baseline_iou_percent": np.median(theirs, axis=0),
            "iou_percent": np.median(ours, axis=0),
            "change_points": change,
            "change_low_points": paired.min(0) if seeds else np.nan,
            "change_high_points": paired.max(0) if seeds else np.nan,
        }
    )
    frame = frame[frame["change_points"].notna()]
    return frame.sort_values(["change_points", "class"], ascending=[False, True], ignore_index=True)


def _iou(line: Line) -> np.ndarray:
    """(S, K) percent; NaN where a class never occurs."""
    return np.array(
        [[np.nan if v is None else v for v in record.per_class_iou] for record in line.records]
    )


def draw(material: Material) -> Drawn:
    """Bars of change with the seeds' range; the line without bar is the baseline."""
    base = material.baseline
    frames = [changes(line, base).assign(label=line.label) for line in material.others]
    frame = frames[0]
    shown, cut = frame, ""
    if len(frame) > MOST_SHOWN:
        keep = frame["change_points"].abs().nlargest(MOST_SHOWN).index
        shown = frame.loc[sorted(keep)].reset_index(drop=True)
        cut = f" Of {len(frame)} classes the {MOST_SHOWN} with the largest changes are drawn."
    label = material.others[0].label
    figure = new_figure(material.drawing.style, 0.6 + ROW_INCHES * len(shown))
    axes = figure.subplots()
    gains = shown["change_points"].to_numpy()
    places = np.arange(len(shown))
    colours = [BLUE if gain >= 0 else VERMILION for gain in gains]
    bars = axes.barh(places, gains, color=colours, height=0.72)
    for bar, gain in zip(bars, gains):
        if gain < 0:
            bar.set_hatch("////")
            bar.set_edgecolor("white")
            bar.set_linewidth(0)
    low, high = shown["change_low_points"], shown["change_high_points"]
    if low.notna().all() and len(base.seeds) > 1:
        axes.hlines(places, low, high, color="0.15", linewidth=0.8)
    axes.axvline(0, color="0.2", linewidth=0.6)
    axes.set_yticks(
        places,
        [f"{name}  {iou:.0f}" for name, iou in zip(shown["class"], shown["baseline_iou_percent"])],
    )
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.margins(y=0.01)
    axes.set_xlabel(f"change of IoU, {label} over {base.label}, percent points")
    axes.grid(axis="x", color="0.9", linewidth=0.5)
    axes.set_axisbelow(True)
    gained, lost = int((frame["change_points"] > 0).sum()), int((frame["change_points"] < 0).sum())
    ranges = " Lines reach from the lowest to the highest seed." if len(base.seeds) > 1 else ""
    note = (
        f"{gained} classes gain, {lost} lose. Beside each name the IoU of {base.label} in "
        f"percent.{ranges}{cut}"
    )
    return Drawn(figure, pd.concat(frames, ignore_index=True), note)
