"""Which stored runs belong to a row, also where the data or weights that they saw are not here.

A run's identity holds the digests of its data and weights, so a row that lacks them is blocked and
all that is known of its run is a draft (:class:`experiments.plan.resolve.Blocked`). A record says
which digests it was made with: if these turn the draft into that record's run, it is the row's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cache, cached_property
from typing import Any, NamedTuple

from experiments.declare.run_spec import RunSpec
from experiments.declare.table import Row, Table
from experiments.errors import CorruptRecordError, StoreError
from experiments.plan.resolve import Blocked, Resolver
from experiments.store.records import Record
from experiments.store.store import Store

#: (profile, model, data set): what a draft must share with a run at the least
_Kind = tuple[str, str, str]
#: (of the data, of the weights)
_Digests = tuple[str, str | None]


class StoredRows:
    """Finds the runs of drafts in some stores, which are read when first asked.

    Args:
        stores: of several runs that a draft can be, those of the first store are preferred, and
            in it the newest.
    """

    def __init__(self, stores: Sequence[Store]) -> None:
        self._stores = stores
        self._read = cache(self._whole)

    @property
    def profiles(self) -> set[str]:
        """Names of the profiles that have a run."""
        return {profile for profile, _, _ in self._index[1]}

    def runs(self, draft: RunSpec, seeds: Collection[int] | None = None) -> list[RunSpec]:
        """The stored runs, whole or not, that ``draft`` can be; the preferred first.

        Args:
            draft: a run without the digests of its data or weights, or without either.
            seeds: which ones; None: all that are stored.
        """
        places, kinds = self._index
        found: dict[str, RunSpec] = {}
        for digests, there in kinds.get((draft.profile, draft.model, draft.dataset), {}).items():
            wanted = there if seeds is None else there.intersection(seeds)
            for seed in wanted:
                spec = _completed(draft, digests, seed)
                if spec.run_id in places:
                    found[spec.run_id] = spec
        return sorted(found.values(), key=lambda spec: places[spec.run_id])

    def find(self, draft: RunSpec) -> Record | None:
        """The whole record that is preferred of those of ``draft`` and its seed."""
        for spec in self.runs(draft, (draft.seed,)):
            if record := self._read(spec.run_id):
                return record.model_copy(update={"spec": spec})  # thousands share a row's config
        return None

    def _whole(self, run_id: str) -> Record | None:
        for store in self._stores:
            try:
                record = store.read(run_id)
            except (CorruptRecordError, StoreError):
                continue
            if record is not None:
                return record
        return None

    @cached_property
    def _index(self) -> tuple[dict[str, int], dict[_Kind, dict[_Digests, set[int]]]]:
        """Run ids with their places in the order of preference; digests and seeds by kind."""
        places: dict[str, int] = {}
        kinds: dict[_Kind, dict[_Digests, set[int]]] = {}
        for store in self._stores:
            for run in sorted(_glance(store), key=lambda run: run[:2], reverse=True):
                places.setdefault(run.run_id, len(places))
                kinds.setdefault(run.kind, {}).setdefault(run.digests, set()).add(run.seed)
        return places, kinds


class _Glanced(NamedTuple):
    """What an unchecked record says of its run; the run itself is told by its identity."""

    finished: str
    run_id: str
    kind: _Kind
    digests: _Digests
    seed: int


def _glance(store: Store) -> Iterator[_Glanced]:
    for run_id in store.run_ids():
        document = store.peek(run_id) or {}
        try:
            spec = document["spec"]
            kind = (spec["profile"], spec["model"], spec["dataset"])
            digests = (spec["dataset_digest"], spec["weights_sha256"])
            yield _Glanced(document["finished"], run_id, kind, digests, spec["seed"])
        except (KeyError, TypeError):
            continue  # damaged


def _completed(draft: RunSpec, digests: _Digests, seed: int) -> RunSpec:
    """The draft with a seed and the digests that it lacks."""
    data, weights = digests
    lacking: dict[str, Any] = {"seed": seed}
    if not draft.dataset_digest:
        lacking["dataset_digest"] = data
    if draft.weights is not None and draft.weights_sha256 is None:
        lacking["weights_sha256"] = weights
    return draft.model_copy(update=lacking)


@dataclass(frozen=True)
class StoredResolver(Resolver):
    """Resolves a row whose data or weights are absent to its run that is stored.

    Args:
        stored: where it is looked for.
    """

    _: KW_ONLY
    stored: StoredRows

    def resolve_seeds(
        self, table: Table, row: Row, seeds: Iterable[int]
    ) -> list[RunSpec | Blocked]:
        """Seed by seed: one may have a record where another is blocked."""
        plain = Resolver(
            self.registry,
            self.profile,
            self.workspace,
            self.deviations,
            self.accumulation,
            self.processes,
        )
        return [self._found(found) for found in plain.resolve_seeds(table, row, seeds)]

    def resolve(self, table: Table, row: Row, seed: int) -> RunSpec | Blocked:
        """The run behind one row and seed; a blocked one that has a record counts as found."""
        return self._found(super().resolve(table, row, seed))

    def _found(self, found: RunSpec | Blocked) -> RunSpec | Blocked:
        if isinstance(found, RunSpec) or found.draft is None:
            return found
        record = self.stored.find(found.draft)
        return record.spec if record else found
