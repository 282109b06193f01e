"""From a declared figure to its files: train, extract, and hand over to ``analysis``."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from experiments.declare.figure import Figure, FigureRow, Style
from experiments.declare.profile import DataChoice
from experiments.declare.table import Table
from experiments.draw.drawing import Drawing, DrawnRun, is_drawn, write_drawing
from experiments.draw.inspection import (
    InspectionError,
    read_inspection,
    without_pictures,
    write_inspection,
)
from experiments.errors import CorruptRecordError, SsaError, UnknownNameError, sentence_of
from experiments.machine import module_command, search_path
from experiments.plan.data import locate
from experiments.plan.plan import DONE, Plan
from experiments.plan.stored_rows import StoredRows
from experiments.show import console as show
from experiments.show.progress_bars import train_and_show
from experiments.store.distances import read_distances
from experiments.store.records import Record
from experiments.store.workspace import Workspace

if TYPE_CHECKING:
    from experiments.plan.request import Request

COMPLETE, FAILED, INCOMPLETE = 0, 1, 3


def plan_figures(call: Request, figures: Sequence[Figure], console: Console) -> int:
    """Show the plan of the figures' runs; returns the exit code."""
    tables = [table for figure in figures for table in figure_tables(call, figure)]
    show.show_plan(console, call.plan(tables), call.jobs)
    return COMPLETE


def train_and_draw(
    call: Request, figures: Sequence[Figure], console: Console, style: Style | None = None
) -> int:
    """Train the runs that figures lack and draw them; returns the exit code."""
    trained = [_train(call, figure) for figure in figures]
    code = draw_stored(call, figures, console, style)
    return code if all(trained) else FAILED


def draw_stored(
    call: Request,
    figures: Sequence[Figure],
    console: Console,
    style: Style | None = None,
    *,
    only_new: bool = False,
) -> int:
    """Draw figures from what is stored into ``results/figures``; returns the exit code.

    Args:
        call: profile, seeds, folders.
        figures: which ones.
        console: results and what is missing are printed there.
        style: width; None: the figure's own.
        only_new: leave alone what is there as it would be drawn now, and only name the figures that
            cannot be drawn, not what each lacks.
    """
    stored, described = StoredRuns(call), list[Path]()
    undrawn, gaps = list[str](), list[str]()
    for figure in figures:
        if reason := call.resolver.unfit_figure(figure):
            undrawn.append(figure.name)
            gaps.append(f"{figure.name} is not drawn: {reason}")
            continue
        with console.status(f"Reading the runs of {figure.name}"):
            drawing = gather(call, figure, stored, style)
        gaps += [f"{figure.name}: missing: {sentence}" for sentence in drawing.missing]
        if not drawable(drawing):
            undrawn.append(figure.name)
            command = f"./run_all.sh {figure.name} --profile {call.profile.name}"
            gaps.append(f"{figure.name} is not drawn; `{command}` trains what it needs.")
        elif not (only_new and is_drawn(drawing, call.workspace.results)):
            described.append(write_drawing(drawing, call.workspace.results))
    summary = (
        f"Not drawn for want of runs: {', '.join(undrawn)}; `./run_all.sh figures --profile "
        f"{call.profile.name}` says what each lacks."
    )
    for sentence in gaps if not only_new else [summary] if undrawn else []:
        console.print(escape(sentence), soft_wrap=True)
    if described and not _hand_over(described, console):
        return FAILED
    return INCOMPLETE if gaps else COMPLETE


