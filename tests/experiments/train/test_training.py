"""What is trained depends on the spec alone: not on kills, processes, workers or micro-batches."""

from __future__ import annotations

import os
import signal
import zipfile
from pathlib import Path

import pytest
import torch
from lab import Lab, Trainer, wait_until, without_batch_statistics

from experiments.declare.run_spec import RunSpec
from experiments.store.progress import read_progress
from experiments.store.records import Record

pytestmark = pytest.mark.slow


def read(lab: Lab, spec: RunSpec) -> Record:
    record = lab.store.read(spec.run_id)
    assert record is not None
    return record


def areas_file(lab: Lab, spec: RunSpec) -> bytes:
    return lab.store.folder(spec.run_id).per_image.read_bytes()


def log(lab: Lab, spec: RunSpec) -> str:
    return lab.store.folder(spec.run_id).log.read_text()


@pytest.mark.parametrize("options", [(), ("--cache-images", "--workers", "2")], ids=["0", "2"])
def test_the_same_seed_gives_the_same_record_whatever_loads_the_images(
    trained: Lab, trainer: Trainer, tmp_path: Path, options: tuple[str, ...]
) -> None:
    lab = trained.blank(tmp_path)
    spec = lab.plan("full")
    assert trainer.train(lab, spec, *options) == 0, log(lab, spec)
    ours, theirs = read(lab, spec), trained.record("ssa")
    assert ours.run_id == theirs.run_id
    assert ours.result_digest == theirs.result_digest
    assert ours.curve == theirs.curve
    assert areas_file(lab, spec) == areas_file(trained, spec)
    assert ours.environment.code == theirs.environment.code


def test_another_seed_gives_another_record(trained: Lab, trainer: Trainer, tmp_path: Path) -> None:
    lab = trained.blank(tmp_path)
    spec = lab.plan("full", seed=1)
    assert trainer.train(lab, spec) == 0, log(lab, spec)
    assert read(lab, spec).result_digest != trained.record("ssa").result_digest
    assert read(lab, spec).curve[0].losses != trained.record("ssa").curve[0].losses


def test_a_record_says_what_was_run(trained: Lab) -> None:
    record = trained.record("ssa")
    assert record.num_images == 8
    assert [point.iteration for point in record.curve] == [4, 8]
    assert record.scores == record.curve[-1].scores
    assert len(record.per_class_iou) == len(record.class_names) == record.spec.num_classes
    assert record.resumed_at == ()
    assert record.timings.total_s >= record.timings.train_s > 0
    assert record.peak_memory_mb > 1
    used = record.environment.code
    assert "ssa.classifiers.ssa" in used
    assert "ssa.classifiers.dnc" not in used, "a rival's code makes this run stale"
    assert {"ce", "total"} <= set(trained.record("softmax").curve[0].losses)
    left = {path.name for path in trained.store.folder(record.run_id).path.iterdir()}
    assert left == {
        "spec.json", "lock", "config.py", "log.txt", "per_image.npz", "weights.pth", "record.json"
    }  # fmt: skip


def test_micro_batches_add_up_to_the_batch(trained: Lab, trainer: Trainer, tmp_path: Path) -> None:
    lab = trained.blank(tmp_path)
    base = lab.plan("segformer", table="others")
    records = []
    for accumulation in (1, 2, 4):
        spec = without_batch_statistics(base, accumulation)
        assert trainer.train(lab, spec) == 0, log(lab, spec)
        records.append(read(lab, spec))
    assert [record.spec.training.accumulation for record in records] == [1, 2, 4]
    assert len({record.run_id for record in records}) == 3
    for record in records:
        assert [point.iteration for point in record.curve] == [4, 8], "steps, not micro-batches"
        for point, whole in zip(record.curve, records[0].curve):
            assert point.losses == pytest.approx(whole.losses, rel=2e-4)


# --- resuming -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def interrupted(
    trained: Lab, trainer: Trainer, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Lab, RunSpec]:
    """The long run, killed with signal 9 between two evaluations. Do not write to it."""
    lab = trained.blank(tmp_path_factory.mktemp("interrupted"))
    spec = lab.plan("baseline", profile="long")
    folder = lab.store.folder(spec.run_id)
    pid = trainer.start(lab, spec, "--checkpoint-every", "0.05")

    def midway() -> bool:
        progress = read_progress(folder.progress)
        return folder.checkpoint.exists() and progress is not None and progress.iteration >= 28

    wait_until(midway, "the middle of the training")
    os.kill(pid, signal.SIGKILL)
    assert trainer.wait() == -signal.SIGKILL
    assert lab.store.read(spec.run_id) is None
    return lab, spec


