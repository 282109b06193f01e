"""What a table of the paper, or a study, consists of."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from pydantic import Field, field_validator, model_validator

from experiments.declare.base import Declared, PlainName
from experiments.declare.claims import Claim
from experiments.declare.metrics import ColumnName, check_column
from experiments.declare.network import NetworkConfig, Settings
from experiments.declare.paper import NO_PAPER, Paper
from experiments.declare.training import TrainingOverrides

#: side of the square input in pixels, as the paper counts (Table 1)
SIDE = 512
SIDE_OF = {"pascal_context": 480}


class Reported(Declared):
    """The paper's own numbers for one row; None where the paper prints none."""

    miou: float | None = None  # percent, single scale
    params_m: float | None = None  # millions
    macs_g: float | None = None  # 1e9 multiply-accumulates
    latency_ms: float | None = None  # milliseconds on a V100 at 512×512
    gain: float | None = None  # percent points, as the paper prints it


class ClassifierChoice(Declared):
    """Which pixel classifier, from which preset, with which switches changed."""

    name: str
    preset: str | None = None
    overrides: Settings = Field(default_factory=dict)


class Row(Declared):
    """One row of a table on one data set."""

    id: str
    label: str  # as the paper prints it
    classifier: ClassifierChoice
    model: str | None = None  # None: the table's
    dataset: str | None = None  # None: the table's
    model_overrides: NetworkConfig = Field(default_factory=dict)  # merged into the segmentor
    #: of the data set, over the profile's; only where the profile trains on that data set
    dataset_settings: Settings = Field(default_factory=dict)
    training: TrainingOverrides = TrainingOverrides()  # over the profile's or the protocol's
    split: str | None = None  # scored on in place of the profile's: a score that only chooses
    #: rows that differ from this one in their rates and split: it has the rate of the best of them
    rate_from: tuple[str, ...] = ()
    reported: Reported = Reported()
    readme: Reported | None = None  # the released code's README, where it differs from the paper
    gain_over: str | None = None  # row id of the baseline; None: the table's first row
    reading: str | None = None  # footnote where the paper is ambiguous
    notes: dict[ColumnName, str] = Field(
        default_factory=dict
    )  # why a number differs from the paper's
    #: which of our counts the printed MACs are: by hooks on modules, or of every product
    macs_printed: Literal["macs_g", "macs_all_g"] = "macs_g"
    counted_with: dict[Literal["size", "num_classes"], int] = Field(
        default_factory=dict
    )  # where the paper's count was made with another input or number of classes
    group: str | None = None  # heading that rows share in the paper's layout

    @field_validator("id")
    @classmethod
    def _slug(cls, value: str) -> str:
        if not re.fullmatch(r"[a-z0-9_.-]+", value):
            raise ValueError(f"row id '{value}' must be lower-case letters, digits, _ . -")
        return value


