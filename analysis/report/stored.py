"""Tie stored runs to the rows of tables where the data they were made with is not here.

A run's identity contains the digest of its data. Where the data set is absent, rows are blocked;
but a record says which digest it was made with, and that is enough to find it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from experiments.data import Located
from experiments.records import Record
from experiments.resolve import Blocked, Resolver, make_spec, resolve_classifier
from experiments.schema import DataChoice, ModelCard, Row, RunSpec, Table


@dataclass(frozen=True)
class StoredResolver(Resolver):
    """Resolves a blocked row with the data and weights of a record, if that gives its run.

    Args:
        stored: run id → record, of every store that is read.
    """

    stored: Mapping[str, Record] = field(default_factory=dict)

    def resolve_seeds(
        self, table: Table, row: Row, seeds: Iterable[int]
    ) -> list[RunSpec | Blocked]:
        """Seed by seed: one may have a record where another is blocked."""
        return [self.resolve(table, row, seed) for seed in seeds]

    def resolve(self, table: Table, row: Row, seed: int) -> RunSpec | Blocked:
        """The run behind one row and seed; a blocked one that has a record counts as found."""
        found = super().resolve(table, row, seed)
        if not isinstance(found, Blocked):
            return found
        if self.unfit(table, row):
            return found
        choice, card = self.data_of(table, row), self.model_of(table, row)
        candidates = self._candidates(choice, card)
        for located, weights, sha256, deviations in candidates:
            spec = make_spec(
                card,
                classifier=resolve_classifier(row, self.profile),
                model_overrides=row.model_overrides,
                data=located,
                profile=self.profile,
                seed=seed,
                weights=weights,
                weights_sha256=sha256,
                deviations=deviations,
            )
            if spec.run_id in self.stored:
                return spec
        return found

    def _candidates(
        self, choice: DataChoice, card: ModelCard
    ) -> Iterable[tuple[Located, str | None, str | None, tuple[str, ...]]]:
        """Data, weights and deviations of the records that may be of a row, each once."""
        seen = set()
        for record in self.stored.values():
            spec = record.spec
            if (spec.profile, spec.dataset, spec.model) != (
                self.profile.name,
                choice.name,
                card.name,
            ):
                continue
            key = (spec.dataset_digest, spec.weights_sha256, spec.deviations)
            if key in seen:
                continue
            seen.add(key)
            located = Located(
                name=spec.dataset,
                root=Path(),
                digest=spec.dataset_digest,
                settings=spec.dataset_settings,
                working_size=choice.working_size,
                num_classes=spec.num_classes,
                class_names=record.class_names,
            )
            yield located, spec.weights, spec.weights_sha256, spec.deviations
