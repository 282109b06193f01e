"""What torch saved is data here: in this process, and in those that it starts."""

from __future__ import annotations

import os

from ssa.torch_files import damage_of, read_tensors

__all__ = ["damage_of", "read_data_alone", "read_tensors"]


def read_data_alone() -> None:
    """From now on torch executes no code of a file, in this process and those that it starts.

    mmengine asks it to where a checkpoint is more than data, after a warning.
    """
    os.environ.pop("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", None)
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
