"""Why a run is or is not there: what differs from the nearest stored one, what changed since."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from experiments.declare.lookup import find_row
from experiments.declare.run_spec import RunSpec
from experiments.declare.table import Table
from experiments.errors import UnclearNameError, UnknownNameError
from experiments.files import parsed_json, read_bounded
from experiments.nested import Difference, flat_differences, flatten
from experiments.plan.plan import PlannedCell, PlannedRun, look_up
from experiments.plan.request import Request
from experiments.plan.resolve import Blocked
from experiments.store.merge import variants_of
from experiments.store.store import MOST_OF_A_RECORD, Store

SHOWN = 40  # differing fields that are printed
MANY = 8  # names in a sentence


@dataclass(frozen=True)
class Neighbour:
    """The stored run that is nearest to another, and what sets them apart."""

    run_id: str
    folder: Path
    differences: tuple[Difference, ...]  # first: the run in question; second: the stored one


@dataclass(frozen=True)
class Explanation:
    """Where a run stands and why."""

    run_id: str
    state: str  # cached, stale, missing, damaged, running, blocked
    reason: str
    used_by: tuple[str, ...]  # table/row/seed
    finished: str | None
    nearest: Neighbour | None  # None: nothing is stored, or the run is
    variants: tuple[str, ...] = ()  # other results of this run that a merge has kept


def explain(call: Request, reference: str) -> Explanation:
    """Say where a run stands.

    Args:
        call: profile and folders.
        reference: TABLE/ROW/SEED, or the id of a stored or planned run, or its beginning.

    Raises:
        UnclearNameError: neither, or several runs begin so.
        UnknownNameError: no such table or row, or no such run.
    """
    if "/" in reference:
        spec = _by_cell(call, reference)
        if isinstance(spec, Blocked):
            return Explanation(reference, "blocked", spec.reason, (reference,), None, None)
        return _explain(call, spec, _users(call).get(spec.run_id, []))
    planned = _planned(call)
    users = _users(call, planned)
    specs = {spec.run_id: spec for _, spec in planned}
    run_id = _one_of(reference, sorted({*specs, *_stored_ids(call)}))
    spec_ = specs.get(run_id) or _stored_spec(call, run_id)
    return _explain(call, spec_, users.get(run_id, []))


def _by_cell(call: Request, reference: str) -> RunSpec | Blocked:
    parts = reference.split("/")
    if len(parts) != 3 or not parts[2].isdecimal():
        raise UnclearNameError(
            f"'{reference}' is not TABLE/ROW/SEED, as in table8/full/0; `list` shows the tables."
        )
    table, seed = call.registry.table(parts[0]), int(parts[2])
    row = find_row(table, parts[1])
    if not row.rate_from:
        return call.resolver.resolve(table, row, seed)
    asked = replace(call, seeds=tuple(dict.fromkeys((*call.seeds, seed))))
    cells = {(cell.row, cell.seed): cell for cell in _choosing(asked, table)}
    cell = cells[row.id, seed]
    return cell.run.spec if cell.run else Blocked(cell.reasons)


def _planned(call: Request) -> list[tuple[str, RunSpec]]:
    """Every cell of the registry under this call, with its run."""
    resolver = call.resolver
    return [
        (f"{table.name}/{row.id}/{seed}", spec)
        for table in call.registry.tables.values()
        for row in table.rows
        for seed, spec in zip(call.seeds, resolver.resolve_seeds(table, row, call.seeds))
        if isinstance(spec, RunSpec)
    ] + [
        (f"{table.name}/{cell.row}/{cell.seed}", cell.run.spec)
        for table in call.registry.tables.values()
        for cell in _choosing(call, table)
        if cell.run
    ]


def _choosing(call: Request, table: Table) -> list[PlannedCell]:
    """The cells of a table's rows whose rate is chosen from what is stored."""
    choosing = {row.id for row in table.rows if row.rate_from}
    return [cell for cell in call.plan([table]).cells if cell.row in choosing] if choosing else []


def _users(
    call: Request, planned: Sequence[tuple[str, RunSpec]] | None = None
) -> dict[str, list[str]]:
    users: dict[str, list[str]] = {}
    for cell, spec in _planned(call) if planned is None else planned:
        users.setdefault(spec.run_id, []).append(cell)
    return users


def _stored_ids(call: Request) -> Iterator[str]:
    """Runs with a folder: finished, interrupted or failed."""
    for store in call.stores:
        for kind in ("record", "spec"):
            yield from (path.parent.name for path in store.runs.glob(f"*/{kind}.json"))


