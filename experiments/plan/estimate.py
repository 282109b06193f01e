"""How long runs take: from past runs, and from the pace that is measured while they go on.

A run's cost is the median of its kind (profile, model, classifier), from records wherever they
were made; a kind without records is thought to cost what its model does under other classifiers,
else what its classifier does on other models, else what its profile does, else what the profile's
file says. A machine's pace is one factor on all of them. Nothing here reads a clock or a file.
"""

from __future__ import annotations

import heapq
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

#: observations that make the pace: the latest ones, since a machine is not always equally busy
LATEST = 16
#: share of a run that must be done before its pace counts
ENOUGH = 0.1


class Kind(NamedTuple):
    """What a run's cost depends on."""

    profile: str
    model: str
    classifier: str


class Past:
    """Costs of runs by kind, taken from similar ones where a kind has never been run.

    Args:
        seconds: of finished runs, by kind.
        declared: what a profile says of its runs, for one of which none is finished.
    """

    def __init__(
        self,
        seconds: Mapping[Kind, Sequence[float]],
        declared: Mapping[str, float] | None = None,
    ) -> None:
        self.declared = dict(declared or {})
        self.known = {kind: statistics.median(took) for kind, took in seconds.items() if took}

    def of(self, kind: Kind) -> float | None:
        """Seconds; None if no run of its profile is known and its file says nothing."""
        if kind in self.known:
            return self.known[kind]
        profile = {k: cost for k, cost in self.known.items() if k.profile == kind.profile}
        for part in ("model", "classifier", "profile"):
            alike = [cost for k, cost in profile.items() if getattr(k, part) == getattr(kind, part)]
            if alike:
                return statistics.median(alike)
        return self.declared.get(kind.profile)


def makespan(active: Iterable[float], queue: Iterable[float], jobs: int) -> float:
    """Seconds until all is done if each free place takes the next of the queue.

    Args:
        active: seconds that each run under way has left.
        queue: seconds of each run that has not begun, in order.
        jobs: places.
    """
    ends = sorted(active)
    last = ends[-1] if ends else 0.0
    ends += [0.0] * (jobs - len(ends))
    heapq.heapify(ends)
    for seconds in queue:
        end = heapq.heappop(ends) + seconds
        last = max(last, end)
        heapq.heappush(ends, end)
    return last


def filled(expected: Sequence[float | None]) -> list[float] | None:
    """Unknown costs replaced by the mean of the known ones; None if none is known."""
    known = [seconds for seconds in expected if seconds is not None]
    if expected and not known:
        return None
    return [statistics.mean(known) if s is None else s for s in expected]


@dataclass(frozen=True)
class Pace:
    """Where a run under way stands."""

    elapsed_s: float  # since its process was started
    done: float  # share of its steps, 0 … 1
    total_s: float  # what it would take from beginning to end at its pace

    @property
    def left_s(self) -> float:
        """Seconds of the steps that remain."""
        return self.total_s * (1.0 - self.done)


@dataclass
class Estimate:
    """What remains of a call, corrected by what its runs show.

    Args:
        kinds: the kind of every run to do, in the order of the queue.
        past: what is known of them beforehand.
        jobs: runs at once.
    """

    kinds: Mapping[str, Kind]
    past: Past
    jobs: int
    _finished: dict[str, float | None] = field(default_factory=dict)
    _active: dict[str, Pace | None] = field(default_factory=dict)

    def started(self, run_id: str) -> None:
        """A run has left the queue."""
        self._active[run_id] = None

    def moved(self, run_id: str, pace: Pace) -> None:
        """A run has told where it stands."""
        self._active[run_id] = pace

    def ended(self, run_id: str, seconds: float | None) -> None:
        """A run is over; ``seconds`` for the whole of it, None if they say nothing."""
        self._active.pop(run_id, None)
        self._finished[run_id] = seconds

    def left_s(self) -> float | None:
        """Seconds until all runs are done; None as long as nothing is known."""
        costs = self._costs()
        if costs is None:
            return None
        active = [
            costs[run_id] if pace is None else pace.left_s if pace.done >= ENOUGH
            else costs[run_id] * (1.0 - pace.done)
            for run_id, pace in self._active.items()
        ]  # fmt: skip
        return makespan(active, [costs[run_id] for run_id in self._queue()], self.jobs)

    def done_share(self) -> float:
        """Which share of the work is done, 0 … 1; by the number of runs if no cost is known."""
        costs = self._costs() or dict.fromkeys(self.kinds, 1.0)
        done = sum(costs[run_id] for run_id in self._finished)
        done += sum(costs[run_id] * pace.done for run_id, pace in self._active.items() if pace)
        return done / (sum(costs.values()) or 1.0)

    def _queue(self) -> list[str]:
        return [name for name in self.kinds if name not in self._active | self._finished]

    def _observed(self) -> dict[str, tuple[float, float]]:
        """What whole runs take in this call, and how much of each has been seen; latest last."""
        whole = {name: (s, 1.0) for name, s in self._finished.items() if s is not None}
        part = {
            name: (pace.total_s, pace.done)
            for name, pace in self._active.items()
            if pace and pace.done >= ENOUGH
        }
        return whole | part

    def _costs(self) -> dict[str, float] | None:
        """Seconds of every run in this call."""
        observed = self._observed()
        pace = self._pace(observed)
        seen: dict[Kind, list[float]] = {}
        for run_id, (seconds, _) in observed.items():
            seen.setdefault(self.kinds[run_id], []).append(seconds / pace)
        known = {kind: [s] for kind, s in self.past.known.items()}
        here = Past({**known, **seen}, self.past.declared)
        costs = filled([here.of(kind) for kind in self.kinds.values()])
        if costs is None:
            return None
        return {run_id: pace * cost for run_id, cost in zip(self.kinds, costs)}

    def _pace(self, observed: Mapping[str, tuple[float, float]]) -> float:
        """This call's seconds over the expected ones; of kinds with a past, if any were seen."""
        expected = {run_id: self.past.of(self.kinds[run_id]) for run_id in observed}
        known = [name for name in observed if self.kinds[name] in self.past.known]
        guessed = [name for name in observed if expected[name] is not None]
        latest = (known or guessed)[-LATEST:]
        took = sum(seconds * share for seconds, share in map(observed.__getitem__, latest))
        should = sum(float(expected[name] or 0.0) * observed[name][1] for name in latest)
        return took / should if should else 1.0
