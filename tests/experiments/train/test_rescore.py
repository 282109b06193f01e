"""Scoring a finished run anew: the same way exactly the same areas, another way beside it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from lab import Lab, assert_clear, finished
from samples import make_spec

from experiments.declare.load import load_registry
from experiments.declare.training import Evaluation, ProtocolName
from experiments.errors import CorruptRecordError
from experiments.store.workspace import REFERENCE
from experiments.train.rescore import evaluation_under, path_of, read_rescore

STOCK, RELEASED = ProtocolName.stock, ProtocolName.released


@pytest.fixture(scope="module")
def lab(trained: Lab, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return trained.copy(tmp_path_factory.mktemp("rescored") / "results")


def evaluate(lab: Lab, run: str, protocol: str, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-m", "experiments", "evaluate", run]
    command += ["--protocol", protocol, "--device", "cpu", "--results", str(lab.results), *more]
    return finished(command)


def test_under_its_own_protocol_a_run_has_exactly_its_areas(lab: Lab) -> None:
    record = lab.record("ssa")
    before = lab.store.folder(record.run_id).record.read_bytes()
    made = evaluate(lab, record.run_id, "stock")
    text = assert_clear(made, 0, "every area is equal", f"mIoU {record.scores.miou:.2f} %")
    assert text.count("mIoU") == 2
    result = read_rescore(lab.store, record.run_id, STOCK)
    assert result is not None
    assert result.scores == record.scores
    assert result.per_image_sha256 == record.per_image_sha256
    assert result.result_digest == record.result_digest
    assert result.evaluation == record.spec.evaluation
    assert result.dataset_digest == record.spec.dataset_digest
    assert result.environment.code
    assert lab.store.folder(record.run_id).record.read_bytes() == before


def test_another_protocol_is_another_file(lab: Lab) -> None:
    record = lab.record("softmax")
    made = evaluate(lab, record.run_id, "released")
    assert_clear(made, 0, "multiple of 32", "as resized")
    result = read_rescore(lab.store, record.run_id, RELEASED)
    assert result is not None
    assert result.evaluation.multiple_of == 32
    assert path_of(lab.store, record.run_id, RELEASED) != path_of(lab.store, record.run_id, STOCK)
    assert not path_of(lab.store, record.run_id, STOCK).exists()
    own = lab.store.read_areas(record.run_id)
    with np.load(path_of(lab.store, record.run_id, RELEASED).with_suffix(".npz")) as arrays:
        assert list(arrays["names"]) == list(own.names)
        assert (arrays["labelled"] == own.labelled).all()


def test_a_damaged_result_is_named(lab: Lab) -> None:
    record = lab.record("softmax")
    if read_rescore(lab.store, record.run_id, RELEASED) is None:
        assert evaluate(lab, record.run_id, "released").returncode == 0
    path = path_of(lab.store, record.run_id, RELEASED)
    kept = path.read_text()
    for spoilt in (kept[:-20], kept.replace('"num_images": ', '"num_images": 1')):
        path.write_text(spoilt)
        with pytest.raises(CorruptRecordError, match=r"released\.json is damaged"):
            read_rescore(lab.store, record.run_id, RELEASED)
    path.write_text(kept)
    path.with_suffix(".npz").write_bytes(b"nothing")
    with pytest.raises(CorruptRecordError, match="areas beside"):
        read_rescore(lab.store, record.run_id, RELEASED)


def test_what_cannot_be_scored_says_why(lab: Lab, tmp_path: Path) -> None:
    record = lab.record("ssa")
    assert_clear(
        evaluate(lab, record.run_id[:-1], "stock"), 2, "Unknown finished run", record.run_id
    )
    shipped = sorted(path.name for path in (REFERENCE / "runs").iterdir())[0]
    assert_clear(evaluate(lab, shipped, "stock"), 1, "ships, without weights")
    assert_clear(evaluate(lab, record.run_id, "paper"), 2, "released")
    bare = lab.copy(tmp_path / "bare")
    bare.store.folder(record.run_id).weights.unlink()
    assert_clear(evaluate(bare, record.run_id, "stock"), 1, "weights.pth is not there")


@pytest.mark.parametrize(
    ("model", "dataset", "own", "stock", "released"),
    [
        ("upernet_swin_t", "ade20k", 32, None, 32),
        ("upernet_swin_t", "coco_stuff10k", None, None, None),
        ("vit_adapter_l", "pascal_context", 32, None, 32),
        ("segnext_t", "scenes", None, None, 32),
        ("cgrseg_b", "coco_stuff10k", None, None, None),
    ],
)
def test_a_protocol_changes_the_multiple_and_nothing_else(
    model: str, dataset: str, own: int | None, stock: int | None, released: int | None
) -> None:
    evaluation = Evaluation(interval=7, scale=(64, 32), multiple_of=own, batch=3)
    spec = make_spec(model=model, dataset=dataset, evaluation=evaluation)
    for protocol, multiple in ((STOCK, stock), (RELEASED, released)):
        changed = evaluation_under(load_registry(), spec, protocol)
        assert changed.multiple_of == multiple
        assert changed.model_copy(update={"multiple_of": own}) == evaluation
