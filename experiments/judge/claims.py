"""Whether a table's claims hold, in the profile that was run: a word, an interval and why.

Every kind of claim comes down to numbers that are drawn again with the bootstrap of
:mod:`experiments.judge.statistics`, the same replicates for all rows of a table. docs/claims.md
says what each kind tests.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from experiments.declare.claims import (
    BestClaim,
    Claim,
    GainClaim,
    Pair,
    ReachClaim,
    ShareClaim,
    Stated,
    TrendClaim,
    WithinClaim,
)
from experiments.declare.table import Table
from experiments.judge.comparability import comparable_seeds
from experiments.judge.statistics import (
    BOOTSTRAP_SEED,
    CONFIDENCE,
    REPLICATES,
    ScoredRun,
    interval,
    median_draws,
    median_miou,
    shared_seeds,
)
from experiments.store.records import Record

Word = Literal["holds", "does not hold", "undecided"]
Unit = Literal["points", "share of the iterations", "share of the gain", "points a unit"]


@dataclass(frozen=True)
class ClaimResult:
    """What the runs of one profile say about one claim."""

    claim: Stated
    word: Word
    reason: str
    unit: Unit | None = None  # of the numbers; None: there are none
    value: float | None = None  # infinite where a level is never reached
    low: float | None = None  # of the 95 % interval
    high: float | None = None
    num_seeds: int = 0


@dataclass(frozen=True)
class Difference:
    """A row's median mIoU over another's, with what is drawn of it."""

    row: str
    over: str
    value: float  # percent points
    draws: NDArray[np.float64]  # (R,)
    num_seeds: int


@dataclass(frozen=True)
class Evidence:
    """The finished runs behind a table's rows.

    Args:
        table: whose claims are judged.
        records: row id → seed → record.
        scored: areas of a run by its id, with their draws.
    """

    table: Table
    records: Mapping[str, Mapping[int, Record]]
    scored: Callable[[str], ScoredRun]

    def seeds(self, rows: Sequence[str]) -> list[int]:
        """The seeds of which every one of ``rows`` has a run."""
        return shared_seeds(*(self.records.get(row, {}) for row in rows))

    def same(self, pair: Pair) -> bool:
        """Whether both rows of a pair are the same run in this profile."""
        first, second = (
            {seed: record.run_id for seed, record in self.records.get(row, {}).items()}
            for row in pair
        )
        return bool(first) and first == second

    def lacking(self, pair: Pair) -> list[str]:
        """Which rows of a pair keep it from being compared; [] if none does."""
        if self.seeds(pair):
            return []
        return [row for row in pair if not self.records.get(row)] or list(pair)

    def images(self, run_id: str) -> tuple[str, ...]:
        """Names of the images that a run was scored on."""
        return self.scored(run_id).names

    def incomparable(self, pair: Pair) -> str | None:
        """Why the runs of a pair cannot be set against each other; None if they can."""
        first, second = (self.records.get(row, {}) for row in pair)
        reason = comparable_seeds(first, second, self.images)
        return f"{pair[0]} and {pair[1]} cannot be compared: {reason}" if reason else None

    def difference(self, pair: Pair, seeds: Sequence[int] | None = None) -> Difference:
        """The gain of a pair's first row over its second, over ``seeds`` or all shared ones."""
        seeds = self.seeds(pair) if seeds is None else seeds
        ours, theirs = (
            [self.scored(self.records[row][seed].run_id) for seed in seeds] for row in pair
        )
        return difference(pair, ours, theirs)


def difference(pair: Pair, ours: Sequence[ScoredRun], theirs: Sequence[ScoredRun]) -> Difference:
    """The gain of a pair's first row over its second, from their runs of the same seeds."""
    return Difference(
        row=pair[0],
        over=pair[1],
        value=median_miou(ours) - median_miou(theirs),
        draws=median_draws(ours) - median_draws(theirs),
        num_seeds=len(ours),
    )


