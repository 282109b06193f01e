"""What the reference files of whole networks are, and the rule that fills a network.

The reference weights are not files but a rule: every released parameter name seeds its own random
values. So a network that is built here, filled through the conversion of names and gives the same
logits has the same architecture, down to the last constant.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from experiments.files import parsed_json, read_bounded
from experiments.parity.reference_file import ReferenceFileError, read_arrays, unreadable

#: classes of the reference networks
NUM_CLASSES = 150
#: bytes of the json beside a reference file
MOST_OF_FACTS = 64 << 20
MODEL_FILES = Path(__file__).resolve().parents[1] / "models"
#: where files of this form are described
FORM = "shared/golden/models, with the json beside it"


@dataclass(frozen=True)
class NetworkReference:
    """One file of reference values of a network, and what it was made with."""

    path: Path
    arrays: Mapping[str, np.ndarray]
    #: released parameters and buffers: name → shape
    shapes: Mapping[str, Sequence[int]]
    #: of the weights' rule
    salt: str = ""
    #: side of the input in pixels
    size: int = 64
    #: of the input
    seed: int = 0
    #: (mean, standard deviation) of the backbone's feature maps, where the file has them
    feature_statistics: Sequence[tuple[float, float]] = field(default_factory=tuple)

    @classmethod
    def read(
        cls,
        path: Path,
        names: Sequence[str],
        salt: str | None = None,
        size: int | None = None,
        seed: int | None = None,
    ) -> NetworkReference:
        """Read an npz and the json beside it.

        Args:
            path: the npz.
            names: the arrays that it must have.
            salt, size, seed: what the reference was made with; None takes the json's value, or
                ``''``, 64 and 0.

        Raises:
            ReferenceFileError: a file is missing or has another form.
        """
        arrays = read_arrays(path, names, form=FORM)
        beside = path.with_suffix(".json")
        try:
            facts: dict[str, Any] = parsed_json(read_bounded(beside, MOST_OF_FACTS))
        except (OSError, ValueError) as error:
            raise unreadable(beside, error, FORM) from None
        if not isinstance(facts, dict) or not isinstance(facts.get("state_dict"), dict):
            raise ReferenceFileError(f"{beside} lists no 'state_dict'; give a file of {FORM}.")
        return cls(
            path=path,
            arrays=arrays,
            shapes=facts["state_dict"],
            salt=facts.get("salt", "") if salt is None else salt,
            size=facts.get("size", 64) if size is None else size,
            seed=facts.get("seed", 0) if seed is None else seed,
            feature_statistics=facts.get("feat_mean_std", ()),
        )

    @property
    def image(self) -> Tensor:
        """The input (1, 3, size, size) of the reference, standard normal."""
        shape = (1, 3, self.size, self.size)
        normal = np.random.default_rng(self.seed).standard_normal(shape)
        return torch.from_numpy(normal.astype(np.float32))


class NoRandomFill(TorchFunctionMode):
    """Skips random initialisation, which for the largest network takes longer than the rest."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (Tensor.uniform_, Tensor.normal_):
            return args[0]
        return func(*args, **(kwargs or {}))


def reference_values(key: str, shape: Sequence[int], salt: str = "") -> np.ndarray:
    """The reference value of one released parameter or buffer.

    Standard normal numbers n of a generator seeded by the name: running variances are 1 + 0.1·|n|
    and means 0.1·n, matrices and kernels n / sqrt(inputs), one-dimensional weights 1 + 0.1·n, all
    else 0.1·n; counters are 0.
    """
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, dtype=np.int64)
    generator = np.random.default_rng(zlib.crc32((salt + key).encode()))
    normal = generator.standard_normal(tuple(shape)).astype(np.float32)
    if key.endswith("running_var"):
        return 1 + np.float32(0.1) * np.abs(normal)
    if key.endswith("running_mean"):
        return np.float32(0.1) * normal
    if len(shape) >= 2:
        normal /= np.float32(np.sqrt(np.prod(shape[1:])))
        return normal
    return np.float32(0.1) * normal + np.float32(1 if key.endswith("weight") else 0)
