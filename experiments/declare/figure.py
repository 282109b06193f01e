"""What a figure is: its kind, and which rows of which tables supply its runs."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from experiments.declare.base import Declared, PlainName

Kind = Literal[
    "architecture",
    "boundary",
    "class_changes",
    "intra_class",
    "masks_and_cam",
    "mechanism",
    "miou_curves",
    "relation_matrix",
    "small_objects",
    "tsne",
    "variance",
]
Style = Literal["column", "text"]

#: kinds that read what `extract` stored beside a record; the others read records alone
INSPECTED: frozenset[Kind] = frozenset(
    {"boundary", "intra_class", "masks_and_cam", "relation_matrix", "small_objects", "tsne"}
)

#: kinds that read how far the baseline's features lie from their prototypes, which is stored then
MEASURED: frozenset[Kind] = frozenset({"mechanism"})


class FigureRow(Declared):
    """One line, matrix or column of a figure: the runs of a table's row."""

    run: str  # <table>/<row id>
    label: str  # as the figure's legend says it
    baseline: bool = False  # what the other rows are compared with
    optional: bool = False  # the figure is drawn without it, and says so

    @field_validator("run")
    @classmethod
    def _two_names(cls, value: str) -> str:
        if not re.fullmatch(r"[^/]+/[^/]+", value):
            raise ValueError(f"'{value}' must be <table>/<row id>, for instance table8/full")
        return value

    @property
    def table(self) -> str:
        """Name of the table."""
        return self.run.partition("/")[0]

    @property
    def row(self) -> str:
        """Id of its row."""
        return self.run.partition("/")[2]


class Figure(Declared):
    """A figure of the paper, or one that the paper lacks."""

    name: PlainName
    number: int | None = None  # in the paper; None: the paper has no such figure
    title: str
    source: str  # where the paper has it, or why we draw it
    kind: Kind
    rows: tuple[FigureRow, ...] = ()
    seeds: Literal["first", "all"] = "first"  # pictures of one network, or statistics over seeds
    #: which of the chosen images to show, by their number; () is the kind's own choice
    images: tuple[int, ...] = ()
    #: feature spaces of a t-SNE: S_f alone, or what the decision compares with the prototypes
    domains: tuple[Literal["semantic", "decision"], ...] = Field(default=("semantic",))
    style: Style = "text"  # width: a paper's column or its text
    description: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> Figure:
        if not self.rows and self.kind != "architecture":
            raise ValueError(f"{self.name} names no row")
        labels = [row.label for row in self.rows]
        runs = [row.run for row in self.rows]
        if len(set(zip(labels, runs))) < len(runs):
            raise ValueError(f"{self.name} names a row twice")
        return self

    @property
    def inspected(self) -> bool:
        """Whether it needs what `extract` stores."""
        return self.kind in INSPECTED

    @property
    def measured(self) -> bool:
        """Whether it needs the distances of the baseline's features."""
        return self.kind in MEASURED

    def of_profile(self, profile: str) -> str:
        """The profile that its files are of; without rows it is the same one in every profile."""
        return profile if self.rows else DEFAULT_PROFILE

    def stem(self, profile: str) -> str:
        """Name of its files without their endings."""
        return figure_stem(self.name, self.of_profile(profile))


def figure_stem(name: str, profile: str) -> str:
    """``figure4`` → ``figure04``, ``figure04-camvid``; other names keep theirs."""
    match = re.fullmatch(r"figure(\d{1,2})", name)
    stem = f"figure{int(match.group(1)):02d}" if match else name
    return stem if profile == DEFAULT_PROFILE else f"{stem}-{profile}"


#: results of this profile carry no suffix, as those of tables
DEFAULT_PROFILE = "quick"