@dataclass(frozen=True)
class Trend:
    """The straight line through gains, by least squares: whether it rises, and how steeply."""

    word: Word
    slope: float  # percent points a unit of what grows
    low: float  # of the 95 % interval
    high: float


def trend(gains: Sequence[Difference], at: Sequence[float]) -> Trend:
    """The line through ``gains``, all of the same seeds, against where they are taken.

    Args:
        gains: at two different places at least.
        at: their places.
    """
    away = np.array(at) - np.mean(at)
    weights = away / (away**2).sum()
    low, high = interval(weights @ np.stack([gain.draws for gain in gains]))
    slope = float(weights @ [gain.value for gain in gains])
    return Trend(_word(low, high, 0.0), slope, low, high)


def judge(evidence: Evidence) -> tuple[ClaimResult, ...]:
    """A verdict on every claim of a table."""
    return tuple(_judge(claim, evidence) for claim in evidence.table.claims)


def _judge(claim: Claim, evidence: Evidence) -> ClaimResult:
    match claim:
        case GainClaim():
            pairs = claim.pairs or _over_baselines(evidence.table)
            return _all_above(claim, pairs, claim.at_least, evidence)
        case BestClaim():
            return _all_above(claim, _others(claim, evidence.table), 0.0, evidence)
        case WithinClaim():
            return _all_within(claim, evidence)
        case ReachClaim():
            return _reaches(claim, evidence)
        case ShareClaim():
            return _is_share(claim, evidence)
        case TrendClaim():
            return _grows(claim, evidence)


def _over_baselines(table: Table) -> tuple[Pair, ...]:
    pairs = ((row.id, table.baseline_of(row).id) for row in table.rows)
    return tuple(pair for pair in pairs if pair[0] != pair[1])


def _others(claim: BestClaim | WithinClaim, table: Table) -> tuple[Pair, ...]:
    others = claim.among or tuple(row.id for row in table.rows if row.id != claim.row)
    if isinstance(claim, WithinClaim):
        return tuple((other, claim.row) for other in others)
    return tuple((claim.row, other) for other in others)


def _compared(
    claim: Stated, pairs: Sequence[Pair], evidence: Evidence
) -> list[Difference] | ClaimResult:
    """Every pair's difference, each distinct one once; or why the claim stays undecided."""
    different = [pair for pair in pairs if not evidence.same(pair)]
    if not different:
        return ClaimResult(claim, "undecided", "the rows are one and the same run in this profile")
    lacking = dict.fromkeys(row for pair in different for row in evidence.lacking(pair))
    if lacking:
        return _missing(claim, list(lacking))
    if reason := _first_incomparable(different, evidence):
        return ClaimResult(claim, "undecided", reason)
    found: dict[tuple[tuple[str, ...], ...], Difference] = {}
    for pair in different:
        seeds = evidence.seeds(pair)
        runs = tuple(tuple(evidence.records[row][s].run_id for s in seeds) for row in pair)
        if runs not in found:
            found[runs] = evidence.difference(pair)
    return list(found.values())


def _missing(claim: Stated, rows: Sequence[str]) -> ClaimResult:
    shown = ", ".join(rows[:3]) + (f" and {len(rows) - 3} more" if len(rows) > 3 else "")
    return ClaimResult(claim, "undecided", f"missing: no runs to compare of {shown}")


def _first_incomparable(pairs: Sequence[Pair], evidence: Evidence) -> str | None:
    return next((why for pair in pairs if (why := evidence.incomparable(pair))), None)


