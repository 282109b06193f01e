"""How much of the paper there is: cells reported, measured, blocked and stale, table by table."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from experiments.ask.why import latencies
from experiments.declare.registry import STUDY, ExperimentRegistry
from experiments.files import strict_json
from experiments.judge.assemble import TableResult, assemble
from experiments.judge.counts import count_cells
from experiments.judge.tables import counter_of
from experiments.plan.request import Request, without_weights
from experiments.plan.resolve import Resolver
from experiments.plan.stored_rows import StoredRows
from experiments.show.count_table import COUNTED
from experiments.store.store import Store


@dataclass(frozen=True)
class TableCoverage:
    """What there is of one table; numbers of cells."""

    name: str
    kind: str  # "paper", "study" or "own"
    rows: int = 0
    reported: int = 0  # mIoU that the paper prints
    measured: int = 0  # mIoU of at least one seed, in this profile
    complete: int = 0  # … of every seed asked for
    any_profile: int = 0  # mIoU of at least one stored run, in whichever profile
    shipped: int = 0  # … of a run that the project ships, in whichever profile
    blocked: int = 0  # rows that cannot be run here in this profile
    stale: int = 0  # measured by code that has changed since
    counts_reported: int = 0  # parameters and MACs that the paper prints
    counts_measured: int = 0  # of these, counted by us
    latency_reported: int = 0
    latency_measured: int = 0  # as a ratio, on any device
    #: word → number, of the printed mIoU against this profile
    verdicts: Mapping[str, int] = field(default_factory=dict)
    #: word → number, of the printed parameters and MACs
    count_verdicts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Coverage:
    """What there is of everything."""

    profile: str
    seeds: tuple[int, ...]
    results: Path
    tables: tuple[TableCoverage, ...]

    def total(self, kind: str) -> TableCoverage:
        """The sum over the tables of one kind."""
        chosen = [table for table in self.tables if table.kind == kind]
        sums: dict[str, Any] = {}
        for each in fields(TableCoverage):
            values = [getattr(table, each.name) for table in chosen]
            if each.name in ("verdicts", "count_verdicts"):
                sums[each.name] = dict(sum((Tally(value) for value in values), Tally()))
            elif each.name not in ("name", "kind"):
                sums[each.name] = sum(values)
        return TableCoverage("all", kind, **sums)


def coverage(request: Request) -> Coverage:
    """Look at every table of the registry; nothing is trained and nothing is counted."""
    items = request.registry.paper.items
    order = {name: place for place, name in enumerate(items)}
    tables = sorted(
        request.registry.tables.values(),
        key=lambda table: (order.get(table.name, len(items)), table.name),
    )
    plan = request.plan(tables)
    stored = runs_of_rows(request.resolver, request.store)
    shipped = runs_of_rows(request.resolver, request.reference) if request.reference else stored
    made = []
    for planned in plan.tables:
        result = assemble(planned, request.store, request.reference, gains=False)
        made.append(_of_table(request, result, stored, shipped))
    return Coverage(request.profile.name, request.seeds, request.workspace.results, tuple(made))


def kind_of(name: str, registry: ExperimentRegistry) -> str:
    """Whether a table is the paper's, a study of ours, or the user's own."""
    if name in registry.paper.items:
        return "paper"
    return "study" if name.startswith(STUDY) else "own"


def _of_table(
    request: Request,
    result: TableResult,
    stored: Mapping[tuple[str, str], int],
    shipped: Mapping[tuple[str, str], int],
) -> TableCoverage:
    table, rows = result.table, result.rows
    printed = [row for row in rows if row.row.reported.miou is not None]
    cells = [
        cell
        for row in rows
        for metric, cell in count_cells(row.row, counter_of(request).known(table, row.row)).items()
        if metric in COUNTED and cell.reported is not None
    ]
    timed = [row.row for row in rows if row.row.reported.latency_ms is not None]
    return TableCoverage(
        name=table.name,
        kind=kind_of(table.name, request.registry),
        rows=len(rows),
        reported=len(printed),
        measured=sum(row.miou is not None for row in rows),
        complete=sum(row.complete for row in rows),
        any_profile=sum((table.name, row.row.id) in stored for row in rows),
        shipped=sum((table.name, row.row.id) in shipped for row in rows),
        blocked=sum(row.blocked for row in rows),
        stale=sum(bool(row.stale) for row in rows),
        counts_reported=len(cells),
        counts_measured=sum(cell.measured is not None for cell in cells),
        latency_reported=len(timed),
        latency_measured=sum(
            any(True for _ in latencies(request, row, str(row.model or table.model)))
            for row in timed
        ),
        verdicts=_sorted(row.versus_paper.word for row in printed),
        count_verdicts=_sorted(cell.verdict.word for cell in cells),
    )


def _sorted(words: Any) -> dict[str, int]:
    return dict(sorted(Tally(words).items()))


def runs_of_rows(resolver: Resolver, store: Store) -> dict[tuple[str, str], int]:
    """(table, row id) → stored runs of it in any profile of the registry and with any seed.

    The data need not be here: what a run saw is taken from the records themselves.
    """
    stored, registry = StoredRows([store]), resolver.registry
    found: Tally[tuple[str, str]] = Tally()
    for own in _resolvers(resolver, stored.profiles):
        for table in registry.tables.values():
            for row in table.rows:
                for each in table.at_its_rates(row):
                    if (draft := own.draft(table, each)) and (runs := stored.runs(draft)):
                        found[table.name, row.id] += len(runs)
    return found


def _resolvers(resolver: Resolver, names: Collection[str]) -> Iterator[Resolver]:
    """Resolvers of the profiles of these names, with pretrained weights and without."""
    for name, profile in resolver.registry.profiles.items():
        if name in names:
            yield replace(resolver, profile=profile, deviations=())
            without, deviations = without_weights(profile)
            if deviations:
                yield replace(resolver, profile=without, deviations=deviations)


def to_json(found: Coverage) -> str:
    """Everything as JSON; the sums stand beside the tables."""
    kinds = dict.fromkeys(table.kind for table in found.tables)
    document = {
        "profile": found.profile,
        "seeds": list(found.seeds),
        "results": str(found.results),
        "tables": [asdict(table) for table in found.tables],
        "totals": {kind: asdict(found.total(kind)) for kind in kinds},
    }
    return strict_json(document, "The coverage", indent=1, ensure_ascii=False)


HEADINGS = (
    "Item",
    "Rows",
    "mIoU printed",
    "measured",
    "every seed",
    "any profile",
    "shipped",
    "blocked",
    "stale",
    "Params, MACs",
    "Latency",
    "Verdicts on mIoU",
    "on params, MACs",
)
TITLES = {"paper": "The paper", "study": "Studies of ours", "own": "Yours"}


def show_coverage(console: Console, found: Coverage) -> None:
    """Print one line a table and the sums."""
    seeds = len(found.seeds)
    table = RichTable(
        title=escape(f"Profile {found.profile}, {seeds} seed{'' if seeds == 1 else 's'}"),
        caption=(
            "Params, MACs: counted / printed. Latency: measured as a ratio / printed. "
            "every seed: rows with all seeds asked for."
        ),
    )
    for index, name in enumerate(HEADINGS):
        table.add_column(name, justify="left" if index in (0, 11, 12) else "right")
    for kind, title in TITLES.items():
        lines = [each for each in found.tables if each.kind == kind]
        for each in lines:
            table.add_row(*_cells(each, each.name))
        if lines:
            table.add_section()
            table.add_row(*_cells(found.total(kind), title), style="bold")
            table.add_section()
    console.print(table)


def _cells(each: TableCoverage, name: str) -> list[str]:
    numbers = (
        *(each.rows, each.reported, each.measured, each.complete, each.any_profile),
        *(each.shipped, each.blocked, each.stale),
    )
    return [
        escape(name),
        *map(str, numbers),
        f"{each.counts_measured} / {each.counts_reported}" if each.counts_reported else "",
        f"{each.latency_measured} / {each.latency_reported}" if each.latency_reported else "",
        ", ".join(f"{number} {word}" for word, number in each.verdicts.items()),
        ", ".join(f"{number} {word}" for word, number in each.count_verdicts.items()),
    ]
