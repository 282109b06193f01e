"""A network that a run has trained, taken up again: for figures and for scoring it anew."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.declare.extensions import take_up_for
from experiments.errors import SsaError
from experiments.imports import import_mmengine
from experiments.store.records import Record
from experiments.store.store import Store
from experiments.store.tensors import read_tensors

if TYPE_CHECKING:
    from mmengine.model import BaseModel
    from torch import Tensor


class MissingWeightsError(SsaError):
    """A finished run without the weights that it ended with."""


def load_trained(
    record: Record, store: Store, device: str = "cpu", registry: Sequence[Path] = ()
) -> BaseModel:
    """The network of a finished run with its final weights, in evaluation mode.

    Args:
        record: of the run.
        store: where its weights lie.
        device: "cpu" or a CUDA device.
        registry: folders with the user's own classifier, if it is not registered yet.

    Raises:
        MissingWeightsError: there are none, or they are damaged.
    """
    import_mmengine()
    import torch
    from mmengine.config import ConfigDict
    from mmengine.registry import init_default_scope
    from mmseg.registry import MODELS

    with redirect_stdout(io.StringIO()):  # it prints which optional packages it could not import
        import mmseg.datasets  # noqa: F401

    from experiments.train.components import register_components
    from experiments.train.config import model_config

    path = require_weights_of(record, store)
    state = read_weights(path)
    take_up_for(record.spec, registry)
    register_components()
    init_default_scope("mmseg")
    config = ConfigDict(model_config(record.spec))  # its test mode is read as attributes
    model = MODELS.build(config)
    try:
        model.load_state_dict(state)
    except (RuntimeError, TypeError) as error:  # of another network, or no tensors
        reason = " ".join(str(error).split())[:200]
        raise MissingWeightsError(
            f"{path} does not fit the network ({reason}); {_remedy(path)}."
        ) from None
    if record.spec.training.channels_last:
        model.to(memory_format=torch.channels_last)
    return model.to(device).eval()


def read_weights(path: Path) -> dict[str, Tensor]:
    """The weights in a file, of which no code is executed.

    Raises:
        MissingWeightsError: they are damaged, or something else.
    """
    from torch import Tensor

    try:
        state = read_tensors(path)
        if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
            raise ValueError("it holds other things than weights")
    except (OSError, ValueError) as error:
        raise MissingWeightsError(f"{path} is damaged ({error}); {_remedy(path)}.") from None
    return state


def require_weights_of(record: Record, store: Store) -> Path:
    """The file of a run's final weights.

    Raises:
        MissingWeightsError: there is none.
    """
    path = store.folder(record.run_id).weights
    if not path.exists():
        raise MissingWeightsError(
            f"{path} is not there (records are shipped without weights); {_remedy(path)}."
        )
    return path


def _remedy(path: Path) -> str:
    return f"rename {path.parent.name} and give the command that made it again"
