"""The network of a finished run can be taken up again, or a sentence says why not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from lab import Lab

from experiments.train.trained import MissingWeightsError, load_trained

pytestmark = pytest.mark.slow


def test_the_weights_are_those_that_the_run_ended_with(trained: Lab) -> None:
    record = trained.record("ssa")
    kept = torch.load(trained.store.folder(record.run_id).weights, weights_only=True)
    model = load_trained(record, trained.store)
    state = model.state_dict()
    assert state.keys() == kept.keys()
    assert all(torch.equal(state[name], kept[name]) for name in kept)
    assert not model.training
    moved = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert moved
    assert all(int(m.num_batches_tracked) == record.spec.training.iterations for m in moved)


@pytest.mark.parametrize("damage", ["gone", "truncated", "not a file of weights"])
def test_without_weights_a_sentence_says_what_to_do(
    trained: Lab, tmp_path: Path, damage: str
) -> None:
    lab = trained.copy(tmp_path / "results")
    record = lab.record("ssa")
    path = lab.store.folder(record.run_id).weights
    if damage == "gone":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        path.write_text("weights")
    with pytest.raises(MissingWeightsError, match=re.escape(str(path))) as caught:
        load_trained(record, lab.store)
    assert "give the command that made it again" in str(caught.value)
