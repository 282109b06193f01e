"""Ring buffers of embeddings, one for every component, written without a loop."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssa.classifiers.parts.clustering import class_counts


class RingMemory(nn.Module):
    """S ring buffers of M embeddings with D values each.

    Args:
        slots: S.
        channels: D.
        size: M, places per buffer.
        random_start: start full of random unit vectors (GMMSeg's released code), else empty.

    Buffers (part of every checkpoint): ``entries`` (S, D, M), ``pointer`` (S,) the next place,
    ``filled`` (S,) places that hold an embedding.
    """

    entries: Tensor
    pointer: Tensor
    filled: Tensor

    def __init__(self, slots: int, channels: int, size: int, *, random_start: bool = False) -> None:
        super().__init__()
        shape = (slots, channels, size)
        start = F.normalize(torch.randn(shape), dim=1) if random_start else torch.zeros(shape)
        self.register_buffer("entries", start)
        self.register_buffer("pointer", torch.zeros(slots, dtype=torch.long))
        self.register_buffer(
            "filled", torch.full((slots,), size if random_start else 0, dtype=torch.long)
        )

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