def assert_as_if_nothing_had_happened(record: Record, undisturbed: Record) -> None:
    assert record.run_id == undisturbed.run_id
    assert record.scores == undisturbed.scores
    assert record.curve == undisturbed.curve
    assert record.result_digest == undisturbed.result_digest
    assert record.per_image_sha256 == undisturbed.per_image_sha256


def test_kill_9_then_resume_gives_what_an_undisturbed_run_gives(
    interrupted: tuple[Lab, RunSpec], undisturbed: Record, trainer: Trainer, tmp_path: Path
) -> None:
    lab, spec = interrupted[0].copy(tmp_path / "results"), interrupted[1]
    assert trainer.train(lab, spec, "--workers", "1") == 0, log(lab, spec)
    record = read(lab, spec)
    assert_as_if_nothing_had_happened(record, undisturbed)
    (resumed_at,) = record.resumed_at
    assert 20 < resumed_at < 60
    assert undisturbed.resumed_at == ()
    assert not lab.store.folder(spec.run_id).checkpoint.exists()


@pytest.mark.parametrize("damage", ["truncated", "overwritten in the middle"])
def test_a_damaged_checkpoint_is_named_and_not_resumed_from(
    interrupted: tuple[Lab, RunSpec],
    undisturbed: Record,
    trainer: Trainer,
    tmp_path: Path,
    damage: str,
) -> None:
    lab, spec = interrupted[0].copy(tmp_path / "results"), interrupted[1]
    path = lab.store.folder(spec.run_id).checkpoint
    raw = bytearray(path.read_bytes())
    if damage == "truncated":
        raw = raw[: len(raw) // 2]
    else:
        with zipfile.ZipFile(path) as archive:
            largest = max(archive.infolist(), key=lambda entry: entry.file_size)
        middle = largest.header_offset + largest.file_size // 2
        raw[middle : middle + 64] = bytes(64 * [0x55])
    path.write_bytes(bytes(raw))
    assert trainer.train(lab, spec) == 0, log(lab, spec)
    assert_as_if_nothing_had_happened(read(lab, spec), undisturbed)
    assert read(lab, spec).resumed_at == ()
    assert f"{path} is damaged; the run starts anew" in log(lab, spec)


def test_kill_9_during_an_evaluation_loses_no_point_of_the_curve(
    trained: Lab, trainer: Trainer, tmp_path: Path
) -> None:
    """With a state after every step, the last one is that of just before the evaluation."""
    lab = trained.blank(tmp_path)
    spec = lab.plan("baseline")
    always = ("--checkpoint-every", "0")
    assert trainer.train(lab, spec, *always, dies_in=1) == -signal.SIGKILL
    assert trainer.train(lab, spec, *always, dies_in=2) == -signal.SIGKILL
    assert trainer.train(lab, spec) == 0, log(lab, spec)
    record = read(lab, spec)
    assert len(record.resumed_at) == 2
    assert_as_if_nothing_had_happened(record, trained.record("softmax"))


def test_a_checkpoint_is_whole_or_not_there(interrupted: tuple[Lab, RunSpec]) -> None:
    lab, spec = interrupted
    folder = lab.store.folder(spec.run_id)
    state = torch.load(folder.checkpoint, weights_only=False)
    assert 20 < state["meta"]["iter"] < 60
    assert len(state["curve"]["points"]) == state["meta"]["iter"] // 20
    assert state["curve"]["steps"] == state["meta"]["iter"] % 20


def test_a_finished_run_is_not_trained_again(
    trained: Lab, trainer: Trainer, tmp_path: Path
) -> None:
    lab = trained.copy(tmp_path / "results")
    spec = lab.plan("baseline")
    before = lab.store.folder(spec.run_id).record.read_bytes()
    assert trainer.train(lab, spec) == 0
    assert lab.store.folder(spec.run_id).record.read_bytes() == before
