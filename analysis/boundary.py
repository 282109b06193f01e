"""mIoU in bands around the borders of classes, 1 to 15 pixels wide."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.kinds import Drawn
from analysis.reading import Line, Material
from analysis.style import GREY, draw_spread, line_styles, new_figure
from experiments.draw.inspection import RunInspection
from experiments.draw.regions import BAND_WIDTHS


def band_miou(inspection: RunInspection) -> NDArray[np.float64]:
    """(16,) mIoU in percent in the bands of 1 … 15 pixels, and in the whole image as the last.

    A band of w pixels holds every labelled pixel less than w pixels from a pixel that touches
    another class. Classes without any pixel in a band take no part in its mean.
    """
    return nan_mean(inspection.rings.within().iou())


def nan_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the last axis of what is a number; NaN where nothing is."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Mean of empty slice")
        return np.nanmean(values, axis=-1)


def draw(material: Material) -> Drawn:
    """mIoU by band, and the gain over the baseline by band beside the gain in whole images."""
    values = {line.label: _stack(line) for line in material.on(material.baseline.dataset)}
    lines = material.on(material.baseline.dataset)
    styles = line_styles([line.baseline for line in lines])
    style = material.drawing.style
    figure = new_figure(style, 2.1 if style == "text" else 4.0)
    left, right = figure.subplots(1, 2) if style == "text" else figure.subplots(2, 1)
    widths = np.arange(1, BAND_WIDTHS + 1)
    for line, look in zip(lines, styles):
        draw_spread(left, widths, values[line.label][:, :-1], look, line.label)
    left.set_ylabel("mIoU in the band, %")
    left.legend()
    base = material.baseline
    for line, look in zip(lines, styles):
        if line is base:
            continue
        gain = paired(values[line.label], line.seeds, values[base.label], base.seeds)
        draw_spread(right, widths, gain[:, :-1], look, "in the band")
        whole = float(np.median(gain[:, -1]))
        right.axhline(whole, color=look.color, linewidth=1.0, linestyle=":", label="whole images")
    right.axhline(0, color=GREY, linewidth=0.6)
    right.set_ylabel(f"gain over {base.label}, points")
    right.legend()
    for axes in (left, right):
        axes.set_xlabel("width of the band, pixels each side")
        axes.set_xticks([1, 3, 5, 7, 9, 11, 13, 15])
    note = (
        "A band of w pixels holds every pixel less than w pixels from one that touches another "
        "class; unlabelled neighbours make no border. Lines are medians over the seeds, shades "
        "reach from the lowest to the highest seed."
    )
    return Drawn(figure, band_frame(lines, values), note)


def _stack(line: Line) -> NDArray[np.float64]:
    """(S, 16) of a line's seeds."""
    return np.stack([band_miou(inspection) for inspection in line.inspections])


def paired(
    ours: NDArray[np.float64],
    our_seeds: Sequence[int],
    theirs: NDArray[np.float64],
    their_seeds: Sequence[int],
) -> NDArray[np.float64]:
    """(S, …) differences of the seeds that both have; of the medians where they share none."""
    common = [seed for seed in our_seeds if seed in their_seeds]
    if not common:
        return (np.median(ours, axis=0) - np.median(theirs, axis=0))[None]
    return np.stack(
        [ours[list(our_seeds).index(s)] - theirs[list(their_seeds).index(s)] for s in common]
    )


def band_frame(lines: Sequence[Line], values: dict[str, NDArray[np.float64]]) -> pd.DataFrame:
    """One line a label, seed and band; width 0 stands for the whole image."""
    return pd.DataFrame(
        [
            {
                "dataset": line.dataset,
                "label": line.label,
                "seed": seed,
                "band_px": width if width <= BAND_WIDTHS else 0,
                "miou_percent": float(miou),
                "run_id": record.run_id,
            }
            for line in lines
            for record, seed, row in zip(line.records, line.seeds, values[line.label])
            for width, miou in enumerate(row, start=1)
        ]
    )