def extract_item(call: Request, item: str, console: Console, pictures: bool | None = None) -> int:
    """Extract one run, or all runs of a figure or table that have a record; the exit code.

    Args:
        call: profile, seeds, folders.
        item: a run's id, a figure or a table.
        console: what was extracted and what is missing is printed there.
        pictures: whether the chosen images are kept; None: as it is, with them where it is made.

    Raises:
        UnknownNameError: neither a run nor an item.
        SsaError: the only run that was asked for cannot be extracted.
    """
    runs = call.store.run_ids()
    if item in runs:
        record = call.store.read(item)
        assert record is not None
        measured = _remeasurable(call, record)
        made = inspect(call, record, measured=measured, pictures=pictures)
        _say_extracted(console, item, made)
        return COMPLETE
    if item in call.registry.figures:
        figure = call.registry.figure(item)
        call, tables = _with_seeds(call, figure), figure_tables(call, figure)
    elif item in call.registry.tables:
        tables = [call.registry.table(item)]
    else:
        known = [*runs, *call.registry.figures, *call.registry.tables]
        raise UnknownNameError("run or item", item, known)
    stored, code = StoredRuns(call), COMPLETE
    plan = call.plan(tables)
    done: set[str] = set()
    for cell in plan.cells:
        record, reason = stored.of(plan, f"{cell.table}/{cell.row}", cell.seed)
        if record is not None and record.run_id in done:
            continue
        if record is None:
            console.print(escape(f"missing: {cell.table}/{cell.row}, seed {cell.seed}: {reason}"))
            code = INCOMPLETE
            continue
        done.add(record.run_id)
        try:
            measured = _remeasurable(call, record)
            made = inspect(call, record, measured=measured, pictures=pictures)
            _say_extracted(console, record.run_id, made)
        except SsaError as error:
            console.print(escape(f"missing: {sentence_of(error)}"), soft_wrap=True)
            code = INCOMPLETE
    return code


def _remeasurable(call: Request, record: Record) -> bool:
    """Whether a run's distances can be measured: of a shipped run there are no weights."""
    return call.store.folder(record.run_id).weights.is_file()


def _say_extracted(console: Console, run_id: str, made: bool) -> None:
    word = "extracted" if made else "already extracted"
    console.print(f"{run_id}: {word}", soft_wrap=True)


def inspect(
    call: Request,
    record: Record,
    *,
    inspected: bool = True,
    measured: bool = False,
    pictures: bool | None = None,
) -> bool:
    """See to it that what figures need of a run is stored; whether it had to be made.

    Args:
        call: folders and device.
        record: of the run.
        inspected: whether its inspection is needed.
        measured: whether the distances of its features are.
        pictures: whether its inspection is to have the chosen images; None: as it is.

    Raises:
        SsaError: it must be made, and weights or data are not there or not the record's.
    """
    try:
        kept = read_inspection(call.store, record) if inspected else None
        lacks = inspected and (kept is None or (pictures is True and not kept.pictured))
        lacks = lacks or (measured and read_distances(call.store, record) is None)
        if not lacks and kept is not None and kept.pictured and pictures is False:
            write_inspection(call.store, without_pictures(kept))
            return True
        if not lacks:
            return False
    except (InspectionError, CorruptRecordError):
        pass  # damaged or of an earlier record: made anew
    from experiments.train.trained import require_weights_of

    require_weights_of(record, call.store)
    spec = record.spec
    choice = DataChoice(name=spec.dataset, settings=spec.dataset_settings)
    data = locate(choice, call.workspace)
    if data.digest != spec.dataset_digest:
        raise InspectionError(
            f"{data.root} is not the data set that {record.run_id} was trained on (its content "
            "differs); name the folder that holds it with --data-root."
        )
    from experiments.draw.extract import extract

    extract(record, call.store, data.root, call.device_here, measured=measured, pictures=pictures)
    return True


def figure_tables(call: Request, figure: Figure) -> list[Table]:
    """The tables that supply a figure's runs, reduced to the rows that it needs."""
    wanted: dict[str, list[str]] = {}
    for row in figure.rows:
        wanted.setdefault(row.table, []).append(row.row)
    tables = []
    for name, ids in wanted.items():
        table = call.registry.table(name)
        rows = tuple(row for row in table.rows if row.id in ids)
        tables.append(table.model_copy(update={"rows": rows}))
    return tables


