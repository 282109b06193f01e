"""One run trained by two processes: what one process trains, whole or resumable whatever dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from lab import (
    PATIENCE_S,
    Lab,
    Trainer,
    assert_clear,
    children_of,
    environment,
    is_alive,
    wait_until,
    without_batch_statistics,
)

from experiments.cli.options import choose_jobs
from experiments.declare.load import load_registry
from experiments.declare.run_spec import RunSpec
from experiments.launch.devices import candidates, groups_of
from experiments.plan.resolve import Resolver
from experiments.store.progress import read_progress
from experiments.store.records import Record
from experiments.store.workspace import Workspace
from experiments.train.exit_codes import BUSY
from ssa.errors import ConfigurationError


@contextmanager
def training(lab: Lab, spec: RunSpec, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """Two processes, as the launcher starts them; whatever is left of it ends with us."""
    folder = lab.store.write_spec(spec)
    command = [sys.executable, "-W", "ignore", "-m", "experiments.train.attempt", str(folder.path)]
    command += ["--data", str(lab.data(spec)), "--processes", "2", *options]
    quiet = environment() | {"CUDA_VISIBLE_DEVICES": ""}
    with folder.log.open("ab") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env=quiet, start_new_session=True
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def train(lab: Lab, spec: RunSpec, *options: str) -> int:
    with training(lab, spec, *options) as process:
        return process.wait(PATIENCE_S)


def log(lab: Lab, spec: RunSpec) -> str:
    return lab.store.folder(spec.run_id).log.read_text()


def read(lab: Lab, spec: RunSpec) -> Record:
    record = lab.store.read(spec.run_id)
    assert record is not None, log(lab, spec)
    return record


def failure(lab: Lab, spec: RunSpec) -> str:
    found = lab.store.read_failure(spec.run_id)
    assert found is not None
    return found.sentence


def plain(lab: Lab, row: str) -> RunSpec:
    """A run in which no image sees another; the evaluation's batches do not fill evenly."""
    spec = without_batch_statistics(lab.plan(row, table="others"), accumulation=1)
    evaluation = spec.evaluation.model_copy(update={"batch": 3})
    return spec.model_copy(update={"evaluation": evaluation})


