"""From a folder of results to what the report shows: everything is read, nothing is trained."""

from __future__ import annotations

import hashlib
import json
import math
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from analysis.report.data import (
    ClaimView,
    GainView,
    NumberView,
    PaperView,
    ProfileView,
    ReportData,
    RowState,
    RowView,
    RunView,
    SpreadView,
    TableView,
    VerdictView,
)
from analysis.report.exhibits import Scenes, figures
from experiments.ask.why import latencies
from experiments.declare.metrics import METRICS
from experiments.declare.profile import Profile
from experiments.declare.registry import STUDY, ExperimentRegistry
from experiments.declare.table import Table
from experiments.errors import CorruptRecordError, StoreError
from experiments.judge.assemble import RowResult, TableResult
from experiments.judge.claims import ClaimResult
from experiments.judge.statistics import Gain, Summary
from experiments.judge.tables import assembled
from experiments.judge.verdict import Verdict
from experiments.plan.plan import Plan, PlannedTable, make_plan
from experiments.plan.request import Request as Call
from experiments.plan.request import seeds_option
from experiments.plan.stored_rows import StoredResolver, StoredRows
from experiments.show.claims import show_numbers, show_outlook
from experiments.show.export import DEFAULT_PROFILE, to_csv, to_latex
from experiments.store.exports import exported_seeds
from experiments.store.provenance import changed_modules
from experiments.store.records import Record
from experiments.store.store import Store
from experiments.store.workspace import DEFAULT_DATA_ROOT, Workspace


@dataclass(frozen=True)
class Request:
    """What the report is to be made of.

    Args:
        registry: of tables, models, profiles.
        workspace: results to read, data and weights (they may be absent), the shipped results.
        profiles: names, in the order of the page; none: every profile that has a record.
        items: names of tables; none: all.
        folders: of the user's registry, for the commands that the page prints.
        shipped: the results are the project's own, shown because the reader has none.
    """

    registry: ExperimentRegistry
    workspace: Workspace
    profiles: tuple[str, ...] = ()
    items: tuple[str, ...] = ()
    folders: tuple[Path, ...] = ()
    shipped: bool = False

    @property
    def tables(self) -> list[Table]:
        """The tables to show, the paper's first and in its order.

        Raises:
            UnknownNameError: there is no such table.
        """
        if not self.items:
            paper = [n for n in self.registry.paper.tables if n in self.registry.tables]
            own = [name for name in self.registry.tables if name not in paper]
            return [self.registry.tables[name] for name in (*paper, *own)]
        return [self.registry.table(name) for name in self.items]

    def call(self, profile: Profile) -> Call:
        """What the command line would work with under one profile."""
        seeds = tuple(range(profile.seeds))
        return Call(self.registry, profile, seeds, self.workspace, jobs=1, device="cpu")


@dataclass(frozen=True)
class _Stored:
    """Every record that can be read, and those that cannot."""

    records: dict[str, Record] = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, store: Store) -> _Stored:
        found = cls()
        for run_id in store.run_ids():
            try:
                record = store.read(run_id)
            except (CorruptRecordError, StoreError) as error:
                found.damaged.append(str(error))
                continue
            if record is not None:
                found.records[run_id] = record
        return found


def gather(request: Request) -> ReportData:
    """Everything that the results folder holds, beside what the paper has.

    Raises:
        UnknownNameError: no such profile or table.
        SsaError: results that cannot be read; a network that cannot be counted.
    """
    stored = _Stored.read(Store(request.workspace.results))
    of_profile: dict[str, list[Record]] = {}
    for record in stored.records.values():
        of_profile.setdefault(record.spec.profile, []).append(record)
    unknown = {n: len(r) for n, r in of_profile.items() if n not in request.registry.profiles}
    chosen = _profiles(request, of_profile)
    rows = StoredRows(request.call(chosen[0]).stores)
    shown = [
        _profile(request, profile, rows, of_profile.get(profile.name, [])) for profile in chosen
    ]
    profiles = [profile for profile, _ in shown]
    used = {
        run for profile in profiles for table in profile.tables for row in table.rows
        for run in row.runs
    }  # fmt: skip
    scenes = Scenes()
    for profile in profiles:
        store = Store(request.workspace.results)
        scenes.add(request.registry, profile, store, stored.records)
    configs: dict[str, dict[str, Any]] = {}
    classes: dict[str, tuple[str, ...]] = {}
    names = {profile.name for profile in profiles}
    runs = {
        run_id: _run(record, run_id in used, configs, classes)
        for run_id, record in stored.records.items()
        if record.spec.profile in names or not request.profiles
    }
    paper = request.registry.paper
    return ReportData(
        version=_version(),
        paper=PaperView(paper.name, paper.title, paper.venue, str(paper.url)),
        shipped=request.shipped,
        profiles=tuple(profiles),
        runs=runs,
        configs=configs,
        classes=classes,
        claims=tuple(claim for _, claims in shown for claim in claims),
        figures=figures(
            request.registry, tuple(profiles), request.workspace.results, stored.records
        ),
        scenes=tuple(scenes.scenes),
        pictures=scenes.pictures,
        damaged=tuple(
            sentence.replace(f"{request.workspace.results}/", "")
            for sentence in (*stored.damaged, *scenes.damaged)
        ),
        unknown_profiles=unknown,
    )


