"""Whether a table's claims hold, in the profile that was run: a word, an interval and why.

Every kind of claim comes down to weighted sums of rows' mIoU and their intervals of
:mod:`experiments.judge.statistics`. The verdicts of a table hold together (Holm 1979).
docs/claims.md says what each kind tests.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
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
from experiments.errors import StoreError
from experiments.judge.class_trends import (
    FEWEST_CLASSES,
    FEWEST_IMAGES,
    PairedAreas,
    over_classes,
    over_images,
)
from experiments.judge.comparability import comparable_seeds, own_rates
from experiments.judge.hurdles import Hurdle, Outlook, Way, outlook
from experiments.judge.spread import CONFIDENCE, SMALLEST_P, Prior, fit_prior
from experiments.judge.statistics import Estimate, ScoredRun, contrast, shared_seeds
from experiments.store.areas import ImageAreas
from experiments.store.distances import FeatureDistances
from experiments.store.records import Record

Word = Literal["holds", "does not hold", "undecided"]
Unit = Literal[
    "points",
    "share of the iterations",
    "share of the gain",
    "points a unit",
    "rank correlation",
]


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
    p_value: float = 1.0  # 1 - the largest confidence at which it is decided; 1: at none
    ways: tuple[Way, ...] = ()  # to decide it; none where no seed can
    outlook: Outlook | None = None  # while it is undecided and has ways
    sequential: bool = False  # seeds were added while verdicts were looked at


@dataclass(frozen=True)
class Difference:
    """A row's mIoU over another's, the mean of the pairs."""

    row: str
    over: str
    estimate: Estimate  # percent points

    def hurdle(self, border: float, *, above: bool, number: int = 1) -> Hurdle:
        """That the gain lies above a border, or below it."""
        return Hurdle(self.estimate, border, above, (self.row, self.over), number)

    @property
    def value(self) -> float:
        """Percent points."""
        return self.estimate.value

    @property
    def num_seeds(self) -> int:
        """Pairs."""
        return self.estimate.num_seeds


def _no_areas(run_id: str) -> ImageAreas:
    raise StoreError(f"The areas of {run_id} are not at hand; `./run_all.sh status` shows why.")


def _no_distances(_record: Record) -> None:
    return None


@dataclass(frozen=True)
class Evidence:
    """The finished runs behind a table's rows.

    Args:
        table: whose claims are judged.
        records: row id → seed → record.
        scored: areas of a run by its id, with their draws.
        sequential: whether seeds were added while verdicts were looked at; intervals then hold at
            whatever number of seeds one stops.
        areas: of a run by its id, for claims about single classes.
        distances: of a run's features from their prototypes; None: not extracted.
    """

    table: Table
    records: Mapping[str, Mapping[int, Record]]
    scored: Callable[[str], ScoredRun]
    sequential: bool
    areas: Callable[[str], ImageAreas] = _no_areas
    distances: Callable[[Record], FeatureDistances | None] = _no_distances

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
        own = own_rates(self.table, pair)
        reason = comparable_seeds(first, second, self.images, own_rates=own)
        return f"{pair[0]} and {pair[1]} cannot be compared: {reason}" if reason else None

    def difference(self, pair: Pair) -> Difference:
        """The gain of a pair's first row over its second, over all seeds that both have."""
        seeds = self.seeds(pair)
        prior = None if self.sequential else self.prior(pair, seeds)
        return Difference(*pair, self.contrast(pair, (1.0, -1.0), seeds, prior))

    def contrast(
        self,
        rows: Sequence[str],
        weights: Sequence[float],
        seeds: Sequence[int],
        prior: Prior | None = None,
    ) -> Estimate:
        """The weighted sum of rows' mIoU over ``seeds``."""
        runs = [[self.scored(self.records[row][s].run_id) for s in seeds] for row in rows]
        return contrast(runs, weights, prior, sequential=self.sequential)

    def prior(self, rows: Sequence[str], seeds: Sequence[int]) -> Prior | None:
        """What the table's rows but ``rows`` lend of their deviation between ``seeds``.

        A run that stands in several rows lends once, and one of ``rows`` not at all.
        """
        runs = {row: tuple(r[s].run_id for s in seeds if s in r) for row, r in self.records.items()}
        taken = {runs.get(row, ()) for row in rows}
        lenders: dict[tuple[str, ...], str] = {}
        for row, own in runs.items():
            if len(own) == len(seeds) and own not in taken:
                lenders.setdefault(own, row)
        return fit_prior(
            [[self.records[row][s].scores.miou for s in seeds] for row in lenders.values()]
        )


