"""A table in the paper's own columns, ours above and what the paper reports below, in italics."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from experiments.declare.metrics import METRICS
from experiments.declare.table import Layout
from experiments.judge.assemble import RowResult, TableResult
from experiments.judge.ranking import Mark, marks
from experiments.plan.resolve import resolve_classifier
from experiments.show.text import MISSING, Cell, Section, with_arrow

REPORTED = "reported"  # stands where the label stands, on the lines that are the paper's
LEGEND = (
    "In the paper's own columns: upright, what we measured and counted; in italics, on the lines "
    f"“{REPORTED}”, the paper's own numbers. Headings name the paper's data sets; FLOPs are "
    "multiply-accumulates."
)


@dataclass(frozen=True)
class PaperTable:
    """A table laid out as the paper prints it."""

    spans: tuple[tuple[str, int], ...]  # headings over several columns
    columns: tuple[str, ...]
    alignment: str
    rows: tuple[tuple[Cell, ...] | Section, ...]

    @property
    def flat_columns(self) -> list[str]:
        """One heading a column, for formats that know no spans."""
        above = [title for title, width in self.spans for _ in range(width)]
        return [f"{over} {name}".strip() for over, name in zip(above, self.columns)]


@dataclass(frozen=True)
class _Line:
    """The rows that share a line: one network and label, each on another data set."""

    label: str
    rows: dict[str, RowResult]  # data set → row

    @property
    def first(self) -> RowResult:
        return next(iter(self.rows.values()))


def layout_of(result: TableResult) -> Layout:
    """The declared layout; else the label and the table's columns, by data set if several."""
    table = result.table
    if table.layout is not None:
        return table.layout
    datasets = list(dict.fromkeys(row.paper_dataset for row in result.rows))
    if len(datasets) == 1:
        return Layout(columns=table.columns)
    return Layout(columns=tuple(f"{name}.{m}" for name in datasets for m in table.columns))


def lay_out(result: TableResult, notes: dict[str, tuple[int, ...]]) -> PaperTable:
    """Put a table into the paper's columns.

    Args:
        result: the assembled table.
        notes: row id → numbers of its footnotes.
    """
    layout = layout_of(result)
    stubs = [*(layout.switches or [layout.heading]), *(["Backbone"] if layout.backbone else [])]
    split = [column.rpartition(".") for column in layout.columns]
    spans: list[tuple[str, int]] = [("", len(stubs))]
    for name, _, _ in split:
        title = _title(name) if name else ""
        if spans[-1][0] == title:
            spans[-1] = (title, spans[-1][1] + 1)
        else:
            spans.append((title, 1))
    metrics = [(name, metric) for name, _, metric in split]
    return PaperTable(
        spans=tuple(spans),
        columns=(*stubs, *(METRICS[metric].heading_in_paper for _, metric in metrics)),
        alignment="l" * len(stubs) + "r" * len(metrics),
        rows=tuple(_rows(result, layout, metrics, notes)),
    )


def _title(dataset: str) -> str:
    from ssa.datasets import DATASETS

    return DATASETS[dataset].title if dataset in DATASETS else dataset


def _lines(result: TableResult) -> list[_Line]:
    lines: dict[tuple[str, str, str], _Line] = {}
    for row in result.rows:
        key = (row.row.label, row.model, row.backbone)
        line = lines.setdefault(key, _Line(row.row.label, {}))
        if row.paper_dataset in line.rows:  # a label that stands twice: a line of its own
            line = lines.setdefault((*key[:2], row.row.id), _Line(row.row.label, {}))
        line.rows[row.paper_dataset] = row
    return list(lines.values())


def _rows(
    result: TableResult,
    layout: Layout,
    metrics: list[tuple[str, str]],
    notes: dict[str, tuple[int, ...]],
) -> Iterator[tuple[Cell, ...] | Section]:
    ranked, digits = marks(result), miou_digits(result)
    group: str | None = None
    for line in _lines(result):
        own = line.first.row.group
        if own is not None and own != group:
            # a group named like its first line needs no heading of its own
            yield Section("" if own == line.label else own[:1].upper() + own[1:])
        group = own
        numbers = sorted({n for row in line.rows.values() for n in notes.get(row.row.id, ())})
        stub = _stub(line, layout)
        yield (
            Cell(stub[0], notes=tuple(numbers)),
            *map(Cell, stub[1:]),
            *(_measured(result, line, name, m, ranked, digits) for name, m in metrics),
        )
        printed = [_reported(line, name, metric, digits) for name, metric in metrics]
        if any(cell.text != MISSING for cell in printed):
            blank = [Cell("")] * (len(stub) - 1)
            yield (Cell(REPORTED, italic=True), *blank, *printed)


def _stub(line: _Line, layout: Layout) -> list[str]:
    backbone = [line.first.backbone] if layout.backbone else []
    if not layout.switches:
        return [line.label, *backbone]
    switches = resolve_classifier(line.first.row)["overrides"]
    return [f"{switches[name]:g}" for name in layout.switches.values()] + backbone


def miou_digits(result: TableResult) -> int:
    """Decimals of mIoU in the paper's table; 2 where it prints none."""
    printed = [row.row.reported.miou for row in result.rows if row.row.reported.miou is not None]
    return max((len(repr(value).partition(".")[2]) for value in printed), default=2)


def _row(line: _Line, dataset: str) -> RowResult | None:
    return line.rows.get(dataset) if dataset else line.first


def _measured(
    result: TableResult,
    line: _Line,
    dataset: str,
    metric: str,
    ranked: dict[str, Mark],
    digits: int,
) -> Cell:
    row = _row(line, dataset)
    if row is None:
        return Cell(MISSING)
    if metric != "miou":
        value = row.counts[metric].measured
        return Cell(MISSING if value is None else f"{value:.{METRICS[metric].paper_digits}f}")
    if row.miou is None:
        return Cell(MISSING)
    gain = f" ({_signed(row.gain.value, digits)})" if row.gain else ""
    return Cell(f"{row.miou.median:.{digits}f}", gain, ranked.get(row.row.id, ""))


def _reported(line: _Line, dataset: str, metric: str, digits: int) -> Cell:
    row = _row(line, dataset)
    value: Any = getattr(row.row.reported, metric, None) if row else None
    if row is None or value is None:
        return Cell(MISSING, italic=True)
    if metric != "miou":
        return Cell(f"{value:.{METRICS[metric].paper_digits}f}", italic=True)
    gain = row.row.reported.gain
    rest = f" ({_signed(gain, digits)})" if gain is not None else ""
    return Cell(f"{value:.{digits}f}", rest, italic=True)


def _signed(value: float, digits: int) -> str:
    return with_arrow(f"{value:+.{digits}f}".replace("-", "−"))