@pytest.fixture(scope="module")
def shared(trained: Lab, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """The plain softmax run as two processes trained it. Do not write to it."""
    lab = trained.blank(tmp_path_factory.mktemp("shared") / "results")
    spec = plain(lab, "segformer")
    assert train(lab, spec) == 0, log(lab, spec)
    return lab


def assert_the_same(lab: Lab, ours: Record, other: Lab, theirs: Record) -> None:
    """Equal but for the order in which gradients are added."""
    assert ours.run_id == theirs.run_id
    for point, expected in zip(ours.curve, theirs.curve):
        assert point.iteration == expected.iteration
        assert point.losses == pytest.approx(expected.losses, rel=1e-4)
        assert point.scores.model_dump() == pytest.approx(expected.scores.model_dump(), abs=0.1)
    areas, others = lab.store.read_areas(ours.run_id), other.store.read_areas(ours.run_id)
    assert areas.names == others.names
    assert ours.num_images == theirs.num_images == 8
    assert (areas.labelled == others.labelled).all()
    pixels = others.labelled.sum()
    assert abs(areas.intersection - others.intersection).sum() <= 1e-3 * pixels
    assert abs(areas.predicted - others.predicted).sum() <= 1e-3 * pixels
    weights = [torch.load(place.store.folder(ours.run_id).weights) for place in (lab, other)]
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[0].items():
        # steps are some 2e-3; a bias of attention's keys has no gradient but rounding, which Adam
        # makes steps of
        torch.testing.assert_close(value, weights[1][name], atol=5e-4, rtol=1e-4, msg=name)


@pytest.mark.slow
def test_two_processes_train_what_one_trains(
    shared: Lab, trained: Lab, trainer: Trainer, tmp_path: Path
) -> None:
    alone, spec = trained.blank(tmp_path), plain(trained, "segformer")
    assert trainer.train(alone, spec) == 0, log(alone, spec)
    assert_the_same(shared, read(shared, spec), alone, read(alone, spec))
    assert read(shared, spec).deviations == ()
    assert read(shared, spec).environment.processes == 2
    assert read(alone, spec).environment.processes == 1
    left = {path.name for path in shared.store.folder(spec.run_id).path.iterdir()}
    assert left == {path.name for path in alone.store.folder(spec.run_id).path.iterdir()}


@pytest.mark.slow
def test_adapted_prototypes_with_dice_are_trained_alike(
    trained: Lab, trainer: Trainer, tmp_path: Path
) -> None:
    alone, together = trained.blank(tmp_path / "one"), trained.blank(tmp_path / "two")
    spec = plain(trained, "adapted")
    assert trainer.train(alone, spec) == 0, log(alone, spec)
    assert train(together, spec) == 0, log(together, spec)
    assert "dice" in read(alone, spec).curve[0].losses
    assert_the_same(together, read(together, spec), alone, read(alone, spec))


@pytest.mark.slow
def test_a_killed_process_ends_the_others_and_the_run_resumes(
    shared: Lab, trained: Lab, trainer: Trainer, tmp_path: Path
) -> None:
    lab, spec = trained.blank(tmp_path / "killed"), plain(trained, "segformer")
    folder = lab.store.folder(spec.run_id)
    with training(lab, spec, "--checkpoint-every", "0") as process:

        def midway() -> bool:
            progress = read_progress(folder.progress)
            return folder.checkpoint.exists() and progress is not None and progress.iteration > 1

        wait_until(midway, "the middle of the training")
        ranks = children_of(process.pid)
        assert len(ranks) == 2
        os.kill(ranks[0], signal.SIGSTOP)  # it must not end while we ask
        assert train(lab, spec) == BUSY, "the lock is held for all of them"
        os.kill(ranks[1], signal.SIGKILL)
        os.kill(ranks[0], signal.SIGCONT)
        assert process.wait(PATIENCE_S) == 1
    wait_until(lambda: not any(map(is_alive, ranks)), "the end of the others")
    sentence = failure(lab, spec)
    assert "Process 2 of the 2 that train this run was ended by SIGKILL" in sentence
    assert "the same command resumes it" in sentence
    assert lab.store.read(spec.run_id) is None
    alone = lab.copy(tmp_path / "alone")
    assert train(lab, spec) == 0, log(lab, spec)
    assert trainer.train(alone, spec) == 0, log(alone, spec)
    assert read(lab, spec).resumed_at
    assert read(alone, spec).resumed_at
    assert read(lab, spec).result_digest == read(shared, spec).result_digest
    assert_the_same(alone, read(alone, spec), shared, read(shared, spec))


@pytest.mark.slow
def test_no_process_outlives_the_one_that_watches(trained: Lab, tmp_path: Path) -> None:
    lab, spec = trained.blank(tmp_path), plain(trained, "segformer")
    folder = lab.store.folder(spec.run_id)
    with training(lab, spec) as process:
        wait_until(lambda: len(children_of(process.pid)) == 2, "two processes")
        wait_until(lambda: "training" in folder.log.read_text(), "their start")
        ranks = children_of(process.pid)
        process.kill()
        process.wait()
    wait_until(lambda: not any(map(is_alive, ranks)), "their end")


@pytest.mark.slow
def test_an_error_of_all_processes_is_one_sentence(trained: Lab, tmp_path: Path) -> None:
    lab, spec = trained.blank(tmp_path), trained.plan("diverging", table="troubled")
    assert train(lab, spec) == 1
    assert "is no longer a finite number before iteration 4" in failure(lab, spec)


@pytest.mark.slow
def test_micro_batches_under_batch_statistics_are_a_deviation(
    trained: Lab, trainer: Trainer, tmp_path: Path
) -> None:
    lab, base = trained.blank(tmp_path), trained.plan("baseline")
    training = base.training.model_copy(update={"accumulation": 2})
    spec = base.model_copy(update={"training": training})
    assert trainer.train(lab, spec) == 0, log(lab, spec)
    (sentence,) = read(lab, spec).deviations
    assert "BatchNorm saw 2 of a batch's 4 images at a time (2 micro-batches" in sentence
    assert trained.record("softmax").deviations == ()


@pytest.mark.slow
def test_packed_images_change_nothing(trained: Lab, tmp_path: Path) -> None:
    """Through the command line: a profile that asks for them."""
    lab = trained.blank(tmp_path / "results")
    folder = tmp_path / "registry"
    shipped = Path(__file__).parents[3] / "experiments" / "profiles" / "smoke.yaml"
    text = shipped.read_text()
    assert "cache_images: true" in text
    text = text.replace("name: smoke", "name: packing").replace("cache_images", "packed")
    (folder / "profiles").mkdir(parents=True)
    (folder / "profiles" / "packing.yaml").write_text(text)
    words = ("--registry", str(folder), "--rows", "baseline")
    done = lab.call("pair", *words, profile="packing")
    assert done.returncode == 0, done.stderr
    assert lab.record("softmax").result_digest == trained.record("softmax").result_digest
    packed = sorted((lab.results / "cache" / "packed").iterdir())
    assert [path.suffix for path in packed] == [".bin", ".bin"], "training and evaluation"


def test_several_gpus_without_any_are_one_sentence(trained: Lab) -> None:
    if torch.cuda.is_available():
        pytest.skip("needs a machine without a GPU: CUDA_VISIBLE_DEVICES= ./run_all.sh test")
    assert_clear(trained.call("pair", "--gpus", "4"), 2, "--gpus 4 was given", "leave --gpus out")
    with pytest.raises(ValueError, match="trains on the CPU"):
        choose_jobs(None, "cpu", gpus=2)


def divided(lab: Lab, **how: int) -> RunSpec:
    """The run ``pair``'s baseline as a call with these options resolves it."""
    registry = load_registry([lab.registry])
    workspace = Workspace(results=lab.results)
    table = registry.table("pair")
    resolver = Resolver(registry, registry.profile("smoke"), workspace, **how)  # type: ignore[arg-type]
    spec = resolver.resolve(table, table.row("baseline"), 0)
    assert isinstance(spec, RunSpec)
    return spec


@pytest.mark.parametrize("how", [{"accumulation": 3}, {"accumulation": 2, "processes": 4}])
def test_a_batch_that_cannot_be_divided_is_one_sentence(trained: Lab, how: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError, match="A batch of 4 images cannot be shared evenly"):
        divided(trained, **how)


def test_micro_batches_make_another_run_and_gpus_do_not(trained: Lab) -> None:
    usual = divided(trained)
    assert usual.run_id == trained.record("softmax").run_id
    assert divided(trained, processes=2) == usual == divided(trained, accumulation=1)
    cut = divided(trained, accumulation=2, processes=2)
    assert cut.training.accumulation == 2
    assert cut.run_id != usual.run_id


@pytest.mark.parametrize(
    ("busy", "free"),
    [
        ((), [(0, 1), (2, 3)]),
        ((0, 1), [(2, 3)]),
        ((2, 3), [(0, 1)]),
        ((0, 1, 2, 3), []),
    ],
)
def test_runs_get_gpus_of_their_own(busy: tuple[int, ...], free: list[tuple[int, ...]]) -> None:
    assert candidates(groups_of(5, processes=2), busy, jobs=2) == free


def test_more_runs_than_gpus_share_them_evenly() -> None:
    groups, busy, taken = groups_of(3, processes=1), list[int](), list[int]()
    while free := candidates(groups, busy, jobs=5):
        busy.append(free[0][0])
        taken.append(free[0][0])
    assert taken == [0, 1, 2, 0, 1, 2]
