"""Where one printed cell comes from: the runs, machines and commits behind a number."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from experiments.declare.lookup import check_metric, find_row
from experiments.declare.metrics import METRICS, Metric, value_at
from experiments.declare.table import Row, Table
from experiments.files import parsed_json, read_bounded
from experiments.judge.assemble import RowResult, assemble
from experiments.judge.counts import count_cells
from experiments.judge.statistics import Gain
from experiments.judge.tables import counter_of
from experiments.judge.verdict import Verdict, tolerance_of
from experiments.plan.plan import PlannedRun
from experiments.plan.request import Request, seeds_option
from experiments.store.records import Record
from experiments.store.workspace import DEFAULT_DATA_ROOT, DEFAULT_RESULTS

#: bytes of a benchmark's record
MOST_OF_A_BENCHMARK = 16 << 20

LAST_POINTS = 4  # of a curve that are shown


@dataclass(frozen=True)
class CellRun:
    """One run behind a cell."""

    run_id: str
    seed: int
    state: str  # cached or stale
    reason: str  # what has changed since, if it is stale
    miou: float  # percent
    curve: tuple[tuple[int, float], ...]  # last points: iteration, mIoU in percent
    git_commit: str | None
    git_dirty: bool | None
    code_digest: str
    host: str
    device: str
    torch: str
    dataset: str
    dataset_digest: str
    total_s: float
    finished: str
    deviations: tuple[str, ...]
    folder: Path


@dataclass(frozen=True)
class CellOrigin:
    """All that is known of one cell."""

    table: str
    row: str
    label: str
    metric: str
    unit: str
    model: str
    dataset: str  # that was trained on
    paper_dataset: str
    profile: str
    seeds: tuple[int, ...]  # asked for
    reported: float | None
    source: str  # where the reported number stands
    readme: float | None  # of the released code, where it differs
    measured: float | None
    low: float | None
    high: float | None
    interval: str  # what low and high are
    verdict: Verdict  # against the paper
    tolerance: str
    reference: float | None  # of the project's own shipped runs
    versus_reference: Verdict
    baseline: str | None  # row that a gain is counted over
    runs: tuple[CellRun, ...]
    absent: tuple[str, ...]  # why seeds have no record
    notes: tuple[str, ...]
    command: str  # makes what is missing and prints the table


def why(request: Request, table_name: str, row_name: str, metric: str) -> CellOrigin:
    """Look up everything behind one cell; nothing is trained.

    Args:
        request: profile, seeds and folders.
        table_name: of the registry.
        row_name: id or printed label.
        metric: name of one of :data:`experiments.declare.metrics.METRICS`.

    Raises:
        UnknownNameError: no such table, row or metric.
        UnclearNameError: a label that several rows carry.
    """
    table = request.registry.table(table_name)
    request = request.looking_at(table)
    row = find_row(table, row_name)
    declared = METRICS[check_metric(metric)]
    (planned,) = request.plan([table]).tables
    gains = metric == "gain"
    result = assemble(planned, request.store, request.reference, gains=gains)
    (row_result,) = (each for each in result.rows if each.row.id == row.id)
    asked = (row.id, table.baseline_of(row).id) if gains else (row.id,)
    rows = [each for each in planned.rows if each.row.id in asked]
    finished = {run.spec.run_id: run for each in rows for run in each.finished.values()}
    trained = declared.of_runs
    numbers = _numbers(request, table, row_result, declared)
    return CellOrigin(
        table=table.name,
        row=row.id,
        label=row.label,
        metric=metric,
        unit=declared.why,
        model=row_result.model,
        dataset=row_result.dataset,
        paper_dataset=row_result.paper_dataset,
        profile=request.profile.name,
        seeds=request.seeds,
        reported=getattr(row.reported, metric, None),
        source=table.source,
        readme=getattr(row.readme, metric, None) if row.readme else None,
        reference=row_result.reference.median
        if row_result.reference and metric == "miou"
        else None,
        versus_reference=row_result.versus_reference,
        baseline=table.baseline_of(row).id if gains else None,
        runs=tuple(_run(run, request) for run in finished.values()) if trained else (),
        absent=row_result.absent if trained else (),
        notes=tuple(_notes(request, row, table, metric)),
        command=command(request, table, trained=trained),
        tolerance=tolerance_of(declared.judged, table.paper.stated_error),
        **numbers,
    )


def _numbers(
    request: Request, table: Table, row_result: RowResult, metric: Metric
) -> dict[str, Any]:
    """What was measured or counted, and what it says about the paper's number."""
    if metric.source == "record":
        return _recorded(row_result, metric)
    if metric.of_runs:
        return _scored(row_result, metric)
    return _counted(request, table, row_result.row, metric)


