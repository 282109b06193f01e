"""Tensors across the processes of one training run; the identity when there is only one."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """The number of training processes; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gather_rows(tensor: Tensor) -> Tensor:
    """Rows (n, ...) of every process, in rank order: (world · n, ...). No gradient.

    Every process must hold the same number of rows, which crops of one size guarantee.
    """
    if world_size() == 1:
        return tensor.detach()
    parts = [torch.empty_like(tensor) for _ in range(world_size())]
    dist.all_gather(parts, tensor.detach().contiguous())
    return torch.cat(parts)


def mean_of_processes(tensor: Tensor) -> Tensor:
    """The mean over processes of a tensor of the same shape on each. No gradient."""
    if world_size() == 1:
        return tensor.detach()
    total = tensor.detach().clone()
    dist.all_reduce(total)
    return total / world_size()
