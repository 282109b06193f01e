"""The complexity columns of a table: counted and printed side by side, with every difference."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.declare.metrics import METRICS
from experiments.declare.table import Row, Table
from experiments.files import strict_json, write_atomically
from experiments.judge.counts import Count, CountCell, Counter, count_cells
from experiments.show.text import MISSING, latex_table, markdown_table
from experiments.store.exports import table_stem

if TYPE_CHECKING:
    import pandas as pd

#: what the paper prints and we count
COUNTED = tuple(m.name for m in METRICS.values() if m.source == "count" and m.printed_in_paper)


@dataclass(frozen=True)
class CountRow:
    """One row's network and what it costs more than its baseline's."""

    row: Row
    dataset: str
    count: Count
    cells: dict[str, CountCell]
    added_params_m: float | None
    added_macs_g: float | None


@dataclass(frozen=True)
class CountTable:
    """The counts of a table's rows."""

    table: Table
    rows: tuple[CountRow, ...]

    def summary(self) -> str:
        """How many printed numbers are reproduced, in a sentence."""
        cells = [row.cells[m] for row in self.rows for m in COUNTED]
        printed = [cell for cell in cells if cell.reported is not None]
        equal = sum(cell.verdict.reason == "equal to the printed digit" for cell in printed)
        near = sum(cell.verdict.word == "reproduced" for cell in printed) - equal
        return (
            f"{len(printed)} printed numbers: {equal} equal to the digit, {near} within 2 %, "
            f"{len(printed) - equal - near} different."
        )


def count_table(table: Table, counter: Counter) -> CountTable:
    """Count every row of a table at the paper's size.

    Raises:
        SsaError: a network cannot be built.
    """
    counts = {row.id: counter.count(table, row) for row in table.rows}
    rows = []
    for row in table.rows:
        count, base = counts[row.id], table.baseline_of(row)
        # only the same network with another classifier or head says what the method adds
        comparable = base.id != row.id and base.model == row.model
        against = counts[base.id]
        rows.append(
            CountRow(
                row=row,
                dataset=str(row.dataset or table.dataset),
                count=count,
                cells=count_cells(row, count),
                added_params_m=count.params_m - against.params_m if comparable else None,
                added_macs_g=count.macs_g - against.macs_g if comparable else None,
            )
        )
    return CountTable(table, tuple(rows))


def count_columns() -> list[str]:
    """Headings."""
    return [
        "Method",
        "Data set",
        *(text for name in COUNTED for text in (METRICS[name].heading, "paper", "verdict")),
        "every product, G",
        "adds, M / G",
    ]


def count_rows(result: CountTable) -> list[list[str]]:
    """Cells as text."""
    notes = count_notes(result)
    texts = []
    for row in result.rows:
        marks = "".join(f"[{number}]" for number, _, ids in notes if row.row.id in ids)
        cells = [f"{row.row.label}{marks}", row.dataset]
        for metric in COUNTED:
            cell = row.cells[metric]
            cells += [
                f"{cell.measured:.3f}" if cell.measured is not None else MISSING,
                f"{cell.reported:.{METRICS[metric].paper_digits}f}"
                if cell.reported is not None
                else MISSING,
                _short(cell),
            ]
        cells.append(f"{row.count.macs_all_g:.3f}")
        if row.added_params_m is None or row.added_macs_g is None:
            cells.append(MISSING)
        else:
            cells.append(f"{row.added_params_m:+.3f} / {row.added_macs_g:+.3f}")
        texts.append(cells)
    return texts


def _short(cell: CountCell) -> str:
    if cell.verdict.reason == "equal to the printed digit":
        return "equal"
    if cell.measured is None or not cell.reported:
        return MISSING
    if cell.verdict.word == "different":
        return "different"
    return f"{(cell.measured / cell.reported - 1) * 100:+.2f} %".replace("-", "−")


def count_notes(result: CountTable) -> list[tuple[int, str, frozenset[str]]]:
    """Numbered notes on how a row was read and why a number differs."""
    texts: dict[str, set[str]] = {}
    paper = result.table.paper
    adapted = {row.row.id for row in result.rows if row.row.classifier.name == paper.method}
    if adapted and paper.macs_note:
        texts[paper.macs_note] = adapted
    for row in result.rows:
        notes = [row.row.reading, *row.row.notes.values()]
        for text in filter(None, notes):
            texts.setdefault(" ".join(text.split()), set()).add(row.row.id)
    return [(n, text, frozenset(ids)) for n, (text, ids) in enumerate(texts.items(), start=1)]


def count_frame(result: CountTable) -> pd.DataFrame:
    """One line a row: raw counts, the paper's numbers, differences and verdicts."""
    lines = []
    for row in result.rows:
        line: dict[str, object] = {
            "table": result.table.name,
            "row": row.row.id,
            "label": row.row.label,
            "dataset": row.dataset,
            "num_classes": row.count.num_classes,
            "size_px": row.count.size,
        }
        for metric in COUNTED:
            cell = row.cells[metric]
            line[metric] = cell.measured
            line[f"reported_{metric}"] = cell.reported
            line[f"difference_{metric}"] = (
                None
                if cell.measured is None or cell.reported is None
                else cell.measured - cell.reported
            )
            line[f"verdict_{metric}"] = cell.verdict.word
            line[f"verdict_{metric}_reason"] = cell.note or cell.verdict.reason
        line["macs_all_g"] = row.count.macs_all_g
        line["added_params_m"] = row.added_params_m
        line["added_macs_g"] = row.added_macs_g
        lines.append(line)
    import pandas as pd  # a third of a second that printing need not wait for

    return pd.DataFrame(lines)


def export_counts(result: CountTable, folder: Path) -> Sequence[Path]:
    """Write ``<table>-complexity.{csv,md,tex,json}`` and return the paths.

    Raises:
        StoreError: the disk is full or may not be written.
    """
    stem = f"{table_stem(result.table.name)}-complexity"
    heading = f"{result.table.title}: parameters and multiply-accumulates. {result.summary()}"
    notes = [(number, text) for number, text, _ in count_notes(result)]
    frame = count_frame(result)
    columns, rows = count_columns(), count_rows(result)
    alignment = "ll" + "r" * 8
    documents = {
        "csv": frame.to_csv(index=False, lineterminator="\n"),
        "md": markdown_table(result.table.source, heading, columns, rows, alignment, notes),
        "tex": latex_table(stem, heading, columns, rows, alignment, notes),
        "json": strict_json(
            {
                "table": result.table.name,
                "source": result.table.source,
                "rows": json.loads(frame.to_json(orient="records", double_precision=15)),
            },
            f"{stem}.json",
            indent=1,
            ensure_ascii=False,
        )
        + "\n",
    }
    for suffix, text in documents.items():
        write_atomically(folder / f"{stem}.{suffix}", text)
    return [folder / f"{stem}.{suffix}" for suffix in documents]