def _scored(row_result: RowResult, metric: Metric) -> dict[str, Any]:
    """The numbers of a cell that the scores of runs stand behind."""
    if metric.source == "gain":
        gain, several = row_result.gain, row_result.gain and row_result.gain.num_seeds > 1
        drawn = "seeds and images" if several else "images only: there is one seed"
        words: dict[str, Any] = {
            "measured": gain.value if gain else None,
            "low": gain.low if gain else None,
            "high": gain.high if gain else None,
            "interval": f"95 % interval of the mean of the paired gains, {drawn}{_lent(gain)}"
            if gain
            else "",
        }
        return words | {"verdict": _of_gain(row_result)}
    miou = row_result.miou
    return {
        "measured": miou.median if miou else None,
        "low": miou.low if miou else None,
        "high": miou.high if miou else None,
        "interval": f"smallest and largest of {miou.num_seeds} seeds" if miou else "",
        "verdict": row_result.versus_paper,
    }


def _lent(gain: Gain) -> str:
    """What is borrowed of the table's other rows, in words."""
    if gain.sequential:
        return ", at whatever number of seeds one stops (`decide`), nothing borrowed"
    if not gain.num_lenders:
        return ", nothing borrowed"
    return f", deviation between seeds moderated by {gain.num_lenders} other rows"


def _recorded(row_result: RowResult, metric: Metric) -> dict[str, Any]:
    """The numbers of a cell that every run's record holds."""
    recorded = (value_at(record, metric.field) for record in row_result.records)
    values = [value for value in recorded if value is not None]
    cell = row_result.counts[metric.name]
    return {
        "measured": cell.measured,
        "low": min(values, default=None),
        "high": max(values, default=None),
        "interval": f"smallest and largest of {len(values)} seeds" if values else "",
        "verdict": cell.verdict,
    }


def _of_gain(row_result: RowResult) -> Verdict:
    if row_result.blocked:
        return Verdict("blocked", row_result.absent[0])
    if row_result.incomparable:
        return Verdict("not comparable", row_result.incomparable)
    if row_result.gain is None:
        return Verdict("missing", "the row is its own baseline, or one of the two has no run")
    if row_result.gain.num_seeds == 1:
        return Verdict("within noise", "one seed has no spread to judge by")
    if row_result.gain.low > 0 or row_result.gain.high < 0:
        word: Any = "above" if row_result.gain.low > 0 else "below"
        return Verdict(word, "the interval leaves out 0: a difference from the baseline is sure")
    return Verdict("within noise", "the interval holds 0: no difference from the baseline is sure")


def _counted(request: Request, table: Table, row: Row, metric: Metric) -> dict[str, Any]:
    """The numbers of a cell that is counted on the paper-size network."""
    count = counter_of(request).count(table, row) if metric.source == "count" else None
    cell = count_cells(row, count)[metric.name]
    return {
        "measured": cell.measured,
        "low": None,
        "high": None,
        "interval": "",
        "verdict": cell.verdict,
    }


def _run(run: PlannedRun, request: Request) -> CellRun:
    record = run.record
    assert isinstance(record, Record)
    own = record.environment
    return CellRun(
        run_id=record.run_id,
        seed=record.spec.seed,
        state=run.state,
        reason=run.reason,
        miou=record.scores.miou,
        curve=tuple((p.iteration, p.scores.miou) for p in record.curve[-LAST_POINTS:]),
        git_commit=own.git_commit,
        git_dirty=own.git_dirty,
        code_digest=own.code_digest,
        host=own.host,
        device=own.device,
        torch=own.torch,
        dataset=record.spec.dataset,
        dataset_digest=record.spec.dataset_digest,
        total_s=record.timings.total_s,
        finished=record.finished,
        deviations=record.deviations,
        folder=request.store.folder(record.run_id).path,
    )


def _notes(request: Request, row: Row, table: Table, metric: str) -> Iterator[str]:
    """How the row was read, why its number differs, and what else was measured."""
    for text in (row.reading, row.notes.get(metric)):
        if text:
            yield " ".join(text.split())
    if METRICS[metric].source == "count":
        count = counter_of(request).count(table, row)
        yield (
            f"Counted on the paper-size network at {count.size}×{count.size} pixels with "
            f"{count.num_classes} classes, whatever the profile."
        )
    if METRICS[metric].source == "bench":
        yield "Milliseconds differ from device to device, so only ratios are compared."
        yield from latencies(request, row, str(row.model or table.model))


