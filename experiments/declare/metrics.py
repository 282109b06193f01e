"""What a printed number can be about: every metric's words, unit, source and digits, once.

To add one is to add it here. A metric whose ``source`` is ``record`` needs nothing else: a table
may name it in ``columns``, and it is printed, exported, explained and proposed like the others.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import AfterValidator

#: where our number comes from: the scores of runs, a gain between rows, the count of the paper-size
#: network, ``bench latency``, or a field of each run's record (the median over the runs is taken)
Source = Literal["scores", "gain", "count", "bench", "record"]

#: how our number is judged against the paper's; ``experiments/judge/verdict.py`` does it
Judged = Literal["points", "interval", "digits", "ratio", "never"]


@dataclass(frozen=True)
class Metric:
    """One thing that a printed number can be about."""

    name: str  # in tables' files, on the command line and in CSV and JSON
    title: str  # of a column
    unit: str  # of a column
    long_title: str  # where there is room
    meaning: str  # continues the long title
    why: str  # the unit in words, for `why`
    source: Source
    judged: Judged
    field: str = ""  # of the count or, with dots, of the record
    paper_title: str = ""  # in the paper's own columns, where the paper calls it otherwise
    digits: int = 2  # of our number, printed
    paper_digits: int = 1  # that the paper prints
    printed_in_paper: bool = True  # else no number of the paper stands beside ours
    column: bool = True  # a table may name it in ``columns``
    always_exported: bool = True  # else only where it is a column
    where_measured: bool = False  # a column of every table with a run that has it, also unnamed

    @property
    def heading(self) -> str:
        """Of a column of ours: ``Params, M``."""
        return f"{self.title}, {self.unit}"

    @property
    def heading_beside_paper(self) -> str:
        """Of a column that has the paper's number in brackets: ``Params, M (paper)``."""
        return f"{self.heading} (paper)" if self.printed_in_paper else self.heading

    @property
    def heading_in_paper(self) -> str:
        """Of a column in the paper's own layout: ``Params (M)``."""
        return f"{self.paper_title or self.title} ({self.unit})"

    @property
    def of_runs(self) -> bool:
        """Whether trained runs stand behind it."""
        return self.source in ("scores", "gain", "record")


_DECLARED = (
    Metric(
        name="miou",
        title="mIoU",
        unit="%",
        long_title="mIoU",
        meaning="over the classes that occur, single scale",
        why="percent",
        source="scores",
        judged="points",
    ),
    Metric(
        name="gain",
        title="Gain",
        unit="points",
        long_title="Gain",
        meaning="in mIoU over the row's baseline",
        why="percent points of mIoU",
        source="gain",
        judged="interval",
        column=False,  # stands beside every mIoU
    ),
    Metric(
        name="params_m",
        title="Params",
        unit="M",
        long_title="Parameters",
        meaning="of the paper-size network, in millions",
        why="million parameters",
        source="count",
        judged="digits",
        field="params_m",
    ),
    Metric(
        name="macs_g",
        title="MACs",
        unit="G",
        long_title="MACs",
        meaning="of the paper-size network, counted as the paper counts",
        why="1e9 multiply-accumulates, as the paper counts them",
        source="count",
        judged="digits",
        field="macs_g",
        paper_title="FLOPs",  # as the paper calls its multiply-accumulates
    ),
    Metric(
        name="macs_all_g",
        title="All MACs",
        unit="G",
        long_title="All MACs",
        meaning="of every product, modules and functions",
        why="1e9 multiply-accumulates, every matrix product",
        source="count",
        judged="digits",
        field="macs_all_g",
        paper_title="All products",
        printed_in_paper=False,
    ),
    Metric(
        name="latency_ms",
        title="Latency",
        unit="ms",
        long_title="Latency",
        meaning="of the paper-size network on the paper’s V100",
        why="milliseconds",
        source="bench",
        judged="ratio",
    ),
    Metric(
        name="train_ms",
        title="Step",
        unit="ms",
        long_title="Training step",
        meaning="of one run, data included; median over its steps and over the runs",
        why="milliseconds of one training step, data included",
        source="record",
        judged="never",
        field="timings.iteration_ms",
        digits=1,
        printed_in_paper=False,
        always_exported=False,
    ),
    Metric(
        name="miou_frequent",
        title="Frequent mIoU",
        unit="%",
        long_title="mIoU, frequent classes",
        meaning="over those that at least 20 pictures of the data set show; median over the runs",
        why="percent, over the classes that at least 20 pictures of the data set show",
        source="record",
        judged="never",
        field="miou_frequent",
        printed_in_paper=False,
        always_exported=False,
        where_measured=True,  # a long-tailed data set has it, the others have not
    ),
)

#: name → metric, in the order in which the command line names them
METRICS: Mapping[str, Metric] = MappingProxyType({metric.name: metric for metric in _DECLARED})


def check_column(name: str) -> str:
    """``name`` if a table may have such a column; ValueError if not."""
    columns = [metric.name for metric in METRICS.values() if metric.column]
    if name not in columns:
        near = difflib.get_close_matches(name, columns, n=1)
        hint = f"; did you mean {near[0]}?" if near else ";"
        raise ValueError(f"no column is called '{name}'{hint} there are {', '.join(columns)}")
    return name


#: the name of a metric that can be a column
ColumnName = Annotated[str, AfterValidator(check_column)]


def value_at(holder: object, field: str) -> float | None:
    """The number at a dotted path of attributes; None where a part of the path is None."""
    for part in field.split("."):
        holder = getattr(holder, part, None)
    return None if holder is None else float(holder)  # type: ignore[arg-type]