@dataclass(frozen=True)
class Trend:
    """The straight line through gains, by least squares: whether it rises, and how steeply."""

    word: Word
    estimate: Estimate  # of the slope, percent points a unit of what grows

    @property
    def slope(self) -> float:
        """Percent points a unit."""
        return self.estimate.value

    @cached_property
    def interval(self) -> tuple[float, float]:
        """Ends of the 95 % interval."""
        return self.estimate.interval()


def trend(
    pairs: Sequence[tuple[Sequence[ScoredRun], Sequence[ScoredRun]]],
    at: Sequence[float],
    *,
    sequential: bool,
) -> Trend:
    """The line through gains of the same seeds, against where they are taken; borrows nothing.

    Args:
        pairs: runs of each row and its baseline, at two different places at least.
        at: their places.
        sequential: as in :func:`experiments.judge.statistics.contrast`.
    """
    away = np.array(at) - np.mean(at)
    weights = away / (away**2).sum()
    rows = [row for pair in pairs for row in pair]
    signed = [sign * weight for weight in weights for sign in (1.0, -1.0)]
    slope = contrast(rows, signed, sequential=sequential)
    return Trend(_word_of(slope), slope)


def judge(evidence: Evidence) -> tuple[ClaimResult, ...]:
    """A verdict on every claim of a table; all of them hold :func:`together`."""
    results = [_judge(claim, evidence) for claim in evidence.table.claims]
    if evidence.sequential:
        results = [replace(result, sequential=True) for result in results]
    return together(results)


def together(results: Sequence[ClaimResult]) -> tuple[ClaimResult, ...]:
    """Verdicts of which any is wrong with probability 5 % at most, from verdicts that are each.

    Holm's procedure (1979): of m claims the smallest p-value is held against 0.05 / m, the next
    against 0.05 / (m - 1), and so on; from the first that fails on, all are undecided.
    """
    order = sorted(range(len(results)), key=lambda i: results[i].p_value)
    decided = list(results)
    for rank, index in enumerate(order):
        alpha = (1.0 - CONFIDENCE) / (len(results) - rank)
        if results[index].p_value > alpha:
            for other in order[rank:]:
                still_open = _not_together(results[other], len(results))
                decided[other] = replace(still_open, outlook=outlook(still_open.ways, alpha))
            break
    return tuple(decided)


def level_of_undecided(results: Sequence[ClaimResult]) -> float:
    """The p-value at which the next claim of a table is decided, by Holm's procedure."""
    undecided = sum(result.word == "undecided" for result in results)
    return (1.0 - CONFIDENCE) / max(undecided, 1)


def _not_together(result: ClaimResult, number: int) -> ClaimResult:
    if result.word == "undecided":
        return result
    reason = (
        f"alone it {'holds' if result.word == 'holds' else 'does not hold'} "
        f"(p = {result.p_value:.3f}), not together with the table's {number} claims (Holm)"
    )
    return replace(result, word="undecided", reason=f"{reason}; {result.reason}")


def _judge(claim: Claim, evidence: Evidence) -> ClaimResult:
    match claim:
        case GainClaim():
            pairs = claim.pairs or over_baselines(evidence.table)
            return _all_above(claim, pairs, claim.at_least, evidence)
        case BestClaim():
            return _all_above(claim, _others(claim, evidence.table), 0.0, evidence)
        case WithinClaim():
            return _all_within(claim, evidence)
        case ReachClaim():
            return _reaches(claim, evidence)
        case ShareClaim():
            return _is_share(claim, evidence)
        case TrendClaim(pair=None):
            return _grows(claim, evidence)
        case TrendClaim():
            return _grows_over_classes(claim, evidence)


def over_baselines(table: Table) -> tuple[Pair, ...]:
    """Every row of a table with the one that its gain is counted over."""
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
    estimates = [gain.estimate for gain in compared]
    bounds = [estimate.interval() for estimate in estimates]
    highest = [estimate.interval(_each(len(compared)))[1] for estimate in estimates]
    above = sum(low > threshold for low, _ in bounds)
    weakest = min(range(len(compared)), key=lambda i: compared[i].value)
    failing = [i for i, high in enumerate(highest) if high <= threshold]
    line = _points(threshold)
    p_values = [estimate.p_value(threshold) for estimate in estimates]
    number = len(compared)
    ways = (
        tuple(gain.hurdle(threshold, above=True) for gain in compared),
        *((gain.hurdle(threshold, above=False, number=number),) for gain in compared),
    )
    if above == len(compared):
        reason = f"{_all(compared)} above {line}"
        return _numbered(claim, "holds", reason, compared, weakest, ways, max(p_values))
    if failing:
        chosen = min(failing, key=lambda i: highest[i])
        p_value = number * min(p_values[i] for i in failing)
        reason = f"not above {line}"
        return _numbered(claim, "does not hold", reason, compared, chosen, ways, p_value)
    reason = f"{above} of {number} intervals lie above {line}"
    if number == 1:
        reason = f"the interval has {line} in it"
    return _numbered(claim, "undecided", reason, compared, weakest, ways)


