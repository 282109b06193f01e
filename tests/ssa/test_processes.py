"""State of the rivals across two real processes."""

import os
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from ssa.classifiers import build_classifier
from ssa.processes import gather_rows, mean_of_processes, world_size

SMALL = {
    "gmmseg": {"memory_size": 8, "samples_per_step": 4, "embedding_channels": None},
    "protoseg": {"prototypes_per_class": 2, "momentum": 0.5, "projection": "none"},
    "dnc": {"memory_size": 8, "samples_per_step": 4, "momentum": 0.5},
}


def batch(rank):
    generator = torch.Generator().manual_seed(rank)
    features = torch.randn(2, 6, 4, 4, generator=generator)
    return features, torch.randint(0, 3, (2, 8, 8), generator=generator)


def step(rank, world, file, out):
    os.environ["OMP_NUM_THREADS"] = "1"
    if world > 1:
        dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=world)
    states = {}
    for name, overrides in SMALL.items():
        torch.manual_seed(0)
        model = build_classifier(name, 6, 3, overrides=overrides, dropout_ratio=0)
        torch.manual_seed(rank)
        if world > 1:
            model.loss(*batch(rank))
        else:
            model.loss(*(torch.cat(pair) for pair in zip(batch(0), batch(1), strict=True)))
        states[name] = {k: v for k, v in model.state_dict().items() if "norm" not in k}
    torch.save(states, f"{out}/{world}_{rank}.pt")
    if world > 1:
        dist.destroy_process_group()


def test_two_processes_remember_the_same_and_what_one_process_would(tmp_path: Path):
    mp.spawn(step, (2, tmp_path / "rendezvous", tmp_path), nprocs=2)
    step(0, 1, None, tmp_path)
    first, second, alone = (torch.load(tmp_path / f"{n}.pt") for n in ("2_0", "2_1", "1_0"))
    for name, state in first.items():
        for key, value in state.items():
            assert torch.equal(value, second[name][key]), f"{name}.{key} differs between processes"
    # one process with both batches sees the same pixels in the same order
    for key in ("memory.entries", "memory.pointer", "centroids"):
        torch.testing.assert_close(first["dnc"][key], alone["dnc"][key])


def test_one_process_needs_no_group():
    values = torch.randn(3, 2, requires_grad=True)
    assert world_size() == 1
    assert torch.equal(gather_rows(values), values)
    assert not gather_rows(values).requires_grad
    assert not mean_of_processes(values).requires_grad
