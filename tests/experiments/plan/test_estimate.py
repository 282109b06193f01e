"""The time left, on simulated calls whose end is known."""

from __future__ import annotations

import io
import random
import statistics
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from samples import make_spec

from experiments.plan.estimate import Estimate, Kind, Pace, Past, filled, makespan
from experiments.plan.plan import PlannedRun, kind_of
from experiments.show.progress_bars import TICK_S, ProgressWatcher
from experiments.store.progress import Progress, write_progress
from experiments.store.store import Store

MODELS = {"seaformer_b": 1.0, "seaformer_l": 1.45, "segnext_t": 1.0, "ocrnet": 1.9, "upernet": 1.6}
CLASSIFIERS = {"softmax": 1.0, "ssa": 1.3, "dnc": 1.5, "cac": 1.2}
START_S = 3.0  # imports


def cost(kind: Kind) -> float:
    """Seconds on the machine that made the records; not quite a product, as in life."""
    quirk = 0.9 + 0.2 * random.Random(f"{kind}").random()
    return 20.0 * MODELS[kind.model] * CLASSIFIERS[kind.classifier] * quirk


def kinds(profile: str = "quick") -> list[Kind]:
    return [Kind(profile, model, classifier) for model in MODELS for classifier in CLASSIFIERS]


class Call:
    """Runs that are trained one after another in ``jobs`` places, on a clock of our own."""

    def __init__(
        self,
        queue: list[Kind],
        past: Past,
        *,
        jobs: int = 2,
        slower: float = 1.0,
        noise: float = 0.1,
        seed: int = 0,
    ) -> None:
        draw = random.Random(seed)
        self.runs = {f"run-{i}": kind for i, kind in enumerate(queue)}
        self.took = {
            name: slower * cost(kind) * draw.uniform(1 - noise, 1 + noise)
            for name, kind in self.runs.items()
        }
        places, self.begin = [0.0] * jobs, {}
        for name in self.runs:
            place = places.index(min(places))
            self.begin[name] = places[place]
            places[place] += self.took[name]
        self.end_s, self.jobs, self.past = max(places), jobs, past

    def at(self, now: float) -> Estimate:
        """The estimate as the watcher has it ``now``."""
        estimate = Estimate(self.runs, self.past, self.jobs)
        ends = {name: self.begin[name] + self.took[name] for name in self.runs}
        for name in sorted(self.runs, key=ends.__getitem__):
            if self.begin[name] > now:
                continue
            estimate.started(name)
            took, elapsed = self.took[name], now - self.begin[name]
            if ends[name] <= now:
                estimate.ended(name, took)
            elif elapsed > START_S:
                done = (elapsed - START_S) / (took - START_S)
                estimate.moved(name, Pace(elapsed, done, took))
        return estimate

    def worst(self) -> float:
        """Largest factor between the time left as said and as it was, after a tenth."""
        factors = []
        for step in range(1, 100):
            now = self.end_s * step / 100
            estimate, left = self.at(now), self.end_s - now
            if estimate.done_share() < 0.1 or left < 0.1 * self.end_s:
                continue
            said = estimate.left_s()
            assert said is not None
            factors.append(max(said / left, left / said))
        assert factors
        return max(factors)


def records(known: list[Kind]) -> Past:
    return Past({kind: [cost(kind)] for kind in known})


def shuffled(queue: list[Kind], seed: int) -> list[Kind]:
    random.Random(seed).shuffle(queue)
    return queue


SEEDS = pytest.mark.parametrize("seed", range(5))


@SEEDS
@pytest.mark.parametrize("slower", [0.4, 1.0, 2.3])
@pytest.mark.parametrize("jobs", [1, 2, 8])
def test_a_machine_of_another_speed(seed: int, slower: float, jobs: int) -> None:
    queue = [kind for kind in kinds() for _ in range(3)]
    call = Call(queue, records(kinds()), jobs=jobs, slower=slower, seed=seed)
    assert call.worst() < 1.5


@SEEDS
def test_half_of_the_models_unknown(seed: int) -> None:
    known = [kind for kind in kinds() if kind.model in ("seaformer_l", "ocrnet")]
    call = Call([*kinds(), *kinds()], records(known), slower=2.3, seed=seed)
    assert call.worst() < 1.5


@SEEDS
def test_half_of_the_kinds_unknown(seed: int) -> None:
    known = shuffled(kinds(), seed)[:10]
    call = Call([*kinds(), *kinds()], records(known), slower=2.3, seed=seed)
    assert call.worst() < 1.5


