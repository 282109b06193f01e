"""One class in several images: how far apart its pixels lie (figure 7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from analysis.embedding import embedded_once, thinned
from analysis.kinds import Drawn
from analysis.reading import Line, Material
from analysis.style import (
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    dots,
    hide_axes,
    outline,
    paint,
    pictures_and_spaces,
)
from analysis.tsne import FIXED_STAR_SIZE, STAR_SIZE, feature_space, fixed_of
from experiments.draw.inspection import RunInspection

#: colour and marker of each image
LOOKS = ((BLUE, "o"), (ORANGE, "s"), (GREEN, "^"), (PURPLE, "D"), (SKY, "v"), (VERMILION, "P"))
FEWEST = 5  # pixels at feature resolution, for an image to take part
MOST = 250  # pixels an image


@dataclass(frozen=True)
class Cloud:
    """The pixels of one class over several images in one feature space."""

    title: str
    points: tuple[NDArray[np.float64], ...]  # an (N, 2) an image
    adapted: tuple[NDArray[np.float64], ...]  # a (1 or 0, 2) an image
    fixed: NDArray[np.float64]  # (P, 2)
    within: float  # mean cosine between two pixels of one image
    between: float  # mean cosine between pixels of two images
    prototypes: float | None  # mean cosine between the adapted prototypes of two images


def common_class(inspection: RunInspection) -> tuple[int, list[int]]:
    """The class that most chosen images show, then the one with most pixels, and those images.

    A class counts in an image with at least :data:`FEWEST` pixels at feature resolution.
    """
    number = len(inspection.provenance.class_names)
    counts = np.stack(
        [
            np.bincount(image.small_label.reshape(-1), minlength=256)[:number]
            for image in inspection.images
            if image.small_label is not None
        ]
    )
    there = counts >= FEWEST
    # the root keeps one large background from winning by its area alone
    best = max(range(number), key=lambda k: (there[:, k].sum(), np.sqrt(counts[:, k]).sum(), -k))
    return best, [int(i) for i in np.flatnonzero(there[:, best])]


def cloud_of(line: Line, focus: int, images: Sequence[int], folder: Path) -> Cloud:
    """Embed one class's pixels of several images together with its prototypes."""
    inspection = line.inspections[0]
    pixels, adapted = [], []
    for number in images:
        image = inspection.images[number]
        features, prototypes = feature_space(image, "decision")
        assert image.small_label is not None
        vectors = features[image.small_label == focus]
        pixels.append(vectors[thinned(len(vectors), MOST)])
        adapted.append(
            prototypes[focus][None]
            if prototypes is not None
            else np.zeros((0, features.shape[-1]), dtype=np.float32)
        )
    fixed = fixed_of(inspection, focus, pixels[0].shape[1])
    points = embedded_once(
        folder,
        {
            "run": inspection.provenance.run_id,
            "arrays": inspection.provenance.arrays_sha256,
            "images": [inspection.images[n].name for n in images],
            "domain": "decision",
            "within class": focus,
        },
        lambda: np.concatenate([*pixels, *adapted, fixed]),
    )
    ends = np.cumsum([len(part) for part in (*pixels, *adapted, fixed)])
    parts = np.split(points, ends[:-1])
    within, between = mean_cosines(pixels)
    single = len(images) < 2 or not len(adapted[0])
    decided = inspection.images[images[0]].embedded_features is not None
    return Cloud(
        title=f"{line.label}, {'$S_f + P_f$' if decided else '$S_f$'}",
        points=tuple(parts[: len(images)]),
        adapted=tuple(parts[len(images) : 2 * len(images)]),
        fixed=parts[-1],
        within=within,
        between=between,
        prototypes=None if single else mean_cosines(adapted)[1],
    )


def mean_cosines(groups: Sequence[NDArray[np.floating]]) -> tuple[float, float]:
    """Mean cosine between vectors of one group (a vector with itself left out), and of two."""
    unit = [g / np.maximum(np.linalg.norm(g, axis=1, keepdims=True), 1e-12) for g in groups]
    sums = np.array([[float((a @ b.T).sum()) for b in unit] for a in unit])
    sizes = np.array([len(group) for group in groups], dtype=np.float64)
    pairs_within = float((sizes * (sizes - 1)).sum())
    inside = float(np.trace(sums) - sizes.sum()) / max(pairs_within, 1.0)
    pairs_between = float(sizes.sum() ** 2 - (sizes**2).sum())
    outside = float(sums.sum() - np.trace(sums)) / max(pairs_between, 1.0)
    return inside, outside


