"""A request resolved once: its rows, and which of their runs there are, are missing or blocked."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Literal

from experiments.declare.model import ModelCard
from experiments.declare.profile import Profile
from experiments.declare.run_spec import RunSpec
from experiments.declare.table import Row, Table
from experiments.errors import CorruptRecordError, StoreError
from experiments.plan.choice import Candidate, choose
from experiments.plan.cost import GpuHours
from experiments.plan.estimate import Kind, Past, filled, makespan
from experiments.plan.resolve import Blocked, Resolver
from experiments.store.folder import RunFolder
from experiments.store.lock import is_locked
from experiments.store.promises import read_promise
from experiments.store.provenance import changed_modules
from experiments.store.records import Record
from experiments.store.resumable import in_words, unlike_checkpoint
from experiments.store.store import Store

State = Literal["cached", "stale", "remade", "missing", "damaged", "running", "blocked"]

#: states in which there is nothing left to run
DONE: frozenset[State] = frozenset({"cached", "stale"})


@dataclass(frozen=True)
class PlannedRun:
    """One run of a plan and where it stands."""

    spec: RunSpec
    state: State
    reason: str  # why it is in that state, for the user
    record: Record | None = None
    expected_s: float | None = None  # of process time, from past records; None: none like it


@dataclass(frozen=True)
class PlannedCell:
    """One row and seed of a table: a run, or why there is none."""

    table: str
    row: str
    seed: int
    run: PlannedRun | None
    reasons: tuple[str, ...] = ()  # everything that keeps it from starting
    draft: RunSpec | None = None  # of a blocked run: all but the digests of what is missing
    gpu_hours: float | None = None  # estimated, where the profile says on what basis
    waits: bool = False  # what it runs is known when other runs of the plan are finished
    later_s: float | None = None  # of a cell that waits: seconds that its run will take

    @property
    def blocked(self) -> str | None:
        """Why there is no run, in one line; None if there is one."""
        return " ".join(self.reasons) or None

    @property
    def spec(self) -> RunSpec | None:
        """What is run, or its draft."""
        return self.run.spec if self.run else self.draft


@dataclass(frozen=True)
class PlannedRow:
    """One row of a table, resolved: all of it that judging needs."""

    row: Row
    card: ModelCard
    dataset: str  # that is trained on
    paper_dataset: str
    baseline: str  # id of the row that its gain is counted over; its own: none
    cells: tuple[PlannedCell, ...]  # a seed each
    shipped: tuple[RunSpec, ...] = ()  # with the profile's own seeds: what the project may ship

    @property
    def finished(self) -> dict[int, PlannedRun]:
        """The runs with a whole record by their seeds."""
        runs = {cell.seed: cell.run for cell in self.cells if cell.run}
        return {seed: run for seed, run in runs.items() if run.state in DONE}

    @property
    def records(self) -> dict[int, Record]:
        """The whole records by their seeds."""
        return {seed: run.record for seed, run in self.finished.items() if run.record}

    @property
    def stale(self) -> tuple[str, ...]:
        """What has changed since records were made, each sentence once."""
        runs = self.finished.values()
        return tuple(sorted({run.reason for run in runs if run.state == "stale"}))

    @property
    def blocked(self) -> bool:
        """Whether a seed cannot be run."""
        return any(cell.run is None for cell in self.cells)

    @property
    def absent(self) -> tuple[str, ...]:
        """Why seeds have no record, one sentence each; what blocks them is said once."""
        reasons: list[str] = []
        for cell in self.cells:
            if cell.run is None:
                reasons = [cell.blocked or ""]
            elif cell.run.state not in DONE:
                reasons.append(f"seed {cell.seed}: {cell.run.reason}")
        return tuple(reasons)

    def with_runs(self, runs: Mapping[str, PlannedRun]) -> PlannedRow:
        """The row with these runs, by their ids, in the place of the same ones before."""
        cells = (
            replace(cell, run=runs.get(cell.run.spec.run_id, cell.run)) if cell.run else cell
            for cell in self.cells
        )
        return replace(self, cells=tuple(cells))


@dataclass(frozen=True)
class PlannedTable:
    """A table with its rows resolved under one profile."""

    table: Table
    profile: Profile
    rows: tuple[PlannedRow, ...]
    sequential: bool = False  # seeds were added while verdicts were looked at (`decide`)

    @property
    def cells(self) -> tuple[PlannedCell, ...]:
        """The cells row by row."""
        return tuple(cell for row in self.rows for cell in row.cells)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that were asked for."""
        return tuple(dict.fromkeys(cell.seed for cell in self.cells))

    def with_seeds(self, seeds: Collection[int]) -> PlannedTable:
        """The table with no other seeds than these."""
        rows = (
            replace(row, cells=tuple(cell for cell in row.cells if cell.seed in seeds))
            for row in self.rows
        )
        return replace(self, rows=tuple(rows))


