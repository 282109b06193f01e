"""One call of the command line: what was asked for, and how it is carried out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from rich.console import Console

from experiments import console as show
from experiments.assemble import TableResult, assemble
from experiments.cost import GpuHours
from experiments.count_table import count_table, export_counts
from experiments.counts import Counter
from experiments.data import locate
from experiments.environment import cpu_count
from experiments.errors import NotYetError, UnknownNameError
from experiments.estimate import Estimate
from experiments.export import export
from experiments.launch import Inputs, LocalOptions, Outcome, launch
from experiments.plan import PastCosts, Plan, kind_of, make_plan
from experiments.registry import ExperimentRegistry, load_registry, paper_items
from experiments.resolve import Resolver
from experiments.schema import DataChoice, Profile, RunSpec, Table
from experiments.store import Store
from experiments.workspace import DEFAULT_DATA_ROOT, Workspace

COMPLETE, FAILED, INCOMPLETE = 0, 1, 3


@dataclass(frozen=True)
class Call:
    """The options that every verb shares."""

    registry: ExperimentRegistry
    profile: Profile
    seeds: tuple[int, ...]
    workspace: Workspace
    jobs: int
    device: str
    deviations: tuple[str, ...] = ()
    rows: str | None = None  # pattern of the rows to train; None: all
    gpus: int = 1  # that share one run
    accumulation: int | None = None  # micro-batches a step; None: as the profile has it
    remake_stale: bool = False  # train runs anew whose code has changed; their records are kept

    @property
    def resolver(self) -> Resolver:
        """Rows to runs, under this call's profile."""
        return Resolver(
            self.registry,
            self.profile,
            self.workspace,
            self.deviations,
            accumulation=self.accumulation,
            processes=self.gpus,
        )

    @property
    def store(self) -> Store:
        """The user's results."""
        return Store(self.workspace.results)

    @property
    def reference(self) -> Store | None:
        """The shipped results, unless they are what is being made."""
        if self.workspace.results.resolve() == self.workspace.reference.resolve():
            return None
        return Store(self.workspace.reference)

    @property
    def stores(self) -> list[Store]:
        """The user's results, then the shipped ones, if these are others."""
        return [self.store, *([self.reference] if self.reference else [])]

    @property
    def hours(self) -> GpuHours | None:
        """Estimates what runs will cost, where the profile says on what basis."""
        return GpuHours(self.registry, self.profile.cost) if self.profile.cost else None

    @property
    def counter(self) -> Counter:
        """Counts networks and remembers the counts among the results."""
        return Counter(self.registry, self.workspace.results / "complexity")

    def tables(self, item: str) -> list[Table]:
        """The tables that ``item`` names.

        Raises:
            NotYetError: an item of the paper that is not in the registry.
            UnknownNameError: anything else that is not in the registry.
        """
        if item == "all":
            return list(self.registry.tables.values())
        if item in self.registry.tables:
            return [self.registry.tables[item]]
        known = ", ".join(self.registry.tables)
        if item in paper_items():
            kind = "figure" if item.startswith("figure") else "table"
            raise NotYetError(
                f"{item} is a {kind} of the paper, but it is not in the registry yet. "
                f"There are: {known}, all."
            )
        raise UnknownNameError("item", item, [*self.registry.tables, *paper_items(), "all"])

    @property
    def costs(self) -> PastCosts:
        """What runs took: the user's own and, for kinds that he has not run, the shipped ones."""
        return PastCosts(self.stores)

    def plan(self, tables: list[Table]) -> Plan:
        """What there is and what is to be done."""
        costs, hours = self.costs, self.hours
        return make_plan(tables, self.resolver, self.seeds, self.store, costs, hours)

    def count(self, item: str, console: Console) -> int:
        """Count the paper-size networks of a table; no data, no training. Returns the exit code."""
        for table in self.tables(item):
            result = count_table(table, self.counter)
            paths = export_counts(result, self.workspace.results / "tables")
            show.show_counts(console, result)
            show.show_paths(console, paths)
        return COMPLETE

    def run(
        self, item: str, console: Console, *, dry: bool = False, style: str | None = None
    ) -> int:
        """Plan, train what is missing, assemble, print and export; returns the exit code.

        Args:
            item: a table, or all.
            console: where tables are printed.
            dry: only show the plan.
            style: "paper": in the paper's own columns as well.

        Raises:
            UnknownNameError: no row of ``item`` fits the pattern of this call.
        """
        tables = self.tables(item)
        rows = [row.id for table in tables for row in table.rows]
        if self.rows is not None and not any(fnmatchcase(row, self.rows) for row in rows):
            raise UnknownNameError(f"row of {item}", self.rows, rows)
        plan = self.plan(tables)
        asked = plan.only(self.rows)
        if dry:
            show.show_plan(console, asked, self.jobs, self.hours)
            return COMPLETE
        if self.remake_stale and self._set_stale_aside(asked):
            asked = self.plan(tables).only(self.rows)
        outcomes = self.train(asked) if asked.to_do else []
        if outcomes:
            plan = self.plan(tables)
        for table in tables:
            self._table(table, plan, console, style)
        if any(outcome.end == "failed" for outcome in outcomes):
            return FAILED
        return COMPLETE if plan.only(self.rows).complete else INCOMPLETE

    def _set_stale_aside(self, plan: Plan) -> int:
        stale = [run.spec.run_id for run in plan.runs if run.state == "stale"]
        return sum(self.store.set_whole_aside(run_id) is not None for run_id in stale)

    def train(self, plan: Plan) -> list[Outcome]:
        """Train the missing runs of a plan and show how far they are."""
        console = show.make_console(stderr=True)
        console.print(show.plan_sentence(plan, self.jobs))
        for run in plan.to_do:
            if run.state == "damaged":
                console.print(f"{run.reason} It is set aside and the run is made again.")
        options = LocalOptions(
            jobs=self.jobs,
            device=self.device,
            num_devices=_num_devices(self.device),
            loading=self.profile.loading,
            processes=self.gpus,
            packed=self.workspace.cache / "packed" if self.profile.loading.packed else None,
        )
        kinds = {run.spec.run_id: kind_of(run.spec) for run in plan.to_do}
        with show.ProgressWatcher(console, Estimate(kinds, self.costs.past, self.jobs)) as watcher:
            return launch(plan.to_do, self.store, self._inputs_of, options, watcher)

    def _inputs_of(self, spec: RunSpec) -> Inputs:
        choice = DataChoice(name=spec.dataset, settings=spec.dataset_settings)
        weights = None
        if spec.weights is not None:
            from ssa.weights import require_weights

            weights = require_weights(spec.weights, self.workspace.weights)
        return Inputs(locate(choice, self.workspace).root, weights, self.registry.folders)

    def assembled(self, tables: list[Table]) -> list[TableResult]:
        """The tables with what is stored now; nothing is trained."""
        plan = self.plan(tables)
        return [self._assembled(table, plan) for table in tables]

    def _assembled(self, table: Table, plan: Plan) -> TableResult:
        return assemble(table, plan, self.resolver, self.store, self.reference, self.counter)

    def export(self, item: str, console: Console, style: str | None = None) -> int:
        """Assemble, print and export from what is stored; trains nothing. Returns the exit code."""
        tables = self.tables(item)
        plan = self.plan(tables)
        for table in tables:
            self._table(table, plan, console, style)
        return COMPLETE if plan.complete else INCOMPLETE

    def _table(self, table: Table, plan: Plan, console: Console, style: str | None) -> TableResult:
        result = self._assembled(table, plan)
        paths = export(result, self.workspace.results / "tables", style)
        show.show_table(console, result, style)
        show.show_paths(console, paths)
        return result