def _all_within(claim: WithinClaim, evidence: Evidence) -> ClaimResult:
    """Holds if each difference's interval lies within the margin on both sides.

    It does not hold if one difference's interval, widened for their number, lies outside.
    """
    compared = _compared(claim, _others(claim, evidence.table), evidence)
    if isinstance(compared, ClaimResult):
        return compared
    estimates = [gain.estimate for gain in compared]
    bounds = [estimate.interval() for estimate in estimates]
    wide = [estimate.interval(_each(len(compared))) for estimate in estimates]
    inside = sum(-claim.points <= low and high <= claim.points for low, high in bounds)
    outside = [
        i for i, (low, high) in enumerate(wide) if low > claim.points or high < -claim.points
    ]
    furthest = max(range(len(compared)), key=lambda i: abs(compared[i].value))
    # of the nearer end of the margin: further from the other, the interval reaches it later
    p_values = [e.p_value(math.copysign(claim.points, e.value)) for e in estimates]
    margin, number = f"±{_points(claim.points)}", len(compared)
    ends = (-claim.points, claim.points)
    ways = (
        tuple(gain.hurdle(end, above=end < 0) for gain in compared for end in ends),
        *((gain.hurdle(e, above=e > 0, number=number),) for gain in compared for e in ends),
    )
    if inside == number:
        reason = f"{_all(compared)} within {margin}"
        return _numbered(claim, "holds", reason, compared, furthest, ways, max(p_values))
    if outside:
        chosen = max(outside, key=lambda i: abs(compared[i].value))
        p_value = number * min(p_values[i] for i in outside)
        reason = f"beyond {margin}"
        return _numbered(claim, "does not hold", reason, compared, chosen, ways, p_value)
    reason = f"{inside} of {number} intervals lie within {margin}"
    if number == 1:
        reason = f"the interval reaches beyond {margin}"
    return _numbered(claim, "undecided", reason, compared, furthest, ways)


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
    part, whole = (evidence.contrast(pair, (1.0, -1.0), seeds) for pair in pairs)

    def less(share: float) -> Estimate:
        weights = (1.0, -1.0, -share, share)
        return evidence.contrast([*claim.part, *claim.whole], weights, seeds)

    beyond = less(claim.at_least)
    sure = Hurdle(whole, 0.0, above=True, rows=claim.whole)
    rows = tuple(dict.fromkeys([*claim.part, *claim.whole]))
    ways = tuple((Hurdle(beyond, 0.0, side, rows), sure) for side in (True, False))
    if whole.interval()[0] <= 0 or len(seeds) == 1:
        reason = _covers(
            f"there is no sure gain to share: {whole.value:+.2f} points in all", len(seeds)
        )
        return ClaimResult(claim, "undecided", reason, num_seeds=len(seeds), ways=ways)
    share = part.value / whole.value
    low, high = (_fieller(less, share, side * max(1.0, abs(share))) for side in (-1, 1))
    p_value = max(beyond.p_value(), whole.p_value())
    reason = _covers(f"{part.value:+.2f} of {whole.value:+.2f} points", len(seeds))
    numbers = (share, low, high, len(seeds), p_value)
    return ClaimResult(claim, _word_of(beyond), reason, "share of the gain", *numbers, ways)


def _fieller(less: Callable[[float], Estimate], share: float, step: float) -> float:
    """One end of Fieller's interval of a ratio: where part - share x whole leaves 0 out."""

    def holds(value: float) -> bool:
        low, high = less(value).interval()
        return low <= 0 <= high

    inner, outer = share, share + step
    for _ in range(40):
        if not holds(outer):
            break
        inner, outer = outer, outer + 2 * (outer - inner)
    else:
        return math.copysign(math.inf, step)
    for _ in range(40):
        middle = (inner + outer) / 2
        inner, outer = (middle, outer) if holds(middle) else (inner, middle)
    return outer


