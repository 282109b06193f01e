"""IoU by the size of objects: connected parts of one class in the labels."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.boundary import nan_mean, paired
from analysis.kinds import Drawn
from analysis.reading import Line, Material
from analysis.style import GREY, draw_spread, line_styles, new_figure
from experiments.draw.inspection import RunInspection
from experiments.draw.regions import OBJECT_BOUNDS


def size_miou(inspection: RunInspection) -> NDArray[np.float64]:
    """(6,) mean IoU in percent of the classes that have an object of that size; NaN: none has."""
    objects = inspection.objects
    iou = objects.areas.iou()
    iou[objects.objects == 0] = np.nan
    return nan_mean(iou)


def size_names() -> list[str]:
    """The bins of size in percent of the image."""
    bounds = [f"{100 * bound:.2g}" for bound in OBJECT_BOUNDS]
    middle = [f"{a}–{b}" for a, b in itertools.pairwise(bounds)]
    return [f"< {bounds[0]}", *middle, f"≥ {bounds[-1]}"]


def draw(material: Material) -> Drawn:
    """Mean IoU by size of object, and the gain over the baseline."""
    base = material.baseline
    lines = material.on(base.dataset)
    values = {line.label: np.stack([size_miou(i) for i in line.inspections]) for line in lines}
    numbers = base.inspections[0].objects.objects.sum(1)
    there = numbers > 0
    places = np.flatnonzero(there)
    styles = line_styles([line.baseline for line in lines])
    style = material.drawing.style
    figure = new_figure(style, 2.2 if style == "text" else 4.2)
    left, right = figure.subplots(1, 2) if style == "text" else figure.subplots(2, 1)
    for line, look in zip(lines, styles):
        draw_spread(left, places, values[line.label][:, there], look, line.label)
        if line is base:
            continue
        gain = paired(values[line.label], line.seeds, values[base.label], base.seeds)
        draw_spread(right, places, gain[:, there], look, line.label)
    left.set_ylabel("mean IoU, %")
    left.legend()
    right.axhline(0, color=GREY, linewidth=0.6)
    right.set_ylabel(f"gain over {base.label}, points")
    ticks = [f"{name}\n{n}" for name, n in zip(size_names(), numbers)]
    for axes in (left, right):
        axes.set_xticks(places, [ticks[p] for p in places])
        axes.set_xlabel("size of the object, % of the image; below: objects")
    note = (
        "An object is a connected part (8 neighbours) of one class in the labels. A wrong "
        "prediction belongs to the size of the object of its class that it overlaps most, or to "
        "its own size if it overlaps none. COCO's small objects are those below a third of a "
        "percent. Means are over the classes that have an object of that size; lines are medians "
        "over the seeds, shades reach from the lowest to the highest seed."
    )
    return Drawn(figure, size_frame(lines, values, numbers), note)


def size_frame(
    lines: Sequence[Line], values: dict[str, NDArray[np.float64]], numbers: NDArray[np.int64]
) -> pd.DataFrame:
    """One line a label, seed and size; bounds as shares of the image."""
    low, high = (0.0, *OBJECT_BOUNDS), (*OBJECT_BOUNDS, 1.0)
    return pd.DataFrame(
        [
            {
                "dataset": line.dataset,
                "label": line.label,
                "seed": seed,
                "from_share": low[size],
                "to_share": high[size],
                "objects": int(numbers[size]),
                "mean_iou_percent": float(iou),
                "run_id": record.run_id,
            }
            for line in lines
            for record, seed, row in zip(line.records, line.seeds, values[line.label])
            for size, iou in enumerate(row)
        ]
    )
