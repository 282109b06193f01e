"""The live table: where each run of a results folder stands."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console
from samples import make_areas, make_spec, put

from experiments.plan.plan import PastCosts
from experiments.show.watch import RunWatch, WatchedRun, drawn, summary, watch
from experiments.store.lock import run_lock
from experiments.store.progress import Progress, write_progress
from experiments.store.records import Failure, now
from experiments.store.store import Store


def store_with_runs(root: Path) -> Store:
    """Done, failed, stopped, and one to be trained now: seeds 0, 1, 2, 3."""
    store = Store(root)
    for seed in range(4):
        store.write_spec(make_spec(seed=seed))
    put(store, make_spec(seed=0), make_areas(0))
    failed = make_spec(seed=1).run_id
    failure = Failure(run_id=failed, sentence="No.", traceback="", time=now())
    store.folder(failed).failure.write_text(failure.model_dump_json())
    return store


def text_of(store: Store) -> str:
    stream = io.StringIO()
    watch(Console(file=stream, width=200), store, PastCosts([store]))
    return stream.getvalue()


def test_every_run_has_its_state_and_what_is_left(tmp_path: Path) -> None:
    store = store_with_runs(tmp_path)
    folder = store.folder(make_spec(seed=3).run_id)
    with run_lock(folder) as mine:
        assert mine
        write_progress(folder.progress, Progress(10, 40, 2000.0, 31.25, 0.0))
        runs = RunWatch(store, PastCosts([store])).look()
        assert [run.state for run in runs] == ["running", "failed", "stopped", "done"]
        assert runs[0].left_s == 60.0
        said = text_of(store)
    (line,) = [line for line in said.splitlines() if folder.path.name in line]
    assert "10/40" in line
    assert "31.2" in line
    assert "1 running, 1 failed, 1 stopped, 1 done; about " in said
    assert make_spec(seed=0).run_id not in said, "what is done is only counted"
    assert "2 stopped" in text_of(store), "its process has ended"


def test_time_left_of_what_waits_is_shared_among_what_runs() -> None:
    runs = [
        WatchedRun("a", "running", left_s=10.0),
        WatchedRun("b", "running", left_s=20.0),
        WatchedRun("c", "queued", "job 7 waits ([x])", left_s=300.0),
    ]
    assert summary(runs).startswith("2 running, 1 queued; about 5 min")
    assert "nobody knows how long" in summary([*runs, WatchedRun("d", "queued")])
    stream = io.StringIO()
    Console(file=stream, width=200).print(drawn(runs))
    assert "job 7 waits ([x])" in stream.getvalue(), "what comes from a cluster is no markup"


def test_an_empty_folder_has_a_sentence(tmp_path: Path) -> None:
    assert text_of(Store(tmp_path)).strip() == "No run here yet."
