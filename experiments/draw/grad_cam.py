"""Grad-CAM: which places of a layer speak for a score (Selvaraju et al., ICCV 2017)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


def grad_cam(layer: nn.Module, score: Callable[[], Tensor]) -> Tensor:
    """ReLU of the layer's channels, each weighted by the mean gradient of the score.

    Of a layer that returns several maps (a backbone), the last one that the score depends on.

    Args:
        layer: is called exactly as often as ``score`` runs the network; its last call counts.
        score: runs the network on one image and returns a scalar; called with gradients on.

    Returns:
        (h, w) at the map's resolution, 0 … 1 with maximum 1, or all 0 if nothing speaks for it.

    Raises:
        ValueError: the score depends on no map of the layer.
    """
    seen: list[Tensor] = []

    def remember(_layer: nn.Module, _inputs: object, output: Tensor | Sequence[Tensor]) -> None:
        seen[:] = [output] if isinstance(output, Tensor) else list(output)

    handle = layer.register_forward_hook(remember)
    try:
        with torch.enable_grad():
            value = score()
    finally:
        handle.remove()
    maps = [m for m in seen if m.requires_grad]
    gradients = torch.autograd.grad(value, maps, allow_unused=True) if maps else ()
    used = [(m, g) for m, g in zip(maps, gradients) if g is not None]
    if not used:
        raise ValueError("the score depends on no map of this layer")
    activation, gradient = used[-1]
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    cam = (weights * activation).sum(dim=1)[0].relu().detach()
    largest = cam.max()
    return cam / largest if largest > 0 else cam
