"""The rate of a row, chosen by its candidates' scores on a split that decides nothing else."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

from experiments.declare.table import Row, at_rate_of
from experiments.store.records import Record


@dataclass(frozen=True)
class Candidate:
    """A rate that can be chosen."""

    row: Row
    records: Mapping[int, Record]  # by their seeds

    def has(self, seeds: Collection[int]) -> bool:
        """Whether there is a finished run of every seed."""
        return set(seeds) <= self.records.keys()


def choose(row: Row, candidates: Sequence[Candidate], seeds: Collection[int]) -> Row:
    """``row`` at the rate of the candidate with the highest mean mIoU over ``seeds``.

    Every candidate :meth:`Candidate.has` them: no rate is left out, and none has more chances than
    another. Of equal ones the first wins. The row's footnote says what was chosen, and from which
    scores.

    Args:
        row: that chooses.
        candidates: its ``rate_from``.
        seeds: over which the mean is taken.
    """
    scores = [mean(each.records[seed].scores.miou for seed in seeds) for each in candidates]
    best = scores.index(max(scores))
    told = _told(row, candidates, scores, best, seeds)
    return at_rate_of(row, candidates[best].row).model_copy(update={"reading": told})


def _told(
    row: Row,
    candidates: Sequence[Candidate],
    scores: Sequence[float],
    best: int,
    seeds: Collection[int],
) -> str:
    """What was chosen, from which scores, in words."""
    rates = [float(each.row.training.lr_times or 0.0) for each in candidates]
    spec = candidates[best].records[min(seeds)].spec
    of_each = "one seed" if len(seeds) == 1 else f"the mean of {len(seeds)} seeds"
    listed = ", ".join(f"{score:.2f} at {rate:g}" for rate, score in zip(rates, scores))
    sentence = (
        f"Its rate is {rates[best]:g} times the profile's, {spec.training.optimizer.lr:.3g}: the "
        f"best of {len(rates)} on {spec.evaluation.split}, where nothing else is scored (mIoU, "
        f"{of_each}: {listed}). Every row that chooses had the same number of runs to choose from."
    )
    if rates[best] in (min(rates), max(rates)):
        sentence += " It is the last of the rates that were tried: a better one may lie beyond."
    return f"{row.reading.strip()} {sentence}" if row.reading else sentence