def _profiles(request: Request, found: dict[str, list[Record]]) -> list[Profile]:
    known = request.registry.profiles
    names = request.profiles or tuple(name for name in known if name in found)
    if not names:
        names = (DEFAULT_PROFILE,)
    profiles = [request.registry.profile(name) for name in dict.fromkeys(names)]
    if request.profiles:
        return profiles
    # the paper's own protocol first, then the default, then by name
    return sorted(
        profiles, key=lambda p: (not p.compares_with_paper, p.name != DEFAULT_PROFILE, p.name)
    )


def _profile(
    request: Request, profile: Profile, stored: StoredRows, records: Sequence[Record]
) -> tuple[ProfileView, list[ClaimView]]:
    call = request.call(profile)
    resolver = StoredResolver(request.registry, profile, request.workspace, stored=stored)
    seeds = tuple(dict.fromkeys([*call.seeds, *sorted(r.spec.seed for r in records)]))
    tables = [table for table in request.tables if table.is_for(profile.name)]
    plan = make_plan(tables, resolver, seeds, call.store, to_train=False)
    results = request.workspace.results
    plan = Plan(tuple(_with_its_seeds(planned, profile, results) for planned in plan.tables))
    views, claims = [], []
    for result in assembled(call, plan):
        views.append(_table(result, request))
        claims += [_claim(result, claim) for claim in result.claims]
    view = ProfileView(
        name=profile.name,
        title=profile.title,
        description=" ".join(profile.description.split()),
        comparable=profile.compares_with_paper,
        num_runs=len(records),
        tables=tuple(views),
    )
    return view, claims


def _with_its_seeds(planned: PlannedTable, profile: Profile, results: Path) -> PlannedTable:
    """A table with the profile's seeds, those of its last export and those that all its rows have.

    A seed that another table made for a row that both have is no gap of this one. Of a sequential
    table each row has its own.
    """
    asked = {*range(profile.seeds), *exported_seeds(results, planned.table.name, profile.name)}
    if planned.sequential:
        rows = (
            replace(row, cells=tuple(c for c in row.cells if c.seed in {*asked, *row.finished}))
            for row in planned.rows
        )
        return replace(planned, rows=tuple(rows))
    finished = [set(row.finished) for row in planned.rows if row.finished]
    return planned.with_seeds(asked.union(set.intersection(*finished) if finished else ()))


def _claim(result: TableResult, claim: ClaimResult) -> ClaimView:
    mark = "sequential (at whatever number of seeds one stops)" if claim.sequential else ""
    ahead = show_outlook(claim)
    return ClaimView(
        id=claim.claim.id,
        table=result.table.name,
        profile=result.profile,
        text=claim.claim.text,
        where=claim.claim.where,
        word=claim.word,
        reason="; ".join(filter(None, [mark, claim.reason.replace(" -", " −"), ahead])),
        numbers=show_numbers(claim) if claim.unit is not None else "",
        num_seeds=claim.num_seeds,
    )


def _table(result: TableResult, request: Request) -> TableView:
    table = result.table
    return TableView(
        name=table.name,
        title=table.title,
        source=table.source,
        description=" ".join(table.description.split()),
        of_paper=table.name in request.registry.paper.tables,
        short=_heading(table.name),
        columns=result.columns,
        seeds=result.seeds,
        seed_deviation=result.seed_deviation,
        rows=tuple(_row(result, row, request) for row in result.rows),
        texts={"LaTeX": to_latex(result), "CSV": to_csv(result)},
    )


def _row(result: TableResult, row: RowResult, request: Request) -> RowView:
    declared = row.row
    baseline = result.table.baseline_of(declared).id
    return RowView(
        id=declared.id,
        label=declared.label,
        model=row.model,
        paper_dataset=row.paper_dataset,
        dataset=row.dataset,
        baseline=None if baseline == declared.id else baseline,
        state=_state(row),
        miou=_spread(row.miou),
        gain=_gain(row.gain),
        reported_miou=declared.reported.miou,
        reported_gain=declared.reported.gain,
        readme_miou=declared.readme.miou if declared.readme else None,
        reference_miou=row.reference.median if row.reference else None,
        versus_paper=_verdict(row.versus_paper),
        versus_reference=_verdict(row.versus_reference),
        counts={
            metric: NumberView(
                cell.measured, cell.reported, _verdict(cell.verdict), _one_line(cell.note)
            )
            for metric, cell in row.counts.items()
            if metric in result.columns
        },
        latencies=_latencies(result, row, request),
        notes=tuple(filter(None, [_one_line(declared.reading), _no_gain(row)])),
        absent=tuple(_one_line(reason) or "" for reason in row.absent),
        stale=row.stale,
        runs=tuple(record.run_id for record in row.records),
        commands=_commands(result, row, request),
    )