def _one_of(beginning: str, known: Sequence[str]) -> str:
    if beginning in known:
        return beginning
    found = [run_id for run_id in known if run_id.startswith(beginning)]
    # the digest at the end is what people copy
    found = found or [run_id for run_id in known if run_id.rsplit("-", 1)[-1].startswith(beginning)]
    if len(found) == 1:
        return found[0]
    if not found:
        error = UnknownNameError("run", beginning, known)
        sentence = str(error).partition(" Known:")[0]
        raise UnclearNameError(
            f"{sentence} Give TABLE/ROW/SEED or the beginning of a run's id; `plan` shows them."
        )
    rest = f" and {len(found) - MANY} more" if len(found) > MANY else ""
    raise UnclearNameError(
        f"{len(found)} runs begin with '{beginning}': {', '.join(found[:MANY])}{rest}; give more."
    )


def _stored_spec(call: Request, run_id: str) -> RunSpec:
    """The spec of a run that the present registry does not ask for."""
    for store in call.stores:
        folder = store.folder(run_id)
        document = store.peek(run_id)
        try:
            raw = (
                document["spec"]
                if document
                else parsed_json(read_bounded(folder.spec, MOST_OF_A_RECORD))
            )
            return RunSpec.model_validate(raw)
        except (OSError, ValueError, KeyError):
            continue
    raise UnclearNameError(
        f"The run {run_id} is stored in a form that cannot be read; rename its folder and give the "
        "command that made it again."
    )


def _explain(call: Request, spec: RunSpec, users: Sequence[str]) -> Explanation:
    run = look_up(spec, call.store)
    if run.record is None and run.state == "missing" and call.reference is not None:
        shipped = look_up(spec, call.reference)
        if shipped.record is not None:
            run = PlannedRun(
                spec, "missing", f"{run.reason}; the project ships it ({shipped.state})"
            )
    finished = run.record.finished if run.record else None
    there = run.record is not None
    others = tuple(
        f"{place} (mIoU {record.scores.miou:.2f} %, finished {record.finished})"
        for place, record in variants_of(call.store, spec.run_id)
        if run.record is None or record.scores != run.record.scores
    )
    nearest = None if there else nearest_run(spec, call.stores)
    return Explanation(spec.run_id, run.state, run.reason, tuple(users), finished, nearest, others)


def nearest_run(spec: RunSpec, stores: Sequence[Store]) -> Neighbour | None:
    """The stored run with the fewest differing fields; of several the first by id.

    Runs of the user come before the project's. Records are only glanced at: thousands are compared.
    """
    wanted = flatten(spec.model_dump(mode="json"))
    best: Neighbour | None = None
    for store in stores:
        for run_id in store.run_ids():
            document = store.peek(run_id)
            stored: Any = document.get("spec") if document else None
            if run_id == spec.run_id or not isinstance(stored, dict):
                continue
            found = flat_differences(wanted, flatten(stored))
            if best is None or len(found) < len(best.differences):
                best = Neighbour(run_id, store.folder(run_id).path, found)
    return best


def show_explanation(console: Console, found: Explanation) -> None:
    """Print where a run stands."""
    console.print(f"[bold]{escape(found.run_id)}[/bold]", soft_wrap=True)
    console.print(escape(f"{found.state}{f': {found.reason}' if found.reason else ''}"))
    if found.finished:
        console.print(f"finished {found.finished}")
    for variant in found.variants:
        console.print(f"kept with another result: {escape(variant)}", soft_wrap=True)
    if found.used_by:
        rest = f" and {len(found.used_by) - MANY} more" if len(found.used_by) > MANY else ""
        console.print(escape(f"used by {', '.join(found.used_by[:MANY])}{rest}"), soft_wrap=True)
    elif found.state != "blocked":
        console.print("no row of the registry asks for it in this profile")
    if found.nearest is not None:
        _show_neighbour(console, found.nearest)
    elif found.state in ("missing", "running", "damaged"):
        console.print("No other run is stored.")


def _show_neighbour(console: Console, near: Neighbour) -> None:
    count = len(near.differences)
    console.print(
        f"nearest stored: {escape(near.run_id)} ({escape(str(near.folder))})", soft_wrap=True
    )
    table = RichTable(
        title=f"{count} field{'' if count == 1 else 's'} differ{'s' if count == 1 else ''}"
    )
    for name in ("Field", "This run", "The stored one"):
        table.add_column(name, overflow="fold")
    for each in near.differences[:SHOWN]:
        table.add_row(*(escape(str(part)) for part in (each.field, each.first, each.second)))
    console.print(table)
    if count > SHOWN:
        console.print(f"… and {count - SHOWN} more.")