def _all_above(
    claim: Stated, pairs: Sequence[Pair], threshold: float, evidence: Evidence
) -> ClaimResult:
    """Holds if each gain's interval lies above the threshold: then all of them do.

    It does not hold if one gain's interval lies below, that interval widened for the number of
    gains (Bonferroni), since the worst of many may be so by chance.
    """
    compared = _compared(claim, pairs, evidence)
    if isinstance(compared, ClaimResult):
        return compared
    bounds = [interval(gain.draws) for gain in compared]
    highest = [interval(gain.draws, _each(len(compared)))[1] for gain in compared]
    above = sum(low > threshold for low, _ in bounds)
    weakest = min(range(len(compared)), key=lambda i: compared[i].value)
    failing = [i for i, high in enumerate(highest) if high <= threshold]
    line = _points(threshold)
    if above == len(compared):
        return _numbered(claim, "holds", f"{_all(compared)} above {line}", compared, weakest)
    if failing:
        shown = min(failing, key=lambda i: highest[i])
        return _numbered(claim, "does not hold", f"not above {line}", compared, shown)
    reason = f"{above} of {len(compared)} intervals lie above {line}"
    if len(compared) == 1:
        reason = f"the interval has {line} in it"
    return _numbered(claim, "undecided", reason, compared, weakest)


def _all_within(claim: WithinClaim, evidence: Evidence) -> ClaimResult:
    """Holds if each difference's interval lies within the margin on both sides.

    It does not hold if one difference's interval, widened for their number, lies outside.
    """
    compared = _compared(claim, _others(claim, evidence.table), evidence)
    if isinstance(compared, ClaimResult):
        return compared
    bounds = [interval(gain.draws) for gain in compared]
    wide = [interval(gain.draws, _each(len(compared))) for gain in compared]
    inside = sum(-claim.points <= low and high <= claim.points for low, high in bounds)
    outside = [
        i for i, (low, high) in enumerate(wide) if low > claim.points or high < -claim.points
    ]
    furthest = max(range(len(compared)), key=lambda i: abs(compared[i].value))
    margin = f"±{_points(claim.points)}"
    if inside == len(compared):
        return _numbered(claim, "holds", f"{_all(compared)} within {margin}", compared, furthest)
    if outside:
        shown = max(outside, key=lambda i: abs(compared[i].value))
        return _numbered(claim, "does not hold", f"beyond {margin}", compared, shown)
    reason = f"{inside} of {len(compared)} intervals lie within {margin}"
    if len(compared) == 1:
        reason = f"the interval reaches beyond {margin}"
    return _numbered(claim, "undecided", reason, compared, furthest)


def _is_share(claim: ShareClaim, evidence: Evidence) -> ClaimResult:
    """Judged by part − share × whole, which is well behaved where the whole is small."""
    pairs = (claim.part, claim.whole)
    seeds = evidence.seeds([row for pair in pairs for row in pair])
    if not seeds:
        lacking = [row for pair in pairs for row in pair if not evidence.records.get(row)]
        return _missing(claim, list(dict.fromkeys(lacking)) or [claim.part[0]])
    across = (claim.part[1], claim.whole[1])  # a share of what was gained on the same images
    if reason := _first_incomparable([*pairs, across], evidence):
        return ClaimResult(claim, "undecided", reason)
    part, whole = (evidence.difference(pair, seeds) for pair in pairs)
    if interval(whole.draws)[0] <= 0:
        reason = f"there is no sure gain to share: {whole.value:+.2f} points in all"
        return ClaimResult(claim, "undecided", _covers(reason, len(seeds)), num_seeds=len(seeds))
    positive = np.where(whole.draws > 0, whole.draws, np.nan)
    low, high = np.nanquantile(part.draws / positive, _tails(CONFIDENCE))
    word = _word(*interval(part.draws - claim.at_least * whole.draws), 0.0)
    reason = _covers(f"{part.value:+.2f} of {whole.value:+.2f} points", len(seeds))
    numbers = (part.value / whole.value, float(low), float(high), len(seeds))
    return ClaimResult(claim, word, reason, "share of the gain", *numbers)