def _grows(claim: TrendClaim, evidence: Evidence) -> ClaimResult:
    """See :func:`trend`."""
    rows = [row for point in claim.points for row in point.pair]
    seeds = evidence.seeds(rows)
    if not seeds:
        lacking = [row for row in rows if not evidence.records.get(row)]
        return _missing(claim, list(dict.fromkeys(lacking)) or rows[:1])
    if reason := _first_incomparable([point.pair for point in claim.points], evidence):
        return ClaimResult(claim, "undecided", reason)
    runs = {row: [evidence.scored(evidence.records[row][s].run_id) for s in seeds] for row in rows}
    pairs = [(runs[point.pair[0]], runs[point.pair[1]]) for point in claim.points]
    places = [point.at for point in claim.points]
    line = trend(pairs, places, sequential=evidence.sequential)
    gains = [contrast(pair, (1.0, -1.0), sequential=evidence.sequential).value for pair in pairs]
    listed = ", ".join(f"{g:+.2f} at {p.at:g}" for g, p in zip(gains, claim.points))
    reason = _covers(f"gains by {claim.along}: {listed}", len(seeds))
    numbers = (line.slope, *line.interval, len(seeds), line.estimate.p_value())
    ways = tuple((Hurdle(line.estimate, 0.0, side, tuple(rows)),) for side in (True, False))
    return ClaimResult(claim, line.word, reason, "points a unit", *numbers, ways)


def _grows_over_classes(claim: TrendClaim, evidence: Evidence) -> ClaimResult:
    """See :mod:`experiments.judge.class_trends`."""
    pair, by = claim.pair, claim.by
    assert pair is not None
    assert by is not None
    if evidence.same(pair):
        return ClaimResult(claim, "undecided", "the rows are one and the same run in this profile")
    if lacking := evidence.lacking(pair):
        return _missing(claim, lacking)
    if reason := evidence.incomparable(pair):
        return ClaimResult(claim, "undecided", reason)
    seeds = evidence.seeds(pair)
    ours, theirs = ([evidence.records[row][seed] for seed in seeds] for row in pair)
    distances = [evidence.distances(record) for record in theirs] if by == "distance" else []
    if without := [r.run_id for r, own in zip(theirs, distances) if own is None]:
        reason = (
            f"missing: the distances of {without[0]} are not extracted; `./run_all.sh extract "
            f"{evidence.table.name}` does it where its weights and data are at hand"
        )
        return ClaimResult(claim, "undecided", reason)
    runs = PairedAreas(
        [evidence.areas(record.run_id) for record in ours],
        [evidence.areas(record.run_id) for record in theirs],
        [own for own in distances if own is not None] or None,
    )
    over = over_images if claim.within == "images" else over_classes
    line = over(runs, by, sequential=evidence.sequential)
    if line is None:
        few = f"{FEWEST_CLASSES} classes" if over is over_classes else f"{FEWEST_IMAGES} images"
        reason = f"fewer than {few} by which gain and {by} vary"
        return ClaimResult(claim, "undecided", reason, num_seeds=len(seeds))
    units = f"{line.num_units} classes" if over is over_classes else f"{line.num_units} masks"
    each = ", ".join(f"{value:+.2f}" for value in line.each)
    reason = _covers(f"Spearman, gain by {by} of {units}; seeds {each}", len(seeds))
    low, high = line.interval
    word: Word = "undecided"
    if len(seeds) > 1:
        ends = (-high, -low) if claim.falls else (low, high)
        word = _word(*ends, 0.0)
    p_value = line.estimate.p_value() if len(seeds) > 1 else 1.0
    numbers = (line.value, low, high, len(seeds), p_value)
    return ClaimResult(claim, word, reason, "rank correlation", *numbers)


def _reaches(claim: ReachClaim, evidence: Evidence) -> ClaimResult:
    """When a curve crosses another's final value, seed by seed.

    A curve is known at its evaluations only, so each seed's crossing lies between two of them. The
    interval is Student's of the mean crossing on the straight lines between evaluations, and holds
    the mean of those two evaluations at least. Images are not drawn: curves are kept as means.
    """
    pair = (claim.row, claim.over)
    if lacking := evidence.lacking(pair):
        return _missing(claim, lacking)
    if reason := evidence.incomparable(pair):
        return ClaimResult(claim, "undecided", reason)
    seeds = evidence.seeds(pair)
    records = [[evidence.records[row][seed] for row in pair] for seed in seeds]
    after, at, crossing = np.array([_crossing(*both) for both in records]).T
    sequential = evidence.sequential
    low, high = reach_interval(after, at, crossing, 1.0 - CONFIDENCE, sequential=sequential)
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
    p_value = _reach_p(claim, after, at, crossing, sequential)
    numbers = (float(np.mean(at)), low, high, len(seeds), p_value)
    ways = _reach_ways(claim, after, at, crossing, sequential)
    return ClaimResult(claim, word, reason, "share of the iterations", *numbers, ways)


