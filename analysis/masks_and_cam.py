"""Images, truth, masks, and what a network looks at for one class (figure 8)."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import matplotlib
import numpy as np
import pandas as pd
from matplotlib.patches import Patch
from numpy.typing import NDArray

from analysis.kinds import Drawn
from analysis.reading import Material
from analysis.style import WIDTH_INCHES, hide_axes, new_figure, outline, paint
from experiments.draw.inspection import InspectedImage
from experiments.store.areas import image_areas

CAM_MAP = "inferno"
CAM_SHARE = 0.6  # of the map over the grey image
IGNORED = 255
MOST_IN_LEGEND = 18


def overlay(image: InspectedImage, cam: NDArray[np.floating]) -> NDArray[np.uint8]:
    """A Grad-CAM (h, w) of 0 … 1 over the grey image (H, W, 3); alone where that is not kept."""
    height, width = image.label.shape
    large = np.clip(cv2.resize(cam.astype(np.float32), (width, height)), 0, 1)
    heat = matplotlib.colormaps[CAM_MAP](large)[..., :3] * 255.0
    if image.image is None:
        return np.rint(heat).astype(np.uint8)
    grey = cv2.cvtColor(image.image, cv2.COLOR_RGB2GRAY)[..., None].astype(np.float64)
    return np.rint((1 - CAM_SHARE) * grey + CAM_SHARE * heat).astype(np.uint8)


def focus_iou(image: InspectedImage, num_classes: int) -> tuple[float, float]:
    """IoU of the focus class and share of right pixels in one image, percent."""
    right, predicted, labelled = image_areas(image.prediction, image.label, num_classes, IGNORED)
    focus = image.focus_class
    union = predicted[focus] + labelled[focus] - right[focus]
    return 100.0 * right[focus] / max(union, 1), 100.0 * right.sum() / max(labelled.sum(), 1)


def draw(material: Material) -> Drawn:
    """Image, truth, one mask a line, one Grad-CAM a line: across for each image (text) or down."""
    runs = [line.inspections[0] for line in material.lines]
    base = runs[0]
    wanted = material.drawing.figure.images or range(len(base.images))
    numbers = [number for number in wanted if number < len(base.images)]
    style = material.drawing.style
    palette, names = base.provenance.palette, base.provenance.class_names
    labels = [line.label for line in material.lines]
    titles = [
        *(["Image"] if base.pictured else []),
        "Truth",
        *(f"{label}:\nmask" for label in labels),
        *(f"{label}:\nGrad-CAM" for label in labels),
    ]
    masks = range(titles.index("Truth") + 1, len(titles) - len(runs))
    present = _present(runs, numbers)
    legend_columns = 9 if style == "text" else 4
    shape = (len(numbers), len(titles)) if style == "text" else (len(titles), len(numbers))
    ratio = base.images[0].label.shape[0] / base.images[0].label.shape[1]
    margin = 0.34 + 0.14 * -(-len(present) // legend_columns)
    side = (WIDTH_INCHES[style] - 0.2) / shape[1]
    figure = new_figure(style, side * ratio * shape[0] + margin, tight=True)
    grid = figure.subplots(*shape, squeeze=False)
    by_image = grid if style == "text" else grid.T
    rows = []
    for image_axes, number in zip(by_image, numbers):
        image = base.images[number]
        pictures = [] if image.image is None else [image.image]
        pictures.append(paint(image.label, palette))
        pictures += [paint(run.images[number].prediction, palette) for run in runs]
        for run in runs:
            cam = run.images[number].cam
            pictures.append(overlay(image, np.zeros((1, 1)) if cam is None else cam))
        for place, (axes, picture) in enumerate(zip(image_axes, pictures)):
            axes.imshow(picture)
            if place not in masks:
                outline(axes, image.label == image.focus_class)
            hide_axes(axes)
        for line, run in zip(material.lines, runs):
            iou, right = focus_iou(run.images[number], len(names))
            rows.append((image.name, names[image.focus_class], line.label, iou, right))
    classes = [names[base.images[number].focus_class] for number in numbers]
    across, down = (titles, classes) if style == "text" else (classes, titles)
    for axes, title in zip(grid[0], across):
        axes.set_title(title, fontsize=6, pad=2)
    for axes, title in zip(grid[:, 0], down):
        axes.set_ylabel(title, fontsize=6, labelpad=2)
    figure.legend(
        handles=[
            Patch(facecolor=_hex(palette[k]), edgecolor="0.3", lw=0.3, label=names[k])
            for k in present
        ],
        loc="outside lower center",
        ncols=legend_columns,
        fontsize=6,
        handlelength=1,
        handleheight=0.8,
        columnspacing=1.0,
        labelspacing=0.25,
        handletextpad=0.4,
    )
    frame = pd.DataFrame(
        rows, columns=["image", "focus_class", "label", "focus_iou_percent", "right_percent"]
    )
    note = (
        "Images chosen by their labels before any prediction was seen; each with the class that "
        "Grad-CAM explains (outlined). Grad-CAM is of the backbone's last map that the "
        "decision uses, for the mean score over the pixels labelled with that class; bright speaks "
        "for it, each map by its own maximum."
    )
    return Drawn(figure, frame, note)


def _hex(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _present(runs: Sequence, numbers: Sequence[int]) -> list[int]:
    """Classes that the pictures show, the largest areas first if there are too many to list."""
    counts = np.zeros(256, dtype=np.int64)
    for run in runs:
        for number in numbers:
            image = run.images[number]
            counts += np.bincount(image.prediction.reshape(-1), minlength=256)
            counts += np.bincount(image.label.reshape(-1), minlength=256)
    counts[IGNORED] = 0
    there = np.flatnonzero(counts)
    largest = there[np.argsort(-counts[there], kind="stable")][:MOST_IN_LEGEND]
    return sorted(int(k) for k in largest)