def stored_call(
    profile: str,
    seeds: int | Sequence[int] | None,
    results: Path,
    data_root: Path = DEFAULT_DATA_ROOT,
    registry: Sequence[Path] = (),
) -> Call:
    """A call that only looks at what is stored.

    Args:
        profile: its name.
        seeds: how many or which; None: the profile's.
        results: folder of results.
        data_root: folder of data sets.
        registry: the user's own folders.

    Raises:
        UnknownNameError: no such profile.
        RegistryError: a declarative file that is not valid.
    """
    loaded = load_registry(registry)
    chosen = loaded.profile(profile)
    count = chosen.seeds if seeds is None else seeds
    wanted = tuple(range(count)) if isinstance(count, int) else tuple(count)
    workspace = Workspace(results=results.resolve(), data_root=data_root.resolve())
    return Call(loaded, chosen, wanted, workspace, 1, "cpu")


def without_weights(profile: Profile) -> tuple[Profile, tuple[str, ...]]:
    """The profile started from scratch, and what that deviates from its protocol."""
    if profile.training is not None and profile.training.from_scratch:
        return profile, ()
    deviation = f"from scratch, where {profile.name} starts from pretrained weights"
    changes = {"from_scratch": True, "compares_with_paper": False}
    return profile.model_copy(update=changes), (deviation,)


def parse_seeds(text: str | None, profile: Profile) -> tuple[int, ...]:
    """``"3"`` → 0, 1, 2; ``"0,2,7"`` → those; None → the profile's number.

    Raises:
        ValueError: neither a number nor a list of numbers.
    """
    if text is None:
        return tuple(range(profile.seeds))
    if re.fullmatch(r"\d+", text) and int(text) > 0:
        return tuple(range(int(text)))
    if re.fullmatch(r"\d+(,\d+)+,?|\d+,", text):
        return tuple(dict.fromkeys(int(part) for part in text.split(",") if part))
    raise ValueError(
        f"--seeds takes a number of seeds (3) or a list of them (0,2,7), not '{text}'."
    )


def seeds_option(seeds: Sequence[int]) -> str:
    """What ``--seeds`` takes for these: their number where they are the first ones, else a list."""
    if tuple(seeds) == tuple(range(len(seeds))):
        return str(len(seeds))
    return ",".join(map(str, seeds)) + ("," if len(seeds) == 1 else "")


def choose_device(name: str) -> str:
    """``auto`` → cuda where there is a device, else cpu.

    Raises:
        ValueError: cuda is asked for where there is none.
    """
    if name == "cpu":
        return name
    import torch

    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise ValueError(
            "--device cuda was given, but torch sees no CUDA device; try --device cpu."
        )
    return "cuda" if there else "cpu"


def choose_jobs(jobs: int | None, device: str, gpus: int = 1) -> int:
    """As given; else one run each ``gpus`` GPUs, or one a processor (at most eight) on a CPU.

    Raises:
        ValueError: more GPUs a run than there are.
    """
    if gpus > 1 and device != "cuda":
        raise ValueError(
            f"--gpus {gpus} was given, but this call trains on the CPU; leave --gpus out, or give "
            "it with --device cuda on a machine with as many GPUs (`./run_all.sh doctor`)."
        )
    devices = _num_devices(device)
    if gpus > devices:
        raise ValueError(f"--gpus {gpus} was given, but torch sees only {devices} of them.")
    if jobs is not None:
        return jobs
    return devices // gpus if device == "cuda" else min(cpu_count(), 8)


def _num_devices(device: str) -> int:
    if device != "cuda":
        return 1
    import torch

    return torch.cuda.device_count()
