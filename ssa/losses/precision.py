"""What sums and norms are computed in, and how far they are kept from zero."""

from __future__ import annotations

import torch
from torch import Tensor

#: keeps masses and norms away from zero, as released
EPS = 1e-12


def at_least_float32(values: Tensor) -> Tensor:
    """Half precisions to float32; float64 stays (norms and entropies want the digits)."""
    return values if values.dtype == torch.float64 else values.float()
