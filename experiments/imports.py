"""mmengine imported without what it tries on the way and no run uses: two seconds less to wait."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

#: optimisers of other packages, which mmengine registers where they can be imported; each brings
#: much with it, and a run's optimiser is AdamW or SGD (experiments/declare/training.py)
NEEDLESS = ("torch.distributed.optim", "transformers")


class _Absent:
    """A finder to which some packages are not installed."""

    @staticmethod
    def find_spec(name: str, _path: Sequence[str] | None = None, _target: object = None) -> None:
        if name in NEEDLESS:
            raise ModuleNotFoundError(f"{name} is left out while mmengine is imported", name=name)


def import_mmengine() -> None:
    """Import mmengine, with all of it that trains; what it was spared can be imported later."""
    if "mmengine.runner" in sys.modules:
        return
    absent = _Absent()
    sys.meta_path.insert(0, absent)
    try:
        importlib.import_module("mmengine.runner")
    finally:
        sys.meta_path.remove(absent)
