"""How much of the paper a folder of results covers, counted from the report's own rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from analysis.report.data import ProfileView, RowView, TableView
from experiments.declare.metrics import METRICS


@dataclass(frozen=True)
class Rows:
    """Numbers of rows in each state."""

    tables: int
    rows: int
    measured: int
    partial: int
    stale: int
    missing: int
    failed: int
    blocked: int

    @property
    def with_records(self) -> int:
        """Rows with at least one record."""
        return self.measured + self.partial + self.stale


@dataclass(frozen=True)
class Numbers:
    """Verdicts on printed complexity numbers."""

    printed: int
    reproduced: int
    different: int


@dataclass(frozen=True)
class Coverage:
    """One profile's page in numbers."""

    paper: Rows
    studies: Rows
    stale: int  # rows, of paper and studies
    complexity: Numbers
    miou_compared: int  # rows whose mIoU has a verdict against the paper's
    miou_reproduced: int


def coverage_of(profile: ProfileView) -> Coverage:
    """Count one profile."""
    paper = [table for table in profile.tables if table.of_paper]
    studies = [table for table in profile.tables if not table.of_paper]
    rows = [row for table in paper for row in table.rows]
    compared = Counter(row.versus_paper.word for row in rows)
    reproduced = compared["reproduced"] + compared["within noise"]
    in_paper, in_studies = count_rows(paper), count_rows(studies)
    return Coverage(
        paper=in_paper,
        studies=in_studies,
        stale=in_paper.stale + in_studies.stale,
        complexity=count_numbers(rows),
        miou_compared=reproduced + compared["above"] + compared["below"],
        miou_reproduced=reproduced,
    )


def count_rows(tables: Iterable[TableView]) -> Rows:
    """Rows of some tables by their state."""
    tables = list(tables)
    states = Counter(row.state for table in tables for row in table.rows)
    return Rows(
        tables=len(tables),
        rows=states.total(),
        measured=states["measured"],
        partial=states["partial"],
        stale=states["stale"],
        missing=states["missing"],
        failed=states["failed"],
        blocked=states["blocked"],
    )


def count_numbers(rows: Iterable[RowView]) -> Numbers:
    """Printed parameters and MACs and what our counts say; latency is not a count."""
    words = Counter(
        cell.verdict.word
        for row in rows
        for metric, cell in row.counts.items()
        if METRICS[metric].source == "count" and cell.reported is not None
    )
    return Numbers(words.total(), words["reproduced"], words["different"])
