"""Networks of shapes only: built and run without memory, for counting and for checking names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class _ScheduleOnCpu(TorchFunctionMode):
    """mmsegmentation reads its stochastic-depth rates back from a tensor, which needs a device."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.linspace:
            kwargs["device"] = "cpu"
        return func(*args, **kwargs)


@contextmanager
def meta_device() -> Iterator[None]:
    """Everything made inside has a shape and no values."""
    with torch.device("meta"), _ScheduleOnCpu():
        yield
