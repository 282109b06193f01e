"""How classes relate: softmax(τ·cos) between the prototypes of student and teacher (figure 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from analysis.kinds import Drawn, NothingToDrawError
from analysis.reading import Material
from analysis.style import SEQUENTIAL, WIDTH_INCHES, new_figure, pretty

#: with more classes than this their names cannot be read in print; every tenth number stands
MOST_NAMED = 32


@dataclass(frozen=True)
class Relation:
    """One matrix: rows sum to 1."""

    title: str
    matrix: NDArray[np.floating]  # (K, K)

    @property
    def own(self) -> float:
        """Mean of the diagonal: how much a class is nearest to itself."""
        return float(np.diag(self.matrix).mean())

    @property
    def confusion(self) -> float:
        """Mean over classes of the largest entry off the diagonal."""
        off = self.matrix.copy()
        np.fill_diagonal(off, 0)
        return float(off.max(1).mean())


def relations_of(material: Material) -> list[list[Relation]]:
    """Student and teacher of every line, as far as it has them, line by line."""
    relations = []
    for line in material.lines:
        inspection = line.inspections[0]
        both = (("student", inspection.student_relation), ("teacher", inspection.teacher_relation))
        relations.append([Relation(f"{who}, {line.label}", m) for who, m in both if m is not None])
    return [of_line for of_line in relations if of_line]


def draw(material: Material) -> Drawn:
    """Students and teachers on one scale: side by side (text), or one line under the other.

    Raises:
        NothingToDrawError: no run has prototypes that depend on the image.
    """
    relations = relations_of(material)
    if not relations:
        raise NothingToDrawError(
            f"{material.drawing.figure.name}: none of its runs has semantic prototypes to relate; "
            "name rows with semantic adaptation in its file."
        )
    inspection = next(
        i for line in material.lines for i in line.inspections if i.student_relation is not None
    )
    names = inspection.provenance.class_names
    style = material.drawing.style
    flat = [relation for of_line in relations for relation in of_line]
    columns = len(flat) if style == "text" and len(flat) <= 4 else 2
    rows = -(-len(flat) // columns)
    margin = 0.62 if len(names) <= MOST_NAMED else 0.3
    side = (WIDTH_INCHES[style] - margin - 0.5) / columns
    figure = new_figure(style, rows * (side + 0.15) + margin - 0.08, tight=True)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    norm = PowerNorm(0.5, 0, 1)
    for axes in grid.flat[len(flat) :]:
        axes.remove()
    for axes, relation in zip(grid.flat, flat):
        drawn = draw_relation(axes, relation, names, norm, side)
    bar = figure.colorbar(drawn, ax=list(grid.flat[: len(flat)]), shrink=0.75, pad=0.01, aspect=22)
    bar.set_label("share of a row")
    bar.set_ticks([0, 0.1, 0.4, 1])
    bar.outline.set_linewidth(0.4)
    text = " ".join(
        f"{r.title}: a class keeps {r.own:.2f} for itself and gives {r.confusion:.2f} to its "
        "nearest neighbour."
        for r in flat
    )
    provenance = inspection.provenance
    note = (
        f"Row softmax of {provenance.relation_scale:g}·cos between the semantic prototypes of all "
        f"classes, mean over {provenance.num_images} images of {provenance.split}; this is what "
        f"L_sd compares. Colours follow the root of the share. {text}"
    )
    return Drawn(figure, relation_frame(flat, names), note)


def draw_relation(
    axes: Axes, relation: Relation, names: Sequence[str], norm: PowerNorm, side: float
) -> AxesImage:
    """One matrix with class names, or every tenth number where there are too many."""
    drawn = axes.imshow(relation.matrix, cmap=SEQUENTIAL, norm=norm)
    axes.set_title(pretty(relation.title), pad=3, fontsize=6.5)
    if len(names) <= MOST_NAMED:
        size = min(6.0, 0.85 * 72 * side / len(names))  # one line a class
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=size)
        axes.set_yticks(range(len(names)), names, fontsize=size)
    else:
        ticks = range(0, len(names), 10)
        axes.set_xticks(ticks)
        axes.set_yticks(ticks)
    axes.tick_params(length=0, pad=1)
    axes.spines[:].set_visible(False)
    return drawn


def relation_frame(relations: Sequence[Relation], names: Sequence[str]) -> pd.DataFrame:
    """One line a matrix and pair of classes."""
    number = len(names)
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "matrix": relation.title,
                    "class": np.repeat(names, number),
                    "other_class": np.tile(names, number),
                    "share": relation.matrix.reshape(-1).astype(np.float64),
                }
            )
            for relation in relations
        ],
        ignore_index=True,
    )