def _spread(miou: Summary | None) -> SpreadView | None:
    return SpreadView(miou.median, miou.low, miou.high, miou.num_seeds) if miou else None


def _no_gain(row: RowResult) -> str:
    return f"No gain over the baseline, no rank: {row.incomparable}." if row.incomparable else ""


def _gain(gain: Gain | None) -> GainView | None:
    if gain is None or not math.isfinite(gain.low):  # an endless interval cannot be drawn
        return None
    return GainView(gain.value, gain.low, gain.high, gain.num_seeds, gain.num_images, gain.p_value)


def _state(row: RowResult) -> RowState:
    if row.stale:
        return "stale"
    if row.records:
        return "measured" if row.complete else "partial"
    if row.blocked:
        return "blocked"
    return "failed" if any("attempt failed" in reason for reason in row.absent) else "missing"


def _commands(result: TableResult, row: RowResult, request: Request) -> tuple[str, ...]:
    """What trains a row anew: the commit of its newest record, then the row, beside the old."""
    seeds = range(row.num_seeds) if result.sequential else result.seeds
    words = ["./run_all.sh", result.table.name, "--profile", result.profile]
    words += ["--rows", row.row.id, "--seeds", seeds_option(seeds)]
    for folder in request.folders:
        words += ["--registry", str(folder)]
    if row.dataset != "scenes":
        words += ["--data-root", _short(request.workspace.data_root)]
    if not row.records:
        return (shlex.join(words),)
    newest = max(row.records, key=lambda record: record.finished)
    commit = newest.environment.git_commit
    checkout = [f"git checkout {commit}"] if commit else []
    return (*checkout, shlex.join([*words, "--results", "anew"]))


def _latencies(result: TableResult, row: RowResult, request: Request) -> tuple[str, ...]:
    if all(METRICS[name].source != "bench" for name in result.table.columns):
        return ()
    call = request.call(request.registry.profile(result.profile))
    model = str(row.row.model or result.table.model)
    folders = [request.workspace.results, request.workspace.reference.parent.parent]
    found = []
    for text in latencies(call, row.row, model):
        for folder in folders:
            text = text.replace(f"{folder}/", "")
        found.append(text)
    return tuple(dict.fromkeys(found))


def _short(path: Path) -> str:
    return "data" if path.resolve() == DEFAULT_DATA_ROOT.resolve() else str(path)


def _verdict(verdict: Verdict) -> VerdictView:
    return VerdictView(verdict.word, _one_line(verdict.reason) or "")


def _one_line(text: str | None) -> str | None:
    return " ".join(text.split()) if text else None


def _run(
    record: Record,
    used: bool,
    configs: dict[str, dict[str, Any]],
    classes: dict[str, tuple[str, ...]],
) -> RunView:
    spec, environment, scores = record.spec, record.environment, record.scores
    changed = changed_modules(environment.code)
    return RunView(
        run_id=record.run_id,
        profile=spec.profile,
        model=spec.model,
        classifier=spec.classifier["name"],
        dataset=spec.dataset,
        seed=spec.seed,
        stale=f"changed since: {', '.join(changed)}" if changed else "",
        used=used,
        miou=scores.miou,
        aacc=scores.aacc,
        macc=scores.macc,
        per_class_iou=record.per_class_iou,
        classes=_kept(classes, record.class_names),
        curve=tuple((point.iteration, point.scores.miou) for point in record.curve),
        num_images=record.num_images,
        config=_kept(configs, spec.model_dump(mode="json", exclude={"seed"})),
        total_s=record.timings.total_s,
        iteration_ms=record.timings.iteration_ms,
        peak_memory_mb=record.peak_memory_mb,
        device=environment.device,
        torch=environment.torch,
        python=environment.python,
        git_commit=environment.git_commit,
        git_dirty=environment.git_dirty,
        code_digest=environment.code_digest,
        dataset_digest=spec.dataset_digest,
        result_digest=record.result_digest,
        started=record.started,
        finished=record.finished,
        resumed_at=record.resumed_at,
        deviations=record.deviations,
    )


def _kept(things: dict[str, Any], thing: Any) -> str:
    """Put ``thing`` into ``things`` under its own digest, once; returns the digest."""
    text = json.dumps(thing, sort_keys=True)
    key = hashlib.sha256(text.encode()).hexdigest()[:10]
    things.setdefault(key, thing)
    return key


def _heading(name: str) -> str:
    """``table8`` → "Table 8"; another's name in words."""
    numbered = re.fullmatch(r"table0*(\d+)", name)
    if numbered:
        return f"Table {numbered[1]}"
    words = name.removeprefix(STUDY).replace("_", " ").replace("-", " ")
    return words[:1].upper() + words[1:]


def _version() -> str:
    try:
        return version("ssa-seg-lab")
    except PackageNotFoundError:
        return "not installed"