@SEEDS
def test_a_profile_of_which_only_one_network_has_been_run(seed: int) -> None:
    """The others are thought to cost as much until they are seen; the records are slower ones."""
    seconds = {kind: [cost(kind)] for kind in kinds("quick")}
    seconds[Kind("camvid", "seaformer_l", "softmax")] = [5 * cost(kinds()[4])]
    call = Call(kinds("camvid") * 2, Past(seconds), slower=8.0, seed=seed)
    assert call.worst() < 1.5


@SEEDS
def test_a_fresh_start_of_mixed_runs(seed: int) -> None:
    call = Call(shuffled(kinds() * 3, seed), Past({}), seed=seed)
    assert call.at(0.0).left_s() is None
    assert call.worst() < 1.5


def test_long_runs_at_the_end_are_expected_there() -> None:
    """What the median of the finished runs cannot know."""
    cheap, dear = Kind("quick", "seaformer_b", "softmax"), Kind("quick", "ocrnet", "dnc")
    call = Call([cheap] * 10 + [dear] * 20, records([cheap, dear]), slower=2.3)
    assert call.worst() < 1.2


def test_what_similar_runs_took_is_expected() -> None:
    """The same kind's; else the model's other classifiers'; else its classifier's; else any."""
    past = Past({kind: [cost(kind)] for kind in kinds() if kind != Kind("quick", "ocrnet", "dnc")})
    others = sorted(cost(Kind("quick", "ocrnet", name)) for name in ("softmax", "ssa", "cac"))
    assert past.of(Kind("quick", "ocrnet", "dnc")) == others[1]
    stranger = past.of(Kind("quick", "never seen", "ssa"))
    assert stranger == statistics.median(cost(Kind("quick", name, "ssa")) for name in MODELS)
    assert past.of(Kind("quick", "never seen", "never seen")) is not None
    assert past.of(Kind("paper", "ocrnet", "dnc")) is None
    assert Past({kinds()[0]: [1.0, 9.0, 2.0]}).of(kinds()[0]) == 2.0


def test_a_failed_run_says_nothing_of_the_others() -> None:
    queue = {"a": kinds()[0], "b": kinds()[0]}
    estimate = Estimate(queue, Past({kinds()[0]: [10.0]}), jobs=1)
    assert estimate.left_s() == 20.0
    estimate.started("a")
    estimate.ended("a", None)
    assert estimate.left_s() == 10.0
    assert estimate.done_share() == 0.5


def test_a_resumed_run_has_only_the_rest_left() -> None:
    estimate = Estimate({"a": kinds()[0]}, Past({kinds()[0]: [100.0]}), jobs=2)
    estimate.started("a")
    estimate.moved("a", Pace(elapsed_s=5.0, done=0.9, total_s=120.0))
    assert estimate.left_s() == pytest.approx(12.0)


@given(
    st.lists(st.floats(0, 100), max_size=4),
    st.lists(st.floats(0, 100), max_size=20),
    st.integers(4, 8),
)
def test_a_makespan_lies_between_its_bounds(
    active: list[float], queue: list[float], jobs: int
) -> None:
    work, longest = sum(active) + sum(queue), max([*active, *queue, 0.0])
    span = makespan(active, queue, jobs)
    assert span >= max(work / jobs, longest) - 1e-6
    assert span <= work / jobs + longest + 1e-6


def test_what_is_unknown_is_thought_to_be_like_the_known() -> None:
    assert filled([10.0, None, 30.0]) == [10.0, 20.0, 30.0]
    assert filled([None]) is None
    assert filled([]) == []


def test_away_from_a_terminal_a_line_for_each_tenth_tells_the_rest(tmp_path: Path) -> None:
    """Through the watcher, on progress files as training processes write them."""
    store, said = Store(tmp_path), io.StringIO()
    specs = [make_spec(seed=seed) for seed in range(3)]
    known = {spec.run_id: kind_of(spec) for spec in specs}
    past = Past({kind_of(specs[0]): [100.0]})
    with ProgressWatcher(Console(file=said, width=200), Estimate(known, past, 1)) as watcher:
        folder = store.write_spec(specs[0])
        watcher.started(PlannedRun(specs[0], "missing", ""))
        for iteration, lines in ((2, 0), (20, 1), (22, 1), (26, 2)):
            write_progress(folder.progress, Progress(iteration, 40, 2500.0, None, 0.0))
            time.sleep(TICK_S)
            watcher.tick([folder])
            assert said.getvalue().count("of 3 runs") == lines
    # at 2.5 s a step a run takes 100 s: half of the first and two more
    assert said.getvalue().startswith("0 of 3 runs, about 4 min left.")
