"""A bank of pixel features from the last training steps, of fixed size."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PixelBank(nn.Module):
    """Up to ``steps`` batches of ``pixels`` features each.

    Args:
        steps: batches that fill the bank.
        pixels: rows kept of every batch; of more labelled rows a random subset is kept, drawn from
            the global generator; of fewer the rest of the places is unlabelled.
        channels: D.
        num_classes: K, also the label of an empty place.

    Buffers: ``features`` (steps, pixels, D) and ``classes`` (steps, pixels).
    """

    features: Tensor
    classes: Tensor

    def __init__(self, steps: int, pixels: int, channels: int, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.register_buffer("features", torch.zeros(steps, pixels, channels))
        self.register_buffer("classes", torch.full((steps, pixels), num_classes, dtype=torch.long))

    @torch.no_grad()
    def put(self, place: int, rows: Tensor, classes: Tensor) -> None:
        """Store a batch at ``place``: rows (n, D), classes (n,) with K for unlabelled rows."""
        pixels = self.features.shape[1]
        if len(rows) > pixels:
            keys = torch.rand(len(rows), device=rows.device) + (classes == self.num_classes)
            kept = keys.topk(pixels, largest=False).indices.sort().values
            rows, classes = rows[kept], classes[kept]
        self.classes[place] = self.num_classes
        self.features[place, : len(rows)] = rows.detach().to(self.features.dtype)
        self.classes[place, : len(rows)] = classes
