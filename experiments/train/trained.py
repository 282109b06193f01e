"""A network that a run has trained, taken up again: for figures and for scoring it anew."""

from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.declare.extensions import take_up_for
from experiments.errors import SsaError
from experiments.store.records import Record
from experiments.store.store import Store

if TYPE_CHECKING:
    from mmengine.model import BaseModel


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
    import torch
    from mmengine.config import ConfigDict
    from mmengine.registry import init_default_scope
    from mmseg.registry import MODELS

    with redirect_stdout(io.StringIO()):  # it prints which optional packages it could not import
        import mmseg.datasets  # noqa: F401

    from experiments.train.components import register_components
    from experiments.train.config import model_config

    path = require_weights_of(record, store)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, ValueError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0]
        raise MissingWeightsError(f"{path} is damaged ({reason}); {_remedy(path)}.") from None
    take_up_for(record.spec, registry)
    register_components()
    init_default_scope("mmseg")
    config = ConfigDict(model_config(record.spec))  # its test mode is read as attributes
    model = MODELS.build(config)
    model.load_state_dict(state)
    if record.spec.training.channels_last:
        model.to(memory_format=torch.channels_last)
    return model.to(device).eval()


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
