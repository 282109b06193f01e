"""Grad-CAM on made networks whose answer is known on paper."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from experiments.draw.grad_cam import grad_cam

A = torch.tensor([[0.0, 1.0, 2.0], [3.0, 0.0, 1.0]])
B = torch.tensor([[1.0, 0.0, 0.0], [1.0, 2.0, 0.0]])


class Layer(nn.Module):
    """Gives back two known maps, differentiable in a parameter that is 1."""

    def __init__(self, several: bool = False) -> None:
        super().__init__()
        self.one = nn.Parameter(torch.ones(()))
        self.several = several

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, ...]:
        maps = torch.stack([A, B])[None] * self.one
        return (maps, maps * 2, maps * 3) if self.several else maps


IMAGE = torch.zeros(1, 3, 4, 4)


def test_channels_are_weighted_by_the_mean_gradient_and_cut_at_zero() -> None:
    layer = Layer()

    def score() -> Tensor:
        maps = layer(IMAGE)
        # gradients: 6 at one place of the first channel (mean 1), −2 everywhere on the second
        return 6 * maps[0, 0, 0, 1] - 2 * maps[0, 1].sum()

    expected = (1.0 * A - 2.0 * B).relu()
    assert torch.equal(grad_cam(layer, score), expected / expected.max())


def test_a_score_that_nothing_speaks_for_gives_zeros() -> None:
    layer = Layer()
    assert torch.equal(grad_cam(layer, lambda: -layer(IMAGE).sum()), torch.zeros(2, 3))


def test_of_several_maps_the_last_that_the_score_uses_is_explained() -> None:
    layer = Layer(several=True)

    def score() -> Tensor:
        first, second, _ = layer(IMAGE)
        return first[0, 1].sum() + second[0, 0].sum()

    assert torch.equal(grad_cam(layer, score), A / A.max())


def test_a_score_of_something_else_is_refused_and_no_hook_is_left() -> None:
    layer = Layer()
    other = nn.Parameter(torch.ones(()))
    with pytest.raises(ValueError, match="depends on no map"):
        grad_cam(layer, lambda: layer(IMAGE).detach().sum() + other)
    assert not layer._forward_hooks


def test_gradients_are_on_for_the_score_alone() -> None:
    layer = Layer()
    with torch.no_grad():
        cam = grad_cam(layer, lambda: layer(IMAGE)[0, 0].sum())
        assert not torch.is_grad_enabled()
    assert not cam.requires_grad
    assert layer.one.grad is None