def _grows(claim: TrendClaim, evidence: Evidence) -> ClaimResult:
    """See :func:`trend`."""
    rows = [row for point in claim.points for row in point.pair]
    seeds = evidence.seeds(rows)
    if not seeds:
        lacking = [row for row in rows if not evidence.records.get(row)]
        return _missing(claim, list(dict.fromkeys(lacking)) or rows[:1])
    if reason := _first_incomparable([point.pair for point in claim.points], evidence):
        return ClaimResult(claim, "undecided", reason)
    gains = [evidence.difference(point.pair, seeds) for point in claim.points]
    line = trend(gains, [point.at for point in claim.points])
    shown = ", ".join(f"{g.value:+.2f} at {p.at:g}" for g, p in zip(gains, claim.points))
    reason = _covers(f"gains by {claim.along}: {shown}", len(seeds))
    numbers = (line.slope, line.low, line.high, len(seeds))
    return ClaimResult(claim, line.word, reason, "points a unit", *numbers)


def _reaches(claim: ReachClaim, evidence: Evidence) -> ClaimResult:
    """When a curve crosses another's final value, seed by seed.

    A curve is known at its evaluations only, so each seed's crossing lies between two of them; the
    interval covers that and the draw of seeds. Images are not drawn: curves are kept as means.
    """
    pair = (claim.row, claim.over)
    if lacking := evidence.lacking(pair):
        return _missing(claim, lacking)
    if reason := evidence.incomparable(pair):
        return ClaimResult(claim, "undecided", reason)
    seeds = evidence.seeds(pair)
    records = [[evidence.records[row][seed] for row in pair] for seed in seeds]
    after, at = np.array([_crossing(*both) for both in records]).T
    draws = np.random.Generator(np.random.Philox(BOOTSTRAP_SEED)).integers(
        0, len(seeds), size=(REPLICATES, len(seeds))
    )
    tails = _tails(CONFIDENCE)
    low = np.quantile(np.median(after[draws], axis=1), tails[0], method="lower")
    high = np.quantile(np.median(at[draws], axis=1), tails[1], method="higher")
    never = int(np.isinf(at).sum())
    reason = "from the last evaluation below the baseline's final mIoU to the first at or above it"
    if never:
        reason += f"; {never} of {len(seeds)} seeds never reach it"
    word: Word = "undecided"
    if len(seeds) == 1:
        reason += "; one seed has no spread to judge by"
    elif high <= claim.within:
        word = "holds"
    elif low >= claim.within:
        word = "does not hold"
    numbers = (float(np.median(at)), float(low), float(high), len(seeds))
    return ClaimResult(claim, word, reason, "share of the iterations", *numbers)


def _crossing(row: Record, other: Record) -> tuple[float, float]:
    """Between which shares of the other's iterations a curve reaches its final mIoU."""
    total = other.spec.training.iterations
    before = 0
    for point in row.curve:
        if point.scores.miou >= other.scores.miou:
            return before / total, point.iteration / total
        before = point.iteration
    return before / total, math.inf


def _word(low: float, high: float, threshold: float) -> Word:
    if low > threshold:
        return "holds"
    return "does not hold" if high <= threshold else "undecided"


def _numbered(
    claim: Stated, word: Word, reason: str, compared: Sequence[Difference], shown: int
) -> ClaimResult:
    """A verdict with the numbers of the difference that decides it."""
    gain, fewest = compared[shown], min(gain.num_seeds for gain in compared)
    if len(compared) > 1:
        reason += f"; these numbers: {gain.row} over {gain.over}"
    low, high = interval(gain.draws)
    return ClaimResult(
        claim, word, _covers(reason, fewest), "points", gain.value, low, high, fewest
    )


def _covers(reason: str, num_seeds: int) -> str:
    return reason if num_seeds > 1 else f"{reason}; one seed: images only"


def _each(number: int) -> float:
    """Confidence of each of ``number`` intervals so that all are right together (Bonferroni)."""
    return 1.0 - (1.0 - CONFIDENCE) / number


def _tails(confidence: float) -> tuple[float, float]:
    return (1.0 - confidence) / 2, (1.0 + confidence) / 2


def _all(compared: Sequence[Difference]) -> str:
    return "the interval lies" if len(compared) == 1 else f"all {len(compared)} intervals lie"


def _points(value: float) -> str:
    return f"{value:g}" if value == 0 else f"{value:g} points"
