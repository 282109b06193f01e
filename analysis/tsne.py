"""Pixel features of one image with the prototypes of one class (figures 1, 5 and 6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from analysis.embedding import embedded_once, mean_cosine, thinned
from analysis.kinds import Drawn
from analysis.reading import Line, Material
from analysis.style import BLUE, ORANGE, PALE, dots, hide_axes, outline, paint, pictures_and_spaces
from experiments.declare.figure import Style
from experiments.draw.inspection import InspectedImage, RunInspection

IGNORED = 255
DOMAIN_TITLES = {"semantic": "$S_f$", "decision": "$S_f + P_f$"}
STAR_SIZE = 45.0
FIXED_STAR_SIZE = 140.0


@dataclass(frozen=True)
class Panel:
    """One feature space of one run, ready to be drawn."""

    title: str
    domain: str
    pixels: NDArray[np.float64]  # (N, 2)
    places: NDArray[np.int64]  # (N,) index of each pixel in the (h·w) feature map
    classes: NDArray[np.int64]  # (N,)
    focus: int
    fixed: NDArray[np.float64]  # (P, 2) prototypes that are the same for every image
    adapted: NDArray[np.float64]  # (1 or 0, 2) the prototype adapted to this image
    #: (focus class's pixels, all others): mean cosine to the fixed prototype (the nearest of
    #: several), and to the adapted one
    fixed_cosines: tuple[float, float] | None
    adapted_cosines: tuple[float, float] | None


def panel_of(line: Line, number: int, domain: str, folder: Path) -> Panel:
    """Embed the pixels and prototypes of one image of a line's first run together.

    Args:
        line: of the figure.
        number: of the chosen image.
        domain: ``semantic``: S_f with W and S_p·W_oᵀ; ``decision``: S_f + P_f with W and
            (S_p + P_p)·W_oᵀ, as the classifier compares them.
        folder: where the points are kept.
    """
    inspection = line.inspections[0]
    image = inspection.images[number]
    features, adapted = feature_space(image, domain)
    assert image.small_label is not None
    flat = features.reshape(-1, features.shape[-1])
    labels = image.small_label.reshape(-1).astype(np.int64)
    labelled = np.flatnonzero(labels != IGNORED)
    places = labelled[thinned(len(labelled))]
    fixed = fixed_of(inspection, image.focus_class, flat.shape[1])
    stars = [fixed] if adapted is None else [fixed, adapted[image.focus_class][None]]
    points = embedded_once(
        folder,
        {
            "run": inspection.provenance.run_id,
            "arrays": inspection.provenance.arrays_sha256,
            "image": image.name,
            "domain": domain,
            "class": image.focus_class,
        },
        lambda: np.concatenate([flat[places], *stars]),
    )
    count = len(places)
    mine = labels[places] == image.focus_class
    own, others = flat[places][mine], flat[places][~mine]

    def cosines(prototypes: NDArray[np.float32]) -> tuple[float, float] | None:
        if not (len(own) and len(others) and len(prototypes)):
            return None
        return max((mean_cosine(own, p), mean_cosine(others, p)) for p in prototypes)

    return Panel(
        title=f"{line.label}, {DOMAIN_TITLES[domain]}",
        domain=domain,
        pixels=points[:count],
        places=places,
        classes=labels[places],
        focus=image.focus_class,
        fixed=points[count : count + len(fixed)],
        adapted=points[count + len(fixed) :],
        fixed_cosines=cosines(fixed),
        adapted_cosines=None if adapted is None else cosines(adapted[image.focus_class][None]),
    )


def feature_space(
    image: InspectedImage, domain: str
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Features (h, w, D) and adapted prototypes (K, D) or None of one domain."""
    assert image.features is not None
    if domain == "semantic":
        return image.features, image.semantic_decision
    decided = image.features if image.embedded_features is None else image.embedded_features
    return decided, image.adapted_prototypes


def fixed_of(inspection: RunInspection, focus: int, channels: int) -> NDArray[np.float32]:
    """(P, D) fixed prototypes of a class; (0, D) where they live in another space."""
    fixed = inspection.fixed_prototypes
    if fixed is None or fixed.shape[-1] != channels:
        return np.zeros((0, channels), dtype=np.float32)
    return fixed[focus].reshape(-1, channels)


def panels_of(material: Material, number: int) -> list[Panel]:
    """Every line in every domain of the figure that it has."""
    panels = []
    for line in material.lines:
        domains = list(material.drawing.figure.domains)
        if line.inspections[0].images[number].embedded_features is None and len(domains) > 1:
            domains = ["semantic"]  # what it decides on is what it has
        panels += [panel_of(line, number, domain, material.folder) for domain in domains]
    return panels


def shown_image(material: Material) -> int:
    """Which of the chosen images the figure shows."""
    wanted = material.drawing.figure.images
    return min(wanted[0] if wanted else 0, len(material.baseline.inspections[0].images) - 1)


def draw(material: Material) -> Drawn:
    """Image, truth and masks beside the feature spaces."""
    number = shown_image(material)
    panels = panels_of(material, number)
    shown = [line.inspections[0] for line in material.lines]
    titles = [line.label for line in material.lines]
    figure = draw_panels(panels, shown, titles, number, material.drawing.style)
    name = shown[0].provenance.class_names[panels[0].focus]
    image = shown[0].images[number]
    sentences = [
        f"Image {image.name}, chosen by its labels before any prediction was seen. Coloured: "
        f"pixels labelled {name}; grey: all others, at feature resolution. Pixels and stars are "
        "embedded together by t-SNE of unit vectors (perplexity 30, seed 0); distances between "
        "far groups mean nothing, so here are the mean cosines of the class's pixels."
    ]
    for panel in panels:
        pairs = (("fixed", panel.fixed_cosines), ("adapted", panel.adapted_cosines))
        parts = [
            f"{pair[0]:.2f} to the {which} prototype (other pixels {pair[1]:.2f})"
            for which, pair in pairs
            if pair is not None
        ]
        if parts:
            title = panel.title.replace("$", "")
            sentences.append(f"{title}: {', '.join(parts)}.".replace(" -", " −"))
    return Drawn(figure, panels_frame(panels, shown[0].provenance.class_names), " ".join(sentences))


