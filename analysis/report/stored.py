"""Tie stored runs to the rows of tables where the data they were made with is not here.

A run's identity contains the digests of its data and weights. Where these are absent, rows are
blocked; but a record says which digests it was made with, and that is enough to find it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from experiments.records import Record
from experiments.resolve import Blocked, Resolver
from experiments.schema import Row, RunSpec, Table

#: fields of a spec that are not known where data or weights are absent
_UNKNOWN = ("dataset_digest", "dataset_settings", "weights_sha256", "deviations")


@dataclass(frozen=True)
class StoredResolver(Resolver):
    """Resolves a blocked row with the digests of a record, if that gives the record's run.

    Args:
        stored: run id → record, of every store that is read.
    """

    stored: Mapping[str, Record] = field(default_factory=dict)

    def resolve_seeds(
        self, table: Table, row: Row, seeds: Iterable[int]
    ) -> list[RunSpec | Blocked]:
        """Seed by seed: one may have a record where another is blocked."""
        plain = Resolver(self.registry, self.profile, self.workspace, self.deviations)
        return [self._stored(found) for found in plain.resolve_seeds(table, row, seeds)]

    def resolve(self, table: Table, row: Row, seed: int) -> RunSpec | Blocked:
        """The run behind one row and seed; a blocked one that has a record counts as found."""
        return self._stored(super().resolve(table, row, seed))

    def _stored(self, found: RunSpec | Blocked) -> RunSpec | Blocked:
        draft = None if isinstance(found, RunSpec) else found.draft
        if draft is None:
            return found
        tried = set()
        for record in self.stored.values():
            spec = record.spec
            if (spec.profile, spec.dataset) != (draft.profile, draft.dataset):
                continue
            if not draft.dataset_settings.items() <= spec.dataset_settings.items():
                continue  # the same data set made with something else
            known = {name: getattr(spec, name) for name in _UNKNOWN}
            if draft.weights is None:
                known.pop("weights_sha256")
            if str(known) in tried:
                continue
            tried.add(str(known))
            candidate = draft.model_copy(update=known)
            if candidate.run_id in self.stored:
                return candidate
        return found