def latencies(request: Request, row: Row, model: str) -> Iterator[str]:
    """What `bench latency` has recorded of a network, here and among the shipped results."""
    for results in dict.fromkeys((request.workspace.results, request.workspace.reference)):
        for path in sorted((results / "benchmarks").glob(f"latency_{model}_*.json")):
            try:
                found = parsed_json(read_bounded(path, MOST_OF_A_BENCHMARK))["details"]
                about = {found["classifier"], found["baseline"]}
                ratio, device, printed = found["ratio"], found["device"], found["reported_ratio"]
                text = (
                    f"{found['classifier']} over {found['baseline']} on {device}: "
                    f"{ratio['median']:.3f} times the time"
                )
            except (OSError, ValueError, KeyError, TypeError):
                continue  # of another form
            if row.classifier.name in about:
                yield text + (f" (paper {printed:.3f})" if printed else "") + f"; {path}"


def command(request: Request, table: Table, *, trained: bool = True) -> str:
    """The command line that makes what is missing of a table and prints it."""
    words = ["./run_all.sh", table.name]
    if not trained:
        words += ["--only", "complexity"]
    else:
        words += ["--profile", request.profile.name, "--seeds", seeds_option(request.seeds)]
        if request.workspace.data_root != DEFAULT_DATA_ROOT.resolve():
            words += ["--data-root", str(request.workspace.data_root)]
        if request.deviations:
            words.append("--from-scratch")
    if request.workspace.results != DEFAULT_RESULTS.resolve():
        words += ["--results", str(request.workspace.results)]
    for folder in request.registry.folders:
        words += ["--registry", str(folder)]
    return shlex.join(words)


def show_origin(console: Console, origin: CellOrigin) -> None:
    """Print a cell's origin."""

    def line(name: str, text: str) -> None:
        console.print(f"[bold]{name:<12}[/bold]{escape(text)}", soft_wrap=True)

    console.print(
        escape(f"{origin.table}, {origin.label} ({origin.row}): {origin.metric}, {origin.unit}")
    )
    line("reported", f"{_number(origin.reported)}  ({origin.source}, {origin.paper_dataset})")
    if origin.readme is not None:
        line("", f"{_number(origin.readme)}  (README of the released code)")
    spread = ""
    if origin.low is not None and origin.high is not None:
        spread = f"  [{_number(origin.low)}, {_number(origin.high)}], {origin.interval}"
    about = f"({origin.model} on {origin.dataset}, profile {origin.profile})"
    about = f"({origin.model})" if METRICS[origin.metric].source == "count" else about
    line("measured", f"{_number(origin.measured)}{spread}  {about}")
    if origin.baseline is not None:
        line("over", f"row {origin.baseline}")
    line("verdict", f"{origin.verdict.word}: {origin.verdict.reason}")
    line("tolerance", origin.tolerance)
    if origin.metric == "miou":
        there = origin.versus_reference
        line("reference", f"{_number(origin.reference)}  {there.word}: {there.reason}")
    for text in origin.notes:
        line("note", text)
    for text in origin.absent:
        line("not run", text)
    for run in origin.runs:
        _show_run(console, run)
    line("again with", origin.command)
    if origin.runs:
        line("", "What is stored is not made again; to train a run anew, rename its folder first.")


def _show_run(console: Console, run: CellRun) -> None:
    table = RichTable(title=escape(run.run_id), show_header=False, title_justify="left")
    table.add_column()
    table.add_column(overflow="fold")
    dirty = {None: "", True: ", with changes that were not committed", False: ""}[run.git_dirty]
    lines = {
        "seed": str(run.seed),
        "mIoU": f"{run.miou:.4f} percent",
        "curve": ", ".join(f"{miou:.2f} at {iteration}" for iteration, miou in run.curve),
        "state": f"{run.state}{f': {run.reason}' if run.reason else ''}",
        "commit": f"{run.git_commit or 'not in a checkout'}{dirty}",
        "code digest": run.code_digest,
        "machine": f"{run.host}, {run.device}, torch {run.torch}",
        "data": f"{run.dataset} {run.dataset_digest}",
        "finished": f"{run.finished}, after {run.total_s:.0f} s",
        "deviations": "; ".join(run.deviations) or "none",
        "folder": str(run.folder),
    }
    for name, text in lines.items():
        table.add_row(name, escape(text))
    console.print(table)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