Shares = NDArray[np.float64]


def reach_interval(
    after: Shares, at: Shares, crossing: Shares, alpha: float, *, sequential: bool = False
) -> tuple[float, float]:
    """Of the mean crossing; a seed that never crosses counts, below, as late as it was seen."""
    known = np.where(np.isinf(at), after, crossing)
    width = 0.0
    if len(known) > 1:
        width = _crossings(known, sequential).half_width(1.0 - alpha)
    low = min(float(after.mean()), float(known.mean()) - width)
    return max(low, 0.0), max(float(at.mean()), float(known.mean()) + width)


def _crossings(known: Shares, sequential: bool) -> Estimate:
    """The mean crossing as an estimate: no images, nothing borrowed."""
    num_seeds = len(known)
    variance = float(known.var(ddof=1) / num_seeds) if num_seeds > 1 else 0.0
    mean = float(known.mean())
    return Estimate(mean, variance, 0.0, num_seeds, 1, 1.0, sequential=sequential)


def _reach_ways(
    claim: ReachClaim, after: Shares, at: Shares, crossing: Shares, sequential: bool
) -> tuple[Way, ...]:
    """None where the evaluations are too coarse: the border lies between two of them."""
    if float(after.mean()) < claim.within < float(at.mean()):
        return ()
    estimate = _crossings(np.where(np.isinf(at), after, crossing), sequential)
    rows = (claim.row, claim.over)
    return tuple((Hurdle(estimate, claim.within, side, rows),) for side in (True, False))


def _reach_p(
    claim: ReachClaim, after: Shares, at: Shares, crossing: Shares, sequential: bool
) -> float:
    """The largest 1 - confidence at which the claim is decided, to a thousandth of itself."""

    def open_at(alpha: float) -> bool:
        low, high = reach_interval(after, at, crossing, alpha, sequential=sequential)
        return low < claim.within < high

    low, high = math.log(SMALLEST_P), 0.0
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if open_at(math.exp(middle)) else (low, middle)
    return math.exp(high)


def _crossing(row: Record, other: Record) -> tuple[float, float, float]:
    """Between which shares of the other's iterations a curve reaches its final mIoU, and where.

    Where: on the straight line between the two evaluations; before the first, at it.
    """
    total = other.spec.training.iterations
    before, below = 0, -math.inf
    for point in row.curve:
        miou = point.scores.miou
        if miou >= other.scores.miou:
            rest = (miou - other.scores.miou) / (miou - below) if math.isfinite(below) else 0.0
            crossing = point.iteration - rest * (point.iteration - before)
            return before / total, point.iteration / total, crossing / total
        before, below = point.iteration, miou
    return before / total, math.inf, math.inf


def _word_of(estimate: Estimate) -> Word:
    """Whether an estimate lies above 0; one seed has no spread to judge by."""
    if estimate.num_seeds == 1:
        return "undecided"
    return _word(*estimate.interval(), 0.0)


def _word(low: float, high: float, threshold: float) -> Word:
    if low > threshold:
        return "holds"
    return "does not hold" if high <= threshold else "undecided"


def _numbered(
    claim: Stated,
    word: Word,
    reason: str,
    compared: Sequence[Difference],
    chosen: int,
    ways: tuple[Way, ...],
    p_value: float = 1.0,
) -> ClaimResult:
    """A verdict with the numbers of the difference that decides it; one seed decides nothing."""
    gain, fewest = compared[chosen], min(gain.num_seeds for gain in compared)
    if fewest == 1:
        word, p_value = "undecided", 1.0
    if len(compared) > 1:
        reason += f"; these numbers: {gain.row} over {gain.over}"
    low, high = gain.estimate.interval()
    numbers = (gain.value, low, high, fewest, min(p_value, 1.0))
    return ClaimResult(claim, word, _covers(reason, fewest), "points", *numbers, ways)


def _covers(reason: str, num_seeds: int) -> str:
    return reason if num_seeds > 1 else f"{reason}; one seed: images only, which decides nothing"


def _each(number: int) -> float:
    """Confidence of each of ``number`` intervals so that all are right together (Bonferroni)."""
    return 1.0 - (1.0 - CONFIDENCE) / number


def _all(compared: Sequence[Difference]) -> str:
    return "the interval lies" if len(compared) == 1 else f"all {len(compared)} intervals lie"


def _points(value: float) -> str:
    return f"{value:g}" if value == 0 else f"{value:g} points"