@dataclass(frozen=True)
class Plan:
    """The tables that were asked for and the distinct runs behind them."""

    tables: tuple[PlannedTable, ...]

    @property
    def cells(self) -> tuple[PlannedCell, ...]:
        """The cells table by table, row by row."""
        return tuple(cell for table in self.tables for cell in table.cells)

    @property
    def runs(self) -> tuple[PlannedRun, ...]:
        """Each run once, in the order of first need."""
        return tuple({c.run.spec.run_id: c.run for c in self.cells if c.run}.values())

    @property
    def to_do(self) -> tuple[PlannedRun, ...]:
        """The runs without a whole record."""
        return tuple(run for run in self.runs if run.state not in DONE)

    @property
    def complete(self) -> bool:
        """Whether every cell has a whole record."""
        return all(cell.run is not None and cell.run.state in DONE for cell in self.cells)

    @property
    def blocked(self) -> tuple[PlannedCell, ...]:
        """The cells that cannot be run."""
        return tuple(cell for cell in self.cells if cell.blocked and not cell.waits)

    @property
    def waiting(self) -> tuple[PlannedCell, ...]:
        """The cells whose runs are known when others are finished; they can be run then."""
        return tuple(cell for cell in self.cells if cell.waits)

    @property
    def gpu_hours(self) -> float | None:
        """Estimated GPU-hours of everything without a record, each run once; None: no basis."""
        open_cells = [c for c in self.cells if c.run is None or c.run.state not in DONE]
        specs = [(c.spec, c.gpu_hours) for c in open_cells]
        hours = {s.run_id: h for s, h in specs if s is not None and h is not None}
        return sum(hours.values()) if hours else None

    def only(self, pattern: str | None) -> Plan:
        """The rows whose id fits a shell pattern (``seaformer-b-*``); None: all."""
        if pattern is None:
            return self
        return self._with_rows(
            lambda rows: [row for row in rows if fnmatchcase(row.row.id, pattern)]
        )

    def after(self, run_ids: Collection[str], store: Store, costs: PastCosts | None = None) -> Plan:
        """The plan after something was done to these runs: they alone are looked up again."""
        again = [run.spec for run in self.runs if run.spec.run_id in run_ids]
        runs = {spec.run_id: look_up(spec, store, costs) for spec in again}
        return self._with_rows(lambda rows: [row.with_runs(runs) for row in rows])

    def remaking(self) -> Plan:
        """The plan with its stale runs to be trained; each record stays until its new one."""
        stale = [run for run in self.runs if run.state == "stale"]
        runs = {run.spec.run_id: replace(run, state="remade") for run in stale}
        return self._with_rows(lambda rows: [row.with_runs(runs) for row in rows])

    def _with_rows(self, change: Callable[[Sequence[PlannedRow]], list[PlannedRow]]) -> Plan:
        return Plan(tuple(replace(each, rows=tuple(change(each.rows))) for each in self.tables))

    def expected_s(self, jobs: int) -> float | None:
        """Wall-clock seconds that the missing runs will take, or None without a past to go by."""
        later = [cell.later_s for cell in self.waiting]
        expected = filled([*(run.expected_s for run in self.to_do), *later])
        return None if expected is None else makespan((), expected, jobs)