def clouds_of(material: Material) -> list[Cloud]:
    """The cloud of each line, of the class that most chosen images show."""
    focus, images = common_class(material.baseline.inspections[0])
    return [cloud_of(line, focus, images, material.folder) for line in material.lines]


def draw(material: Material) -> Drawn:
    """The images above, one cloud a line below."""
    base = material.baseline.inspections[0]
    focus, images = common_class(base)
    clouds = clouds_of(material)
    style = material.drawing.style
    name = base.provenance.class_names[focus]
    lines = 1 if style == "text" else 2
    figure, picture_axes, cloud_axes = pictures_and_spaces(
        style, base.images[images[0]].label.shape, len(images), len(clouds), lines
    )
    for place, (axes, number) in enumerate(zip(picture_axes, images)):
        image = base.images[number]
        truth = paint(image.label, base.provenance.palette)
        axes.imshow(truth if image.image is None else image.image)
        outline(axes, image.label == focus)
        colour, _ = LOOKS[place % len(LOOKS)]
        hide_axes(axes)
        for spine in axes.spines.values():
            spine.set_color(colour)
            spine.set_linewidth(1.6)
        what = "Truth of image" if image.image is None else "Image"
        axes.set_title(f"{what} {place + 1}", pad=2, fontsize=6)
    for axes, cloud in zip(cloud_axes, clouds):
        draw_cloud(axes, cloud)
    figure.legend(
        handles=_handles(len(images)),
        loc="lower center",
        borderaxespad=0.1,
        ncols=len(images) + 2 if style == "text" else 3,
        handletextpad=0.3,
        columnspacing=1.2,
    )
    cosines = " ".join(
        f"{cloud.title.replace('$', '')}: mean cosine {cloud.within:.2f} between two pixels of one "
        f"image and {cloud.between:.2f} between pixels of two images"
        + (
            "."
            if cloud.prototypes is None
            else f"; {cloud.prototypes:.3f} between the adapted prototypes of two images."
        )
        for cloud in clouds
    )
    note = (
        f"Pixels labelled {name} of {len(images)} images ("
        f"{', '.join(base.images[n].name for n in images)}), embedded together by t-SNE of unit "
        f"vectors (perplexity 30, seed 0); the class was chosen by the labels. {cosines}"
    )
    return Drawn(figure, _frame(clouds, [base.images[n].name for n in images]), note)


def draw_cloud(axes: Axes, cloud: Cloud) -> None:
    """Pixels by image, each image's adapted prototype in its colour, the fixed one in white."""
    for (colour, marker), points in zip(LOOKS, cloud.points):
        dots(axes, points, s=7, color=colour, marker=marker, linewidths=0)
    edge: dict[str, Any] = {"marker": "*", "edgecolors": "black", "linewidths": 0.7}
    dots(axes, cloud.fixed, s=FIXED_STAR_SIZE, color="white", **edge)
    # where stars lie on each other, the larger ones below show their rims
    for place, ((colour, _), points) in enumerate(zip(LOOKS, cloud.adapted)):
        size = STAR_SIZE * (1 + 1.5 * (len(cloud.adapted) - 1 - place))
        dots(axes, points, s=size, color=colour, **edge | {"linewidths": 0.35})
    axes.set_title(cloud.title, pad=2)
    axes.margins(0.06)
    axes.set_box_aspect(1)
    hide_axes(axes)


def _handles(number: int) -> list[Line2D]:
    handles = [
        Line2D([], [], linestyle="none", marker=m, color=c, markersize=3.5, label=f"image {i + 1}")
        for i, (c, m) in enumerate(LOOKS[:number])
    ]
    stars = (("fixed prototype", "white"), ("adapted, in the image's colour", "0.6"))
    return handles + [
        Line2D(
            [],
            [],
            linestyle="none",
            marker="*",
            markerfacecolor=face,
            markeredgecolor="black",
            markeredgewidth=0.7,
            markersize=8,
            label=label,
        )
        for label, face in stars
    ]


def _frame(clouds: Sequence[Cloud], names: Sequence[str]) -> pd.DataFrame:
    rows = []
    for cloud in clouds:
        title = cloud.title.replace("$", "")
        for what, groups in (("pixel", cloud.points), ("adapted prototype", cloud.adapted)):
            for name, points in zip(names, groups):
                rows += [(title, what, name, *point) for point in points.tolist()]
        rows += [(title, "fixed prototype", "", *point) for point in cloud.fixed.tolist()]
    return pd.DataFrame(rows, columns=["panel", "what", "image", "x", "y"])