def draw_panels(
    panels: Sequence[Panel],
    inspections: Sequence[RunInspection],
    titles: Sequence[str],
    number: int,
    style: Style,
) -> Figure:
    """The pictures as a block of two columns, the feature spaces beside (text) or below (column).

    Args:
        panels: feature spaces.
        inspections: one a mask, the first one's image and truth are shown.
        titles: of the masks.
        number: of the chosen image.
        style: width.
    """
    image = inspections[0].images[number]
    photographs = 0 if image.image is None else 1
    lines = 1 if style == "text" else 2
    figure, picture_axes, space_axes = pictures_and_spaces(
        style, image.label.shape, photographs + 1 + len(inspections), len(panels), lines
    )
    draw_pictures(picture_axes, inspections, titles, number)
    for axes, panel in zip(space_axes, panels):
        draw_space(axes, panel)
    name = inspections[0].provenance.class_names[panels[0].focus]
    figure.legend(
        handles=legend_handles(name, adapted=any(len(panel.adapted) for panel in panels)),
        loc="lower center",
        borderaxespad=0.1,
        ncols=4 if style == "text" else 2,
        handletextpad=0.3,
        columnspacing=1.2,
    )
    return figure


def draw_pictures(
    all_axes: Sequence[Axes], inspections: Sequence[RunInspection], titles: Sequence[str], n: int
) -> None:
    """Image, if it is kept, and truth with the outline of its focus class, and each run's mask."""
    image, palette = inspections[0].images[n], inspections[0].provenance.palette
    shown = [] if image.image is None else [("Image", image.image)]
    shown.append(("Truth", paint(image.label, palette)))
    masks = [paint(i.images[n].prediction, palette) for i in inspections]
    for axes, (title, picture) in zip(all_axes, [*shown, *zip(titles, masks)]):
        axes.imshow(picture)
        outline(axes, image.label == image.focus_class)
        axes.set_title(title, pad=2, fontsize=6)
        hide_axes(axes)


def draw_space(axes: Axes, panel: Panel) -> None:
    """Grey pixels, coloured pixels, stars."""
    focus = panel.classes == panel.focus
    dots(axes, panel.pixels[~focus], s=3, color=PALE, linewidths=0)
    dots(axes, panel.pixels[focus], s=7, color=BLUE, linewidths=0)
    # the fixed star is larger: its rim shows where the adapted one lies on it
    for stars, face, size in (
        (panel.fixed, "white", FIXED_STAR_SIZE),
        (panel.adapted, ORANGE, STAR_SIZE),
    ):
        dots(axes, stars, s=size, marker="*", color=face, edgecolors="black", linewidths=0.7)
    axes.set_title(panel.title, pad=2)
    axes.margins(0.06)
    axes.set_box_aspect(1)
    hide_axes(axes)


def legend_handles(class_name: str, *, adapted: bool) -> list[Line2D]:
    """What the points of :func:`draw_space` are."""

    def handle(label: str, marker: str, face: str, edge: str, size: float) -> Line2D:
        return Line2D(
            [],
            [],
            linestyle="none",
            marker=marker,
            markerfacecolor=face,
            markeredgecolor=edge,
            markeredgewidth=0.7,
            markersize=size,
            label=label,
        )

    handles = [
        handle(f"pixel labelled {class_name}", "o", BLUE, BLUE, 3),
        handle("other pixel", "o", PALE, PALE, 2.5),
        handle("fixed prototype", "*", "white", "black", 9),
        handle("adapted prototype", "*", ORANGE, "black", 7),
    ]
    return handles if adapted else handles[:-1]


def panels_frame(panels: Sequence[Panel], class_names: Sequence[str]) -> pd.DataFrame:
    """One line a point: panel, what it is, its place in the feature map, class, x, y."""
    frames = []
    for panel in panels:
        parts = (
            ("pixel", panel.pixels, panel.places, panel.classes),
            ("fixed prototype", panel.fixed, None, np.full(len(panel.fixed), panel.focus)),
            ("adapted prototype", panel.adapted, None, np.full(len(panel.adapted), panel.focus)),
        )
        for what, points, places, classes in parts:
            frames.append(
                pd.DataFrame(
                    {
                        "panel": panel.title.replace("$", ""),
                        "domain": panel.domain,
                        "what": what,
                        "place": pd.array(
                            places if places is not None else [None] * len(points), dtype="Int64"
                        ),
                        "class": [class_names[k] for k in classes],
                        "x": points[:, 0],
                        "y": points[:, 1],
                    }
                )
            )
    return pd.concat([frame for frame in frames if len(frame)], ignore_index=True)


def cosine_frame(panels: Sequence[Panel]) -> pd.DataFrame:
    """One line a panel and prototype: its mean cosine to the class's pixels and to all others."""
    return pd.DataFrame(
        [
            {
                "panel": panel.title.replace("$", ""),
                "prototype": which,
                "own_cosine": pair[0],
                "other_cosine": pair[1],
                "margin": pair[0] - pair[1],
            }
            for panel in panels
            for which, pair in (("fixed", panel.fixed_cosines), ("adapted", panel.adapted_cosines))
            if pair is not None
        ]
    )