def _with_seeds(call: Request, figure: Figure) -> Request:
    return call if figure.seeds == "all" else replace(call, seeds=call.seeds[:1])


def _train(call: Request, figure: Figure) -> bool:
    """Train what a figure lacks; whether no run failed."""
    seeded = _with_seeds(call, figure)
    plan = seeded.plan(figure_tables(seeded, figure))
    outcomes = train_and_show(seeded, plan) if plan.to_do else []
    return all(outcome.end != "failed" for outcome in outcomes)


def gather(call: Request, figure: Figure, stored: StoredRuns, style: Style | None) -> Drawing:
    """The runs of a figure that are stored, extracted where the figure needs it."""
    seeded = _with_seeds(call, figure)
    plan = seeded.plan(figure_tables(seeded, figure))
    runs: dict[tuple[str, str], DrawnRun] = {}
    missing: dict[str, None] = {}
    pictures = True
    for row in figure.rows:
        for seed in seeded.seeds:
            record, reason = stored.of(plan, row.run, seed)
            if record is None:
                missing[f"{row.run}, seed {seed}: {reason}"] = None
                continue
            if figure.inspected or (figure.measured and row.baseline):
                try:
                    inspect(call, record, inspected=figure.inspected, measured=figure.measured)
                except SsaError as error:
                    missing[sentence_of(error)] = None
                    continue
            if figure.inspected:
                kept = read_inspection(call.store, record)
                pictures = pictures and kept is not None and kept.pictured
            runs.setdefault((row.label, record.run_id), _drawn(row, seed, record))
    return Drawing(
        figure=figure,
        profile=figure.of_profile(call.profile.name),
        style=style or figure.style,
        runs=tuple(runs.values()),
        missing=tuple(_portable(sentence, call.workspace) for sentence in missing),
        pictures=pictures,
    )


def _portable(sentence: str, workspace: Workspace) -> str:
    """The sentence without the folders of this machine: it is kept with the figure."""
    for folder in (workspace.results, workspace.data_root):
        sentence = sentence.replace(f"{folder}{os.sep}", "")
    return sentence


def _drawn(row: FigureRow, seed: int, record: Record) -> DrawnRun:
    return DrawnRun(
        label=row.label,
        baseline=row.baseline,
        row=row.run,
        seed=seed,
        run_id=record.run_id,
        result_digest=record.result_digest,
    )


def drawable(drawing: Drawing) -> bool:
    """Whether every line that a figure cannot do without has a run."""
    there = {run.label for run in drawing.runs}
    return all(row.optional or row.label in there for row in drawing.figure.rows)


class StoredRuns:
    """Finds the record behind a row, also where the data set itself is not at hand."""

    def __init__(self, call: Request) -> None:
        self._rows = StoredRows([call.store])

    def of(self, plan: Plan, row: str, seed: int) -> tuple[Record | None, str]:
        """The record of ``<table>/<row id>`` and a seed, or None and why there is none."""
        table, _, row_id = row.partition("/")
        cell = next(c for c in plan.cells if (c.table, c.row, c.seed) == (table, row_id, seed))
        if cell.run is not None:
            return (cell.run.record, "") if cell.run.state in DONE else (None, cell.run.reason)
        record = self._rows.find(cell.draft) if cell.draft else None
        return record, "" if record else cell.blocked or ""


def _hand_over(described: Sequence[Path], console: Console) -> bool:
    """Draw what is described, in a process of its own; whether all went well."""
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",  # sums in one order: the same points on every machine
        "SOURCE_DATE_EPOCH": "0",  # no time of drawing in the files
        "PYTHONPATH": search_path(),
    }
    command = module_command("analysis", *map(str, described))
    drawn = subprocess.run(command, env=environment, check=False, stdout=subprocess.PIPE, text=True)
    console.print(escape(drawn.stdout.rstrip()), soft_wrap=True)
    return drawn.returncode == 0
