"""What one call of the command line asks for, and in which surroundings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from experiments.declare.load import load_registry
from experiments.declare.profile import Profile
from experiments.declare.registry import ExperimentRegistry
from experiments.declare.table import Table
from experiments.errors import NotYetError, UnknownNameError
from experiments.plan.cost import GpuHours
from experiments.plan.plan import PastCosts, Plan, make_plan
from experiments.plan.resolve import Resolver
from experiments.plan.stored_rows import StoredResolver, StoredRows
from experiments.store.exports import exported_seeds
from experiments.store.promises import read_promise
from experiments.store.store import Store
from experiments.store.workspace import DEFAULT_DATA_ROOT, Workspace


@dataclass(frozen=True)
class Request:
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
    launcher: str = "local"  # where runs go: "local" or "slurm"
    cluster: tuple[tuple[str, str], ...] = ()  # what is asked of it beside its own defaults
    log: str | None = None  # service that runs are followed with
    asked: bool = True  # the seeds were; else see looking_at

    @property
    def device_here(self) -> str:
        """Where this process itself computes: the device is a node's where runs go to a cluster."""
        return "cpu" if self.launcher == "slurm" else self.device

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

    def tables(self, item: str) -> list[Table]:
        """The tables that ``item`` names.

        Raises:
            NotYetError: an item of the paper that is not in the registry.
            UnknownNameError: anything else that is not in the registry.
        """
        if item == "all":
            tables = self.registry.tables.values()
            return [table for table in tables if table.is_for(self.profile.name)]
        if item in self.registry.tables:
            return [self.registry.tables[item]]
        known = ", ".join(self.registry.tables)
        paper = self.registry.paper
        if item in paper.items:
            kind = "figure" if item in paper.figures else "table"
            raise NotYetError(
                f"{item} is a {kind} of the paper, but it is not in the registry yet. "
                f"There are: {known}, all."
            )
        raise UnknownNameError(
            "item", item, dict.fromkeys([*self.registry.tables, *paper.items, "all"])
        )

    @property
    def costs(self) -> PastCosts:
        """What runs took: the user's own, for kinds that he has not run the shipped ones."""
        profiles = self.registry.profiles.values()
        declared = {each.name: each.run_s for each in profiles if each.run_s is not None}
        return PastCosts(self.stores, declared)

    def plan(self, tables: Sequence[Table]) -> Plan:
        """What there is and what is to be done."""
        costs, hours = self.costs, self.hours
        return make_plan(tables, self.resolver, self.seeds, self.store, costs, hours)

    def stored_plan(self, tables: Sequence[Table]) -> Plan:
        """What there is, also of rows whose data or weights are not here; nothing is to be done."""
        resolver = StoredResolver(
            self.registry,
            self.profile,
            self.workspace,
            self.deviations,
            stored=StoredRows([self.store]),
        )
        alike: dict[tuple[int, ...], list[Table]] = {}  # a run that several have is looked up once
        for table in tables:
            alike.setdefault(self.looking_at(table).seeds, []).append(table)
        planned = {
            each.table.name: each
            for seeds, some in alike.items()
            for each in make_plan(some, resolver, seeds, self.store, to_train=False).tables
        }
        return Plan(tuple(planned[table.name] for table in tables))

    def looking_at(self, table: Table) -> Request:
        """This call with the seeds that it shows of a table which nothing is trained for.

        They are those that were asked for; else those of the table's last export, so that eight
        seeds do not turn into the profile's three without a word; else the profile's, also of a
        table that `decide` has chosen seeds for.
        """
        name, results = self.profile.name, self.workspace.results
        if self.asked or read_promise(results, table.name, name) is not None:
            return self
        return replace(self, seeds=exported_seeds(results, table.name, name) or self.seeds)


def stored_request(
    profile: str,
    seeds: int | Sequence[int] | None,
    results: Path,
    data_root: Path = DEFAULT_DATA_ROOT,
    registry: Sequence[Path] = (),
) -> Request:
    """A request that only looks at what is stored.

    Args:
        profile: its name.
        seeds: how many or which; None: those of a table's last export, else the profile's.
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
    return Request(loaded, chosen, wanted, workspace, 1, "cpu", asked=seeds is not None)


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
