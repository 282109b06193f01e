"""Learning rates that fall layer by layer towards a vision transformer's input.

Source of the facts: the optimiser settings of ViT-Adapter (czczup/ViT-Adapter), after BEiT; written
anew here.
"""

from __future__ import annotations

from typing import Any

from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

#: parameters below the first block
INPUT_PARAMETERS = ("backbone.position", "backbone.patch_embedding.")
BLOCKS = "backbone.blocks."


def layer_of(name: str, num_layers: int) -> int:
    """0 for the embeddings, i + 1 for block i, ``num_layers + 1`` for everything else."""
    if name.startswith(INPUT_PARAMETERS):
        return 0
    if name.startswith(BLOCKS):
        return int(name.removeprefix(BLOCKS).split(".")[0]) + 1
    return num_layers + 1


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecay(DefaultOptimWrapperConstructor):
    """One group of parameters a layer, with and without weight decay.

    ``paramwise_cfg`` has ``num_layers`` (blocks) and ``layer_decay_rate`` r; the learning rate of
    layer l is ``lr · r^(num_layers + 1 − l)``. Vectors and biases are not decayed.
    """

    def _validate_cfg(self) -> None:
        missing = {"num_layers", "layer_decay_rate"} - set(self.paramwise_cfg)
        if missing:
            raise ValueError(f"LayerDecay needs {', '.join(sorted(missing))} in paramwise_cfg")

    def add_params(
        self,
        params: list[dict[str, Any]],
        module: nn.Module,
        prefix: str = "",
        is_dcn_module: float | None = None,
    ) -> None:
        """Append the groups of ``module`` to ``params``, in the order of the layers."""
        num_layers: int = self.paramwise_cfg["num_layers"]
        rate: float = self.paramwise_cfg["layer_decay_rate"]
        groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                decayed = parameter.ndim > 1 and not name.endswith(".bias")
                groups.setdefault((layer_of(name, num_layers), decayed), []).append(parameter)
        for (layer, decayed), members in sorted(groups.items(), key=lambda item: item[0]):
            params.append(
                {
                    "params": members,
                    "lr": self.base_lr * rate ** (num_layers + 1 - layer),
                    "weight_decay": self.base_wd if decayed else 0.0,
                }
            )
