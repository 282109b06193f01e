"""A step counter that checkpoints carry and that the host reads without waiting for the device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class StepCounter(nn.Module):
    """Counts training steps in the buffer ``steps`` and mirrors it in a Python integer.

    A schedule such as "every fifth step" decides on the host; reading a device buffer there would
    stall the device at every step. The mirror is read back once after a checkpoint was loaded.
    """

    steps: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self._mirror: int | None = 0

    @property
    def value(self) -> int:
        """The number of steps counted so far."""
        if self._mirror is None:
            self._mirror = int(self.steps)
        return self._mirror

    def advance(self) -> None:
        """Count one step."""
        self._mirror = self.value + 1
        self.steps += 1

    def _load_from_state_dict(self, *arguments: Any, **settings: Any) -> None:
        # overridden rather than hooked: mmengine's own loader calls this and runs no hooks
        super()._load_from_state_dict(*arguments, **settings)
        self._mirror = None
