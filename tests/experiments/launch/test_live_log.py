"""Runs that are followed while they train: the same results, and files that the service reads."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import pytest
from lab import Lab
from samples import make_areas, make_spec, put

from experiments.launch.crew import Outcome
from experiments.launch.follow import SERVICES, follow, make_backend
from experiments.launch.live_log import LiveLog, LogError, require
from experiments.plan.plan import PlannedRun
from experiments.store.folder import RunFolder
from experiments.store.progress import Progress, write_progress
from experiments.store.records import Record
from experiments.store.store import Store


def needs(service: str) -> None:
    if importlib.util.find_spec(SERVICES[service].module) is None:
        pytest.skip(f"no {service}: .venv/bin/pip install -e '.[{service}]'")


class Listener:
    """Keeps what a watcher is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def started(self, run: PlannedRun) -> None:
        self.told.append("started")

    def said(self, run: PlannedRun, sentence: str) -> None:
        self.told.append(sentence)

    def noted(self, sentence: str) -> None:
        self.told.append(sentence)

    def ended(self, outcome: Outcome) -> None:
        self.told.append(outcome.end)

    def tick(self, active: Sequence[RunFolder]) -> None:
        self.told.append("tick")


def scalars_of(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What tensorboard itself reads."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(str(folder))
    reader.Reload()
    return {
        name: [(event.step, event.value) for event in reader.Scalars(name)]
        for name in reader.Tags()["scalars"]
    }


def curve_of(record: Record) -> list[tuple[int, float]]:
    return [(point.iteration, pytest.approx(point.scores.miou, rel=1e-6)) for point in record.curve]


def test_a_followed_run_is_equal_and_its_curve_is_read_back(trained: Lab, tmp_path: Path) -> None:
    needs("tensorboard")
    lab = trained.blank(tmp_path / "results")
    said = lab.call("one", "--log", "tensorboard")
    assert said.returncode == 0, said.stderr
    assert "could not follow" not in said.stderr
    record, plain = lab.record("softmax"), trained.record("softmax")
    assert record.result_digest == plain.result_digest
    assert record.run_id == plain.run_id
    scalars = scalars_of(lab.results / "logs" / "tensorboard" / record.run_id)
    assert scalars["curve/miou"] == curve_of(record)
    terms = {f"loss/{name}" for point in record.curve for name in point.losses}
    assert terms <= set(scalars)


def finished_run(store: Store) -> Record:
    record = put(store, make_spec(), make_areas(0))
    progress = Progress(iteration=20, iterations=40, iteration_ms=5.0, miou=12.5, time=0.0)
    write_progress(store.folder(record.run_id).progress, progress)
    return record


def test_where_a_run_stands_is_written_while_it_goes_on(tmp_path: Path) -> None:
    needs("tensorboard")
    store = Store(tmp_path / "results")
    record = finished_run(store)
    backend = make_backend("tensorboard", tmp_path / "logs", record.spec)
    follow(store.folder(record.run_id), backend, iter([None, None]))
    backend.close()
    scalars = scalars_of(tmp_path / "logs" / record.run_id)
    assert scalars["live/miou"] == [(20, 12.5)], "once an iteration"
    assert scalars["live/ms_a_step"] == [(20, 5.0)]
    assert scalars["curve/miou"] == curve_of(record)


def test_mlflow_reads_a_run_from_its_local_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    store = Store(tmp_path / "results")
    record = finished_run(store)
    backend = make_backend("mlflow", tmp_path / "logs", record.spec)
    follow(store.folder(record.run_id), backend, iter([None]))
    backend.close()

    from mlflow.tracking import MlflowClient

    client = MlflowClient((tmp_path / "logs").as_uri())
    (experiment,) = [e for e in client.search_experiments() if e.name == record.spec.profile]
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == record.run_id
    history = client.get_metric_history(run.info.run_id, "curve/miou")
    assert [(metric.step, metric.value) for metric in history] == curve_of(record)
    assert run.data.params["declared.training.iterations"] == "40"


def test_wandb_writes_a_run_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    store = Store(tmp_path / "results")
    record = finished_run(store)
    backend = make_backend("wandb", tmp_path / "logs", record.spec)
    follow(store.folder(record.run_id), backend, iter([None]))
    backend.experiment.finish()
    assert list((tmp_path / "logs" / record.run_id / "wandb").glob("offline-run-*/*.wandb"))


def test_a_log_that_fails_costs_no_run(tmp_path: Path) -> None:
    needs("tensorboard")
    store, watcher = Store(tmp_path / "results"), Listener()
    record = finished_run(store)
    out = tmp_path / "logs"
    out.mkdir()
    (out / record.run_id).write_text("a file where a folder is to be")
    run = PlannedRun(record.spec, "missing", "")
    log = LiveLog(watcher, "tensorboard", store, out)
    log.started(run)
    log.tick([])
    log.ended(Outcome(record.spec, "trained"))
    (sentence,) = log.close()
    assert record.run_id in sentence
    assert watcher.told == ["started", "tick", "trained"]
    assert "Error" in (out / f"{record.run_id}.txt").read_text()


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_that_is_not_installed_is_refused(service: str) -> None:
    if importlib.util.find_spec(SERVICES[service].module) is not None:
        pytest.skip(f"{service} is installed; its absence is seen where it is not")
    with pytest.raises(LogError, match=rf"pip install -e '\.\[{service}\]'"):
        require(service)
