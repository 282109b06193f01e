"""What a text names as the source of a number, looked up in what is stored (docs/prose.md)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cache

from experiments.declare.lookup import find_row
from experiments.errors import SsaError, UnknownNameError
from experiments.judge.assemble import TableResult, assemble
from experiments.judge.claims import Evidence
from experiments.judge.statistics import ScoredRun, gain_of
from experiments.judge.tables import counter_of
from experiments.plan.plan import PlannedTable
from experiments.plan.request import Request
from experiments.show.quantities import CLAIM, Quantity, gain_quantity, quantities

OVER = " over "
EXTREMES = {"lowest": min, "highest": max}


class SourceError(SsaError):
    """A source that a text names and that is none; the sentence says which and why."""


@dataclass
class Sources:
    """Numbers by name, of tables that are put together when first asked for.

    A table is judged over the seeds that its last export was made with, else the profile's.

    Args:
        request: folders, registry, and the profile of names that give none.
    """

    request: Request
    _assembled: dict[tuple[str, str], tuple[PlannedTable, TableResult]] = field(
        default_factory=dict
    )

    def quantity(self, reference: str) -> Quantity:
        """The number behind ``[-]TABLE[@PROFILE]/ROW/QUANTITY``; a minus asks for its negative.

        ROW is a row's id or printed label, ``claim:ID``, ``ROW over ROW``, or ``lowest PATTERN``
        and ``highest PATTERN`` of the rows whose id fits.

        Raises:
            SourceError: the name is none, or of nothing that a text can quote.
        """
        negative, name = reference.startswith("-"), reference.removeprefix("-").strip()
        match = re.fullmatch(r"([^/@]+)(?:@([^/]+))?/(.+)/([^/]+)", name)
        if match is None:
            raise SourceError(
                f"'{reference}' is not TABLE/ROW/QUANTITY, as in table8/full/gain or "
                "table8@camvid/claim:parts-help/value."
            )
        table, profile, row, quantity = (part and part.strip() for part in match.groups())
        try:
            found = self._look_up(table, profile, row, quantity)
            return found.negated() if negative else found
        except ValueError as error:
            raise SourceError(f"'{reference}' is the word '{error}', not a number.") from None
        except SourceError:
            raise
        except SsaError as error:
            raise SourceError(f"'{reference}': {error}") from None

    def table(self, name: str, profile: str | None = None) -> TableResult:
        """A table as it is stored now.

        Raises:
            UnknownNameError: no such table or profile.
        """
        return self._table(name, profile)[1]

    @property
    def used(self) -> list[TableResult]:
        """The tables that have been asked for."""
        return [result for _, result in self._assembled.values()]

    def _look_up(self, table: str, profile: str | None, row: str, name: str) -> Quantity:
        planned, result = self._table(table, profile)
        if row.startswith(CLAIM):
            return _named(result, row, name)
        word, _, pattern = row.partition(" ")
        labels = {" ".join(each.label.casefold().split()) for each in result.table.rows}
        if row.casefold() not in labels:  # a label may have these words in it
            if word in EXTREMES and pattern:
                return self._extreme(result, word, pattern, name)
            if OVER in row:
                return self._gain_over(planned, result, row, name)
        return _named(result, find_row(result.table, row).id, name)

    def _table(self, name: str, profile: str | None) -> tuple[PlannedTable, TableResult]:
        request = self.request
        chosen = request.registry.profile(profile) if profile else request.profile
        if (name, chosen.name) not in self._assembled:
            table = request.registry.table(name)
            own = replace(request, profile=chosen, seeds=tuple(range(chosen.seeds)), asked=False)
            (planned,) = own.stored_plan([table]).tables
            counter = counter_of(own)
            known = {row.id: counter.known(table, row) for row in table.rows}
            counts = {row: count for row, count in known.items() if count is not None}
            result = assemble(planned, own.store, own.reference, counts)
            self._assembled[name, chosen.name] = (planned, result)
        return self._assembled[name, chosen.name]

    def _gain_over(
        self, planned: PlannedTable, result: TableResult, rows: str, name: str
    ) -> Quantity:
        """The gain of a row over one that is not its baseline."""
        if name != "gain":
            raise SourceError(f"'{rows}' has a gain and nothing else, not '{name}'.")
        first, second = (find_row(result.table, row).id for row in rows.split(OVER, 1))
        records = {row.row.id: row.records for row in planned.rows}
        store = self.request.store
        scored = cache(lambda run: ScoredRun(store.read_areas(run)))
        evidence = Evidence(planned.table, records, scored, planned.sequential)
        compared = [row for row in result.rows if row.row.id in (first, second)]
        stale = dict.fromkeys(why for row in compared for why in row.stale)
        if evidence.lacking((first, second)) or first == second:
            return gain_quantity(None)
        if reason := evidence.incomparable((first, second)):
            raise SourceError(f"{reason}.")
        gain = gain_of(evidence.difference((first, second)).estimate)
        return replace(gain_quantity(gain), stale=tuple(stale))

    @staticmethod
    def _extreme(result: TableResult, word: str, pattern: str, name: str) -> Quantity:
        """The lowest or highest of the rows whose id fits, without interval."""
        rows = [row.row.id for row in result.rows if fnmatchcase(row.row.id, pattern)]
        if not rows:
            ids = [row.row.id for row in result.rows]
            raise UnknownNameError(f"row of {result.table.name}", pattern, ids)
        every = [_named(result, row, name) for row in rows]
        numbers = [(one.value, one) for one in every if isinstance(one.value, int | float)]
        if not numbers:
            return every[0]
        _, chosen = EXTREMES[word](numbers, key=lambda pair: pair[0])
        stale = tuple(dict.fromkeys(why for one in every for why in one.stale))
        return replace(chosen, low=None, high=None, span="", stale=stale)


def _named(result: TableResult, place: str, name: str) -> Quantity:
    named = quantities(result)
    if f"{place}/{name}" in named:
        return named[f"{place}/{name}"]
    known = [key.rpartition("/")[2] for key in named if key.startswith(f"{place}/")]
    if known:
        raise UnknownNameError(f"number of {result.table.name}/{place}", name, known)
    claims = [f"{CLAIM}{claim.id}" for claim in result.table.claims]
    raise UnknownNameError(f"claim of {result.table.name}", place, claims)


def expand(reference: str) -> Iterator[str]:
    """``table9/{lg,full}/gain`` → one name each; braces as in a shell, several make every pair."""
    match = re.search(r"\{([^{}]*)\}", reference)
    if match is None:
        yield reference.strip()
        return
    for choice in match.group(1).split(","):
        yield from expand(reference[: match.start()] + choice + reference[match.end() :])
