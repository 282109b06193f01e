"""The crew leads runs through any launcher; here one whose runs the test moves."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from fake_launcher import FakeLauncher
from samples import make_spec

from experiments.declare.profile import Loading
from experiments.errors import StoreError
from experiments.launch.command import command, variables
from experiments.launch.crew import Outcome, launch
from experiments.launch.launcher import Ended, Inputs, Resources
from experiments.launch.local import LocalLauncher, LocalOptions
from experiments.plan.plan import PlannedRun
from experiments.store.folder import RunFolder
from experiments.store.lock import run_lock
from experiments.store.notice import tell
from experiments.store.store import Store
from experiments.train.exit_codes import BUSY


class Watching:
    """Writes down what it is told; ``move`` is what happens between two rounds."""

    def __init__(self, move: Callable[[], None]) -> None:
        self.move, self.told = move, list[str]()

    def started(self, run: PlannedRun) -> None:
        self.told.append(f"{run.spec.seed} began")

    def said(self, run: PlannedRun, sentence: str) -> None:
        self.told.append(f"{run.spec.seed} {sentence}")

    def noted(self, sentence: str) -> None:
        self.told.append(sentence)

    def ended(self, outcome: Outcome) -> None:
        self.told.append(f"{outcome.spec.seed} {outcome.end}")

    def tick(self, active: Sequence[RunFolder]) -> None:
        self.move()


def planned(*seeds: int, state: str = "missing") -> list[PlannedRun]:
    return [PlannedRun(make_spec(seed=seed), state, "") for seed in seeds]  # type: ignore[arg-type]


def led(
    store: Store, fake: FakeLauncher, seeds: Sequence[int], *moves: Callable[[], None]
) -> tuple[list[Outcome], Watching]:
    """Lead these runs, one move a round."""
    waiting = iter(moves)
    watching = Watching(lambda: next(waiting, lambda: None)())
    outcomes = launch(planned(*seeds), store, lambda _: Inputs(Path("data")), fake, watching)
    return outcomes, watching


def test_runs_wait_for_places_and_begin_when_the_launcher_says_so(tmp_path: Path) -> None:
    fake, store = FakeLauncher(places=2), Store(tmp_path)

    def begin() -> None:
        assert len(fake.handles) == 2, "no more than it takes"
        fake.handles[1].began = True

    def finish_one() -> None:
        fake.handles[1].finish()

    def finish_all() -> None:
        assert len(fake.handles) == 3, "a free place takes the next"
        for handle in (fake.handles[0], fake.handles[2]):
            handle.finish()

    outcomes, watching = led(store, fake, (0, 1, 2), begin, finish_one, lambda: None, finish_all)
    assert [(each.spec.seed, each.end) for each in outcomes] == [
        (1, "trained"), (0, "trained"), (2, "trained"),
    ]  # fmt: skip
    assert watching.told[:2] == ["1 began", "1 trained"]
    assert watching.told[-1] == "The fake is closed."


def test_the_end_of_one_run_is_no_other_runs(tmp_path: Path) -> None:
    """Refused, killed, cancelled, gone without a word: a sentence each, and the last is trained."""
    fake, store = FakeLauncher(places=9, refused={0: StoreError("No room.")}), Store(tmp_path)

    def end() -> None:
        killed, cancelled, unheard, well = fake.handles
        killed.end = Ended(None, signal.SIGKILL)
        cancelled.cancel()
        unheard.end = Ended(None, reason="Its node went down.")
        well.finish()

    outcomes, _ = led(store, fake, (0, 1, 2, 3, 4), end)
    told = {each.spec.seed: (each.end, each.sentence, each.code) for each in outcomes}
    again = "The training process was ended by {}; the same command resumes it."
    assert told == {
        0: ("failed", "No room.", None),
        1: ("failed", again.format("SIGKILL"), -9),
        2: ("failed", again.format("SIGTERM"), -15),
        3: ("failed", "Its node went down.", None),
        4: ("trained", "", None),
    }


def test_a_run_of_another_call_is_waited_for(tmp_path: Path) -> None:
    fake, store = FakeLauncher(), Store(tmp_path)
    folder = store.folder(make_spec().run_id)
    with run_lock(folder) as mine:
        assert mine

        def busy() -> None:
            fake.handles[0].end = Ended(BUSY)

        def other_finishes() -> None:
            fake.handles[0].finish()  # its record, as the other call's process writes it

        outcomes, _ = led(store, fake, (0,), busy, lambda: None, other_finishes)
    assert [each.end for each in outcomes] == ["elsewhere"]
    assert len(fake.handles) == 1


def test_what_a_run_says_reaches_the_caller(tmp_path: Path) -> None:
    fake, store = FakeLauncher(), Store(tmp_path)

    def say() -> None:
        tell(store.folder(make_spec().run_id), "It starts anew.")

    _, watching = led(store, fake, (0,), say, lambda: None, lambda: fake.handles[0].finish())
    assert "0 It starts anew." in watching.told


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_call_closes_its_launcher(tmp_path: Path, number: signal.Signals) -> None:
    fake = FakeLauncher()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            led(Store(tmp_path), fake, (0,), lambda: os.kill(os.getpid(), number))
    finally:
        signal.signal(signal.SIGINT, before)
    assert fake.closed
    assert not fake.hurried


def test_the_command_is_a_function_of_its_arguments() -> None:
    (run,), (again,) = planned(0), planned(0, state="remade")
    inputs = Inputs(Path("/d"), Path("/w.pth"), (Path("/mine"),), Path("/results"))
    many = Resources("cuda", 2, 3, Loading(workers=4, cache_images=True), Path("/p"), 7.0)
    assert " ".join(command(run, inputs, many)) == (
        f"experiments.train.attempt /results/runs/{run.spec.run_id} --data /d --weights /w.pth "
        "--registry /mine --device cuda --threads 3 --workers 4 --checkpoint-every 7.0 "
        "--cache-images --packed /p --processes 2"
    )
    assert command(run, inputs, many) == command(run, inputs, many)
    assert "--remake" in command(again, inputs, many)
    assert "CUDA_VISIBLE_DEVICES" not in variables(many), "the launcher's own matter"


def test_the_local_launcher_has_as_many_places_as_jobs() -> None:
    launcher = LocalLauncher(LocalOptions(jobs=3))
    assert launcher.capacity == 3
    assert launcher.close() == ""