class Layout(Declared):
    """The columns of a table as the paper prints it; rows of one network share a line."""

    heading: str = "Method"  # of the first column
    #: heading → switch of the classifier, printed in place of the label
    switches: dict[str, str] = Field(default_factory=dict)
    backbone: bool = False  # printed beside the label
    columns: tuple[str, ...]  # a metric, or <data set>.<metric>

    @field_validator("columns")
    @classmethod
    def _metrics(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for column in value:
            check_column(column.rpartition(".")[2])
        return value


class Table(Declared):
    """A table of the paper, or a study declared like one."""

    name: PlainName
    title: str
    source: str  # where the reported numbers stand
    rows: tuple[Row, ...]
    model: str | None = None
    dataset: str | None = None
    columns: tuple[ColumnName, ...] = ("miou",)
    layout: Layout | None = None  # the paper's own; None: label and ``columns``
    params_num_classes: int | None = None  # where parameters are printed once for all data sets
    description: str = ""
    claims: tuple[Claim, ...] = ()  # what the table is to show; each gets a verdict
    profiles: tuple[str, ...] = ()  # in which it means something; none named: in all
    paper: Paper = NO_PAPER  # set where the registry is read, from paper.yaml

    @model_validator(mode="after")
    def _consistent(self) -> Table:
        ids = [row.id for row in self.rows]
        twice = sorted({row_id for row_id in ids if ids.count(row_id) > 1})
        if twice:
            raise ValueError(f"row id '{twice[0]}' stands twice in {self.name}")
        for row in self.rows:
            if row.gain_over is not None and row.gain_over not in ids:
                raise ValueError(f"row '{row.id}' of {self.name}: no row '{row.gain_over}'")
            if (row.model or self.model) is None or (row.dataset or self.dataset) is None:
                raise ValueError(f"row '{row.id}' of {self.name} names no model or no data set")
        names = [claim.id for claim in self.claims]
        for claim in self.claims:
            if names.count(claim.id) > 1:
                raise ValueError(f"claim '{claim.id}' stands twice in {self.name}")
            for row_id in sorted(claim.named - set(ids)):
                raise ValueError(f"claim '{claim.id}' of {self.name}: no row '{row_id}'")
        self._check_choices(ids)
        return self

    def _check_choices(self, ids: Sequence[str]) -> None:
        """Refuse a choice among rows that differ otherwise, or with another budget than the others.

        Raises:
            ValueError: says which.
        """
        budgets: dict[tuple[object, ...], str] = {}
        for row in self.rows:
            for row_id in row.rate_from:
                if row_id not in ids:
                    raise ValueError(f"row '{row.id}' of {self.name}: no row '{row_id}'")
            if row.rate_from:
                budgets.setdefault(_budget(row, [self.row(each) for each in row.rate_from]), row.id)
        if len(budgets) > 1:
            first, second, *_ = budgets.values()
            raise ValueError(
                f"rows '{first}' and '{second}' of {self.name} choose among other rates or on "
                "another split: equal budgets for all"
            )

    def at_its_rates(self, row: Row) -> tuple[Row, ...]:
        """What ``row`` can be when its rate is chosen; itself where nothing is to be chosen."""
        if not row.rate_from:
            return (row,)
        return tuple(at_rate_of(row, self.row(each)) for each in row.rate_from)

    def is_for(self, profile: str) -> bool:
        """Whether the table means something in a profile."""
        return not self.profiles or profile in self.profiles

    def row(self, row_id: str) -> Row:
        """The row ``row_id``; KeyError if there is none."""
        return next(row for row in self.rows if row.id == row_id)

    def baseline_of(self, row: Row) -> Row:
        """The row over which the gain of ``row`` is counted."""
        return self.row(row.gain_over) if row.gain_over else self.rows[0]


def at_rate_of(row: Row, candidate: Row) -> Row:
    """``row`` with the rate of one of the rows that it chooses from."""
    rate = {"lr_times": candidate.training.lr_times}
    return row.model_copy(update={"training": row.training.model_copy(update=rate)})


#: fields in which a row and those that it chooses its rate from may differ
_OF_A_CHOICE = {
    "id", "label", "group", "gain_over", "reading", "notes", "reported", "readme", "split",
    "rate_from", "training",
}  # fmt: skip


def _budget(row: Row, candidates: Sequence[Row]) -> tuple[object, ...]:
    """The rates among which a row chooses, and the split on which it does.

    Raises:
        ValueError: its rows do not leave a choice of the rate alone.
    """
    if row.split is not None or row.training.lr_times is not None:
        raise ValueError(f"row '{row.id}' chooses its rate: it names neither rate nor split itself")
    own = row.model_dump(exclude=_OF_A_CHOICE), row.training.from_scratch
    for each in candidates:
        if each.split is None or each.training.lr_times is None or each.rate_from:
            raise ValueError(
                f"row '{each.id}', from which '{row.id}' chooses, names rate and split"
            )
        if (each.model_dump(exclude=_OF_A_CHOICE), each.training.from_scratch) != own:
            raise ValueError(f"row '{each.id}' differs from '{row.id}' by more than its rate")
    rates = tuple(sorted(each.training.lr_times or 0.0 for each in candidates))
    splits = {each.split for each in candidates}
    if len(set(rates)) < max(len(rates), 2) or len(splits) > 1:
        raise ValueError(f"row '{row.id}' chooses among different rates on one split, two at least")
    return (*rates, *splits)
