"""Ring buffers of embeddings, one for every component, written without a loop."""

from __future__ import annotations

import contextlib
from pathlib import Path

import torch
from torch import Tensor, nn

from ssa.classifiers.parts.clustering import class_counts
from ssa.errors import ConfigurationError
from ssa.losses.precision import EPS


class RingMemory(nn.Module):
    """S ring buffers of M embeddings with D values each.

    Args:
        slots: S.
        channels: D.
        size: M, places per buffer.
        random_start: start full of random unit vectors (GMMSeg's released code), else empty.

    Raises:
        ConfigurationError: the machine lacks the memory for it.

    Buffers (part of every checkpoint): ``entries`` (S, D, M), ``pointer`` (S,) the next place,
    ``filled`` (S,) places that hold an embedding.
    """

    entries: Tensor
    pointer: Tensor
    filled: Tensor

    def __init__(self, slots: int, channels: int, size: int, *, random_start: bool = False) -> None:
        super().__init__()
        _check_room(slots, channels, size)
        self.register_buffer("entries", torch.zeros(slots, channels, size))
        if random_start:
            self._fill_with_unit_vectors()
        self.register_buffer("pointer", torch.zeros(slots, dtype=torch.long))
        self.register_buffer(
            "filled", torch.full((slots,), size if random_start else 0, dtype=torch.long)
        )

    @torch.no_grad()
    def _fill_with_unit_vectors(self) -> None:
        # in place, slot by slot: beside a memory of gigabytes there is no room for another
        for slot in self.entries.normal_():
            slot.div_(slot.norm(dim=0, keepdim=True).clamp_min(EPS))

    @torch.no_grad()
    def write(self, embeddings: Tensor, slots: Tensor, limit: int) -> None:
        """Write at most ``limit`` embeddings into every buffer, in row order, wrapping around.

        Of c > ``limit`` rows of a slot those at floor(i (c − 1) / (limit − 1)) are kept: evenly
        spaced, first and last included, no randomness.

        Args:
            embeddings: (n, D).
            slots: (n,) with S for rows that take no part.
            limit: at most M.
        """
        num_slots, channels, size = self.entries.shape
        counts = class_counts(slots, num_slots)
        order = torch.sort(slots, stable=True).indices
        starts = (counts.cumsum(0) - counts)[:-1, None]
        counts = counts[:-1, None]
        step = torch.arange(limit, device=slots.device)[None]
        spaced = torch.div(step * (counts - 1), max(limit - 1, 1), rounding_mode="floor")
        rank = torch.where(counts > limit, spaced, step)
        kept = step < counts  # (S, limit)
        rows = order[(starts + rank).clamp(max=slots.shape[0] - 1)]
        new = embeddings.detach()[rows].transpose(1, 2).to(self.entries.dtype)  # (S, D, limit)
        places = ((self.pointer[:, None] + step) % size)[:, None].expand(-1, channels, -1)
        old = self.entries.gather(2, places)
        self.entries.scatter_(2, places, torch.where(kept[:, None], new, old))
        written = counts.squeeze(1).clamp(max=limit)
        self.pointer.copy_((self.pointer + written) % size)
        self.filled.copy_((self.filled + written).clamp(max=size))


def _check_room(slots: int, channels: int, size: int) -> None:
    """Refuse what the system would end the process for, once the pages are touched."""
    probe = torch.empty(0)
    if probe.device.type != "cpu":  # torch.device("meta") takes nothing, a GPU says so itself
        return
    needed = slots * channels * size * probe.element_size()
    free = _available_bytes()
    if free is not None and needed > free:
        raise ConfigurationError(
            f"A memory of {slots} × {size} embeddings with {channels} values takes "
            f"{needed / 1e9:.1f} GB, and this machine has {free / 1e9:.1f} GB left; give a smaller "
            "memory_size in the classifier's overrides."
        )


def _available_bytes() -> int | None:
    """What the system or a container's limit leaves, as Linux says it; None elsewhere."""
    sizes = []
    with contextlib.suppress(OSError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        sizes += [1024 * int(one.split()[1]) for one in lines if one.startswith("MemAvailable:")]
    with contextlib.suppress(OSError, ValueError):  # "max" is no number: no limit
        sizes.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return min(sizes, default=None)
