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

from analysis.kinds import Drawn
from analysis.reading import Material
from analysis.style import SEQUENTIAL, new_figure

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


def relations_of(material: Material) -> list[Relation]:
    """Student and teacher of every line that has them, line by line."""
    relations = []
    for line in material.lines:
        inspection = line.inspections[0]
        for whose, matrix in (
            ("student", inspection.student_relation),
            ("teacher", inspection.teacher_relation),
        ):
            if matrix is not None:
                relations.append(Relation(f"{whose}, {line.label}", matrix))
    return relations


def draw(material: Material) -> Drawn:
    """Students above, teachers below, one column a line; one scale for all."""
    relations = relations_of(material)
    inspection = material.baseline.inspections[0]
    names = inspection.provenance.class_names
    style = material.drawing.style
    columns = len(material.lines)
    named = len(names) <= MOST_NAMED
    rows = -(-len(relations) // columns)
    width = 6.75 if style == "text" else 3.25
    margin = 0.75 if named else 0.3
    side = (width - margin - 0.55) / columns
    figure = new_figure(style, rows * (side + 0.2) + margin)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    # lines come as (student, teacher); columns are lines
    ordered = [relations[i] for r in range(rows) for i in range(r, len(relations), rows)]
    norm = PowerNorm(0.5, 0, 1)
    for axes, relation in zip(grid.flat, ordered):
        drawn = draw_relation(axes, relation, names, norm)
    bar = figure.colorbar(drawn, ax=grid.ravel().tolist(), shrink=0.6, pad=0.01, aspect=30)
    bar.set_label("share of a row (root scale)")
    bar.outline.set_linewidth(0.4)
    text = " ".join(
        f"{r.title}: a class keeps {r.own:.2f} for itself and gives {r.confusion:.2f} to its "
        "nearest neighbour."
        for r in ordered
    )
    provenance = inspection.provenance
    note = (
        f"Row softmax of {provenance.relation_scale:g}·cos between the semantic prototypes of all "
        f"classes, mean over {provenance.num_images} images of {provenance.split}; this is what "
        f"L_sd compares. {text}"
    )
    return Drawn(figure, relation_frame(ordered, names), note)


def draw_relation(
    axes: Axes, relation: Relation, names: Sequence[str], norm: PowerNorm
) -> AxesImage:
    """One matrix with class names, or every tenth number where there are too many."""
    drawn = axes.imshow(relation.matrix, cmap=SEQUENTIAL, norm=norm)
    axes.set_title(relation.title, pad=3)
    if len(names) <= MOST_NAMED:
        size = 6 if len(names) <= 20 else 5
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
