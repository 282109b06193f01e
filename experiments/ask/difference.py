"""How two results folders differ: runs, scores, and the cells of their exported tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from experiments.declare.network import check_size
from experiments.errors import CorruptRecordError, SsaError
from experiments.judge.comparability import comparable
from experiments.nested import ABSENT, Difference, differences, flat_differences, flatten
from experiments.store.exports import read_table
from experiments.store.records import Record
from experiments.store.store import Store

EQUAL, DIFFERENT, LACKING = 0, 1, 3
SHOWN = 12  # lines of one kind that are printed
#: of an exported row: where it was made, not what it says
ORIGIN = ("run_ids", "stale", "absent", "runs")


class NoResultsError(SsaError):
    """A folder that holds no results."""


@dataclass(frozen=True)
class RunDifference:
    """A run that both folders have, with another result."""

    run_id: str
    scores: tuple[Difference, ...]  # miou, aacc, macc in percent; empty: only curve or areas
    environment: tuple[Difference, ...]  # machine, packages, modules of ours
    incomparable: str | None = None  # why the scores say nothing of each other
    spec: tuple[Difference, ...] = ()  # where a run of the same name was asked for otherwise


@dataclass(frozen=True)
class CellDifference:
    """A cell of an exported table that reads differently."""

    table: str  # stem of the file
    row: str
    column: str
    first: Any
    second: Any


@dataclass(frozen=True)
class FolderDifference:
    """All in which two results folders differ."""

    only_first: tuple[str, ...]  # run ids
    only_second: tuple[str, ...]
    equal: tuple[str, ...]
    different: tuple[RunDifference, ...]
    respecified: tuple[tuple[str, str, tuple[Difference, ...]], ...]  # id here, id there, fields
    damaged: tuple[str, ...]  # sentences
    tables_first: tuple[str, ...]  # exported only there
    tables_second: tuple[str, ...]
    cells: tuple[CellDifference, ...]

    @property
    def exit_code(self) -> int:
        """0: nothing differs; 1: something does; 3: equal where both have it, but one has more."""
        if self.different or self.cells or self.damaged:
            return DIFFERENT
        lacking = (self.only_first, self.only_second, self.tables_first, self.tables_second)
        return LACKING if any(lacking) else EQUAL


def difference(first: Path, second: Path) -> FolderDifference:
    """Compare two results folders run by run and cell by cell.

    Args:
        first: a results folder, with ``runs/`` or ``tables/``.
        second: another.

    Raises:
        NoResultsError: one of them is none.
    """
    stores = (_store(first), _store(second))
    here, there = (set(store.run_ids()) for store in stores)
    damaged: list[str] = []
    equal, different = [], []
    for run_id in sorted(here & there):
        records = [_read(store, run_id, damaged) for store in stores]
        if None in records:
            continue
        a, b = records
        assert a is not None
        assert b is not None
        if a.result_digest == b.result_digest:
            equal.append(run_id)
        else:
            different.append(_run_difference(a, b, stores))
    cells, tables_first, tables_second = _tables(first, second)
    return FolderDifference(
        only_first=tuple(sorted(here - there)),
        only_second=tuple(sorted(there - here)),
        equal=tuple(equal),
        different=tuple(different),
        respecified=tuple(_respecified(stores, here - there, there - here)),
        damaged=tuple(damaged),
        tables_first=tables_first,
        tables_second=tables_second,
        cells=cells,
    )


def _store(folder: Path) -> Store:
    if not (folder / "runs").is_dir() and not (folder / "tables").is_dir():
        raise NoResultsError(
            f"{folder} holds no results: it has neither runs/ nor tables/. Name a folder that was "
            "given as --results."
        )
    return Store(folder)


def _read(store: Store, run_id: str, damaged: list[str]) -> Record | None:
    try:
        return store.read(run_id)
    except CorruptRecordError as error:
        damaged.append(str(error))
        return None


def _run_difference(first: Record, second: Record, stores: tuple[Store, Store]) -> RunDifference:
    names = [store.read_areas(first.run_id).names for store in stores]
    reason = comparable(first, second)
    if reason is None and names[0] != names[1]:
        reason = "the images that were scored have other names"
    return RunDifference(
        run_id=first.run_id,
        scores=differences(first.scores.model_dump(), second.scores.model_dump()),
        environment=differences(first.environment.model_dump(), second.environment.model_dump()),
        incomparable=reason,
        spec=differences(first.spec.model_dump(mode="json"), second.spec.model_dump(mode="json")),
    )


def _respecified(
    stores: tuple[Store, Store], here: set[str], there: set[str]
) -> Sequence[tuple[str, str, tuple[Difference, ...]]]:
    """Runs of one name but for the digest: the nearest partner of each, and the fields."""
    found = []
    by_name: dict[str, list[str]] = {}
    for run_id in sorted(there):
        by_name.setdefault(run_id.rpartition("-")[0], []).append(run_id)
    for run_id in sorted(here):
        candidates = by_name.get(run_id.rpartition("-")[0], [])
        own = _flat_spec(stores[0], run_id)
        partners = [
            (len(fields), partner, fields)
            for partner in candidates
            for fields in [flat_differences(own, _flat_spec(stores[1], partner))]
        ]
        if partners:
            _, partner, fields = min(partners, key=lambda each: each[:2])
            found.append((run_id, partner, fields))
    return found


def _flat_spec(store: Store, run_id: str) -> Mapping[str, Any]:
    document = store.peek(run_id) or {}
    spec = document.get("spec")
    return flatten(spec) if isinstance(spec, dict) else {}


def _tables(
    first: Path, second: Path
) -> tuple[tuple[CellDifference, ...], tuple[str, ...], tuple[str, ...]]:
    here, there = _exports(first), _exports(second)
    cells = [
        CellDifference(name, row, each.field, each.first, each.second)
        for name in sorted(here.keys() & there.keys())
        for row in _rows(here[name], there[name])
        for each in flat_differences(here[name].get(row, {}), there[name].get(row, {}))
    ]
    only = [tuple(sorted(a.keys() - b.keys())) for a, b in ((here, there), (there, here))]
    return tuple(cells), only[0], only[1]


def _rows(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys([*first, *second]))


def _exports(folder: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """File stem → row id → column → value, of every exported table."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for path in sorted((folder / "tables").glob("*.json")):
        rows = _exported_rows(path)
        if rows is not None:
            found[path.stem] = rows
    return found