def make_plan(
    tables: Sequence[Table],
    resolver: Resolver,
    seeds: Iterable[int],
    store: Store,
    costs: PastCosts | None = None,
    hours: GpuHours | None = None,
    *,
    to_train: bool = True,
) -> Plan:
    """Resolve every row and seed of ``tables`` and look each run up in the store.

    Where ``seeds`` are the profile's, a row has besides those that ``decide`` promised it.

    Args:
        tables: what was asked for.
        resolver: profile and data.
        seeds: the seeds of every row.
        store: where the runs are.
        costs: what such runs took; None: take it from the store.
        hours: estimates what runs will cost; None: nobody asked.
        to_train: as in :func:`look_up`.

    Raises:
        StoreError: a record cannot be read by this checkout, and the plan is to be carried out.
    """
    wanted, shipped = tuple(seeds), range(resolver.profile.seeds)
    costs = costs or PastCosts([store])
    runs: dict[str, PlannedRun] = {}

    def cell_of(table: Table, row: Row, seed: int, resolved: RunSpec | Blocked) -> PlannedCell:
        blocked = resolved if isinstance(resolved, Blocked) else None
        spec = resolved.draft if isinstance(resolved, Blocked) else resolved
        if spec and not blocked and spec.run_id not in runs:
            runs[spec.run_id] = look_up(spec, store, costs, to_train=to_train)
        return PlannedCell(
            table.name,
            row.id,
            seed,
            run=runs[spec.run_id] if spec and not blocked else None,
            reasons=blocked.reasons if blocked else (),
            draft=blocked.draft if blocked else None,
            gpu_hours=hours.of(table, row, spec) if hours and spec else None,
        )

    profile = resolver.profile
    promises = {t.name: read_promise(store.root, t.name, profile.name) for t in tables}

    def planned(table: Table, row: Row, lacking: Sequence[PlannedRow] = ()) -> PlannedRow:
        promise = promises[table.name] if wanted == tuple(shipped) else None
        own = range(promise.seeds.get(row.id, 0)) if promise else ()
        asked = tuple(dict.fromkeys((*wanted, *own)))
        every = tuple(dict.fromkeys((*asked, *shipped)))
        resolved = dict(zip(every, resolver.resolve_seeds(table, row, every)))
        cells = tuple(cell_of(table, row, seed, resolved[seed]) for seed in asked)
        if lacking:
            cells = tuple(waiting(cell, lacking, costs) for cell in cells)
        specs = (resolved[seed] for seed in shipped)
        return PlannedRow(
            row=row,
            card=resolver.model_of(table, row),
            dataset=resolver.data_of(table, row).name,
            paper_dataset=str(row.dataset or table.dataset),
            baseline=row.gain_over or table.rows[0].id,  # a part of a table may lack it
            cells=cells,
            shipped=tuple(spec for spec in specs if isinstance(spec, RunSpec)),
        )

    def rows_of(table: Table) -> tuple[PlannedRow, ...]:
        rows = {row.id: planned(table, row) for row in table.rows if not row.rate_from}
        deciding = [seed for seed in wanted if seed in shipped] or wanted
        for row in (row for row in table.rows if row.rate_from):
            candidates = [Candidate(rows[each].row, rows[each].records) for each in row.rate_from]
            lacking = [rows[each.row.id] for each in candidates if not each.has(deciding)]
            chosen = row if lacking else choose(row, candidates, deciding)
            rows[row.id] = planned(table, chosen, lacking)
        return tuple(rows[row.id] for row in table.rows)

    return Plan(
        tuple(
            PlannedTable(
                table, profile, rows_of(table), sequential=promises[table.name] is not None
            )
            for table in tables
        )
    )


