"""How much of the paper there is: cells reported, measured, blocked and stale, table by table."""

from __future__ import annotations

import json
from collections import Counter as Tally
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from experiments.assemble import TableResult, assemble
from experiments.call import Call, without_weights
from experiments.counts import count_cells
from experiments.data import Located
from experiments.protocol import NoProtocolError, settings_of
from experiments.registry import STUDY, ExperimentRegistry, paper_items
from experiments.resolve import make_spec, resolve_classifier
from experiments.schema import DataChoice, Row, Table
from experiments.store import Store
from experiments.why import latencies

COUNTED = ("params_m", "macs_g")


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


def coverage(call: Call) -> Coverage:
    """Look at every table of the registry; nothing is trained and nothing is counted."""
    tables = list(call.registry.tables.values())
    plan = call.plan(tables)
    stored = runs_of_rows(call.registry, call.store)
    shipped = runs_of_rows(call.registry, call.reference) if call.reference else stored
    made = []
    for table in tables:
        result = assemble(table, plan, call.resolver, call.store, call.reference, None, gains=False)
        made.append(_of_table(call, result, stored, shipped))
    return Coverage(call.profile.name, call.seeds, call.workspace.results, tuple(made))


def kind_of(name: str) -> str:
    """Whether a table is the paper's, a study of ours, or the user's own."""
    if name in paper_items():
        return "paper"
    return "study" if name.startswith(STUDY) else "own"


def _of_table(
    call: Call,
    result: TableResult,
    stored: Mapping[tuple[str, str], int],
    shipped: Mapping[tuple[str, str], int],
) -> TableCoverage:
    table, rows = result.table, result.rows
    printed = [row for row in rows if row.row.reported.miou is not None]
    cells = [
        cell
        for row in rows
        for metric, cell in count_cells(row.row, call.counter.known(table, row.row)).items()
        if metric in COUNTED and cell.reported is not None
    ]
    timed = [row.row for row in rows if row.row.reported.latency_ms is not None]
    return TableCoverage(
        name=table.name,
        kind=kind_of(table.name),
        rows=len(rows),
        reported=len(printed),
        measured=sum(row.miou is not None for row in rows),
        complete=sum(len(row.records) == len(result.seeds) for row in rows),
        any_profile=sum((table.name, row.row.id) in stored for row in rows),
        shipped=sum((table.name, row.row.id) in shipped for row in rows),
        blocked=sum(row.blocked for row in rows),
        stale=sum(bool(row.stale) for row in rows),
        counts_reported=len(cells),
        counts_measured=sum(cell.measured is not None for cell in cells),
        latency_reported=len(timed),
        latency_measured=sum(
            any(True for _ in latencies(call, row, str(row.model or table.model))) for row in timed
        ),
        verdicts=_sorted(row.versus_paper.word for row in printed),
        count_verdicts=_sorted(cell.verdict.word for cell in cells),
    )


def _sorted(words: Any) -> dict[str, int]:
    return dict(sorted(Tally(words).items()))


def runs_of_rows(registry: ExperimentRegistry, store: Store) -> dict[tuple[str, str], int]:
    """(table, row id) → stored runs of it in any profile of the registry and with any seed.

    The data need not be here: what a run saw is taken from the records themselves.
    """
    there = set(store.run_ids())
    surroundings: dict[str, tuple[dict[str, Any], set[int]]] = {}
    for run_id in there:
        document = store.peek(run_id) or {}
        spec = document.get("spec")
        if not isinstance(spec, dict):
            continue
        around = {name: spec.get(name) for name in _AROUND}
        key = json.dumps(around, sort_keys=True)
        surroundings.setdefault(key, (around, set()))[1].add(int(spec.get("seed", 0)))
    found: dict[tuple[str, str], int] = {}
    for around, seeds in surroundings.values():
        for table in registry.tables.values():
            for row in table.rows:
                runs = there & set(_run_ids(registry, table, row, around, seeds))
                if runs:
                    found[table.name, row.id] = found.get((table.name, row.id), 0) + len(runs)
    return found


#: fields of a spec that come from the surroundings of a run and not from its row
_AROUND = (
    *("profile", "dataset", "dataset_digest", "dataset_settings", "working_size", "num_classes"),
    *("model", "weights", "weights_sha256", "deviations"),
)


def _run_ids(
    registry: ExperimentRegistry,
    table: Table,
    row: Row,
    around: Mapping[str, Any],
    seeds: set[int],
) -> Sequence[str]:
    """Identities that a row has in the surroundings of stored runs; none where it does not fit."""
    profile = registry.profiles.get(str(around["profile"]))
    own = str(row.dataset or table.dataset)
    card = registry.model(str(row.model or table.model))
    if profile is None or card.name != around["model"]:
        return ()
    chosen = profile.dataset or DataChoice(name=own)
    settings = {**chosen.settings, **(row.dataset_settings if chosen.name == own else {})}
    if row.dataset_settings and chosen.name != own:
        return ()
    filled = around["dataset_settings"] or {}
    if chosen.name != around["dataset"] or any(filled.get(k) != v for k, v in settings.items()):
        return ()
    size = around["working_size"]
    data = Located(
        name=chosen.name,
        root=Path(),
        digest=str(around["dataset_digest"]),
        settings=dict(filled),
        working_size=(size[0], size[1]) if size else None,
        num_classes=int(around["num_classes"]),
        class_names=(),
    )
    if "from scratch" in " ".join(around["deviations"]):
        profile, _ = without_weights(profile)
    try:
        settings_there = settings_of(registry, profile, card.name, chosen.name)
    except NoProtocolError:
        return ()
    own_deviations = tuple(around["deviations"])[len(settings_there.sentences) :]
    spec = make_spec(
        card,
        classifier=resolve_classifier(row, profile),
        model_overrides=row.model_overrides,
        data=data,
        profile=profile,
        settings=settings_there,
        seed=0,
        weights=around["weights"],
        weights_sha256=around["weights_sha256"],
        deviations=own_deviations,
    )
    return [spec.model_copy(update={"seed": seed}).run_id for seed in seeds]


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
    return json.dumps(document, indent=1, ensure_ascii=False)


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
        for each in sorted(lines, key=lambda each: _order(each.name)):
            table.add_row(*_cells(each, each.name))
        if lines:
            table.add_section()
            table.add_row(*_cells(found.total(kind), title), style="bold")
            table.add_section()
    console.print(table)


def _order(name: str) -> tuple[int, str]:
    items = paper_items()
    return (items.index(name) if name in items else len(items), name)


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