def _exported_rows(path: Path) -> dict[str, dict[str, Any]] | None:
    """Row id → column → value; None: not a table of ours."""
    try:
        rows = read_table(path)["rows"]
        return {
            str(row["row"]): check_size({key: row[key] for key in row if key not in ORIGIN})
            for row in rows
        }
    except (OSError, ValueError, KeyError, TypeError):
        return None


def show_difference(console: Console, found: FolderDifference, first: Path, second: Path) -> None:
    """Print in what two folders differ."""
    console.print(escape(f"A: {first}"), escape(f"B: {second}"), sep="\n", soft_wrap=True)
    console.print(
        f"Runs: {len(found.equal)} with the same result, {len(found.different)} with another, "
        f"{len(found.only_first)} only in A, {len(found.only_second)} only in B."
    )
    for name, ids in (("A", found.only_first), ("B", found.only_second)):
        _show_some(console, f"only in {name}", ids)
    _show_some(console, "damaged", found.damaged)
    for run in found.different:
        what = "other results"
        if run.incomparable:
            what = f"results that cannot be compared, {run.incomparable}"
        _show_fields(console, run.run_id, what, (*run.scores, *run.spec, *run.environment))
    for here, there, fields in found.respecified:
        _show_fields(console, f"{here} and {there}", "asked for otherwise", fields)
    _show_some(console, "table only in A", found.tables_first)
    _show_some(console, "table only in B", found.tables_second)
    if found.cells:
        table = RichTable(title=f"{len(found.cells)} cells of tables read differently")
        for name in ("Table", "Row", "Column", "A", "B"):
            table.add_column(name, overflow="fold")
        for cell in found.cells[: 4 * SHOWN]:
            values = (cell.table, cell.row, cell.column, cell.first, cell.second)
            table.add_row(*(escape(str(value)) for value in values))
        console.print(table)
        if len(found.cells) > 4 * SHOWN:
            console.print(f"… and {len(found.cells) - 4 * SHOWN} more.")
    if found.exit_code == EQUAL:
        console.print("Nothing differs.")


def _show_some(console: Console, what: str, names: Sequence[str]) -> None:
    for name in names[:SHOWN]:
        console.print(escape(f"  {what}: {name}"), soft_wrap=True)
    if len(names) > SHOWN:
        console.print(f"  … and {len(names) - SHOWN} more.")


def _show_fields(console: Console, title: str, what: str, fields: Sequence[Difference]) -> None:
    console.print(escape(f"  {what}: {title}"), soft_wrap=True)
    for each in fields[:SHOWN]:
        first, second = (_short(value) for value in (each.first, each.second))
        console.print(escape(f"    {each.field}: {first} | {second}"), soft_wrap=True)
    if len(fields) > SHOWN:
        console.print(f"    … and {len(fields) - SHOWN} more.")
    if not fields:
        console.print("    scores and environment are equal; the curve or the areas differ")


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 24 or value == ABSENT else f"{text[:21]}…"
