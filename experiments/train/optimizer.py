"""Parameters with equal settings in one group, so that a step costs by settings, not by tensors."""

from __future__ import annotations

from typing import Any

from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class MergedGroups(DefaultOptimWrapperConstructor):
    """mmengine's groups (``paramwise_cfg``), of which it makes one a parameter, merged by settings.

    What each parameter's rate and decay are stays the same, and with it every update; only the norm
    that clipping divides by is summed in another order.
    """

    def add_params(
        self,
        params: list[dict[str, Any]],
        module: nn.Module,
        prefix: str = "",
        is_dcn_module: int | float | None = None,
    ) -> None:
        """Append the groups of ``module`` to ``params``, in the order of their first parameter."""
        super().add_params(params, module, prefix, is_dcn_module)
        if not prefix:  # mmengine calls this for each child; the outermost has them all
            for group in params:
                for mark in ("lr_mult", "decay_mult"):  # mmengine has applied them
                    group.pop(mark, None)
                group.setdefault("lr", self.base_lr)
                if self.base_wd is not None:
                    group.setdefault("weight_decay", self.base_wd)
            params[:] = merged(params)


def merged(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Groups of an optimiser with those of equal settings joined; members keep their order."""
    joined: dict[tuple[tuple[str, Any], ...], list[nn.Parameter]] = {}
    for group in groups:
        settings = tuple(sorted((key, value) for key, value in group.items() if key != "params"))
        members = group["params"]
        joined.setdefault(settings, []).extend(
            [members] if isinstance(members, nn.Parameter) else members
        )
    return [{"params": members, **dict(settings)} for settings, members in joined.items()]