def waiting(cell: PlannedCell, candidates: Sequence[PlannedRow], costs: PastCosts) -> PlannedCell:
    """A cell whose rate is not chosen yet, since these candidates lack runs.

    It is blocked where one of them is.
    """
    blocked = next((each for row in candidates for each in row.cells if each.blocked), None)
    if blocked is not None:
        return replace(cell, reasons=blocked.reasons)
    names = ", ".join(row.row.id for row in candidates)
    spec = candidates[0].cells[0].spec
    return replace(
        cell,
        reasons=(f"Its rate is chosen when {names} have their runs.",),
        waits=True,
        later_s=costs.of(spec) if spec else None,
    )


def look_up(
    spec: RunSpec, store: Store, costs: PastCosts | None = None, *, to_train: bool = True
) -> PlannedRun:
    """Where one run stands in the store.

    Args:
        spec: the run.
        store: where it is looked for.
        costs: what such runs took.
        to_train: whether what is missing will be trained; otherwise a record that this checkout
            cannot read is one line of what is shown, and not its end.

    Raises:
        StoreError: a record cannot be read, or a newer version wrote it, and ``to_train``.
    """
    try:
        record = store.read(spec.run_id)
    except CorruptRecordError as error:
        return PlannedRun(spec, "damaged", str(error), None, costs.of(spec) if costs else None)
    except StoreError as error:
        if to_train:
            raise
        return PlannedRun(spec, "damaged", str(error))
    if record is None:
        expected = costs.of(spec) if costs else None
        folder = store.folder(spec.run_id)
        if is_locked(folder):
            return PlannedRun(spec, "running", "another process trains it now", None, expected)
        if failure := store.read_failure(spec.run_id):
            reason = f"the last attempt failed: {failure.sentence}"
            return PlannedRun(spec, "missing", reason, None, expected)
        return PlannedRun(spec, "missing", _how_begun(folder), None, expected)
    if record.spec == spec:  # thousands of records need not each hold the network's config
        record = record.model_copy(update={"spec": spec})
    changed = changed_modules(record.environment.code)
    if changed:
        reason, took = f"changed since: {', '.join(changed)}", record.timings.total_s
        return PlannedRun(spec, "stale", reason, record, took)
    return PlannedRun(spec, "cached", "", record)


def _how_begun(folder: RunFolder) -> str:
    """How a run without a record will begin."""
    if not folder.checkpoint.exists():
        return "no record"
    unlike = unlike_checkpoint(folder)
    if not unlike:
        return "interrupted; resumes"
    what = in_words(unlike)
    return f"interrupted; starts anew, since its checkpoint was made with other code ({what})"


class PastCosts:
    """Seconds that runs took, read from stores when first asked.

    Args:
        stores: of a kind of run that several hold, the first one's times count.
        declared: profile → seconds of a run, as its file says, where no store holds one of it.
    """

    def __init__(
        self, stores: Sequence[Store], declared: Mapping[str, float] | None = None
    ) -> None:
        self._stores, self._declared = stores, declared

    def of(self, spec: RunSpec) -> float | None:
        """Seconds to be expected, guessed from similar runs if need be; None: no such profile."""
        return self.past.of(kind_of(spec))

    @cached_property
    def past(self) -> Past:
        """Unchecked: a duration is all that is taken, and a store may hold thousands of records."""
        seconds: dict[Kind, list[float]] = {}
        for store in self._stores:
            own: dict[Kind, list[float]] = {}
            for run_id in store.run_ids():
                document = store.peek(run_id)
                if document is None:
                    continue
                try:
                    spec, took = document["spec"], float(document["timings"]["total_s"])
                    kind = Kind(spec["profile"], spec["model"], spec["classifier"]["name"])
                except (TypeError, KeyError, ValueError):
                    continue  # damaged; whoever uses the run is told by read()
                own.setdefault(kind, []).append(took)
            seconds = own | seconds
        return Past(seconds, self._declared)


def kind_of(spec: RunSpec) -> Kind:
    """What the cost of a run depends on."""
    return Kind(spec.profile, spec.model, spec.classifier["name"])
