"""The modulated deformable convolution, against plain convolutions and by hand."""

import torch
import torch.nn.functional as F

from ssa.mask_classifiers.deformable_conv import (
    DeformableUpsample,
    bilinear_kernel,
    modulated_deformable_conv,
)


def example():
    torch.manual_seed(0)
    return torch.randn(2, 3, 7, 9), torch.randn(4, 3, 3, 3)


def test_without_offsets_it_is_a_convolution():
    x, weight = example()
    out = modulated_deformable_conv(x, torch.zeros(2, 18, 7, 9), torch.ones(2, 9, 7, 9), weight)
    torch.testing.assert_close(out, F.conv2d(x, weight, padding=1), rtol=1e-4, atol=1e-5)


def test_whole_pixel_offsets_are_shifts_first_y_then_x():
    x, weight = example()
    offsets = torch.zeros(2, 18, 7, 9)
    offsets[:, 0::2] = 1  # dy of every tap
    offsets[:, 1::2] = -2  # dx
    out = modulated_deformable_conv(x, offsets, torch.ones(2, 9, 7, 9), weight)
    moved = F.pad(x, (2, 0, 0, 1))[:, :, 1:, :9]  # content from one row below, two to the left
    expected = F.conv2d(F.pad(moved, (1, 1, 1, 1)), weight)
    torch.testing.assert_close(
        out[..., 1:-2, 3:-1], expected[..., 1:-2, 3:-1], rtol=1e-4, atol=1e-5
    )


def test_modulation_weighs_each_tap():
    x, weight = example()
    modulation = torch.rand(9)
    planes = modulation[None, :, None, None].expand(2, 9, 7, 9)
    out = modulated_deformable_conv(x, torch.zeros(2, 18, 7, 9), planes, weight)
    expected = F.conv2d(x, weight * modulation.view(3, 3), padding=1)
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)


def test_half_pixel_offset_is_the_mean_of_two_neighbours():
    x = torch.randn(1, 1, 5, 5)
    weight = torch.zeros(1, 1, 3, 3)
    weight[0, 0, 1, 1] = 1
    offsets = torch.zeros(1, 18, 5, 5)
    offsets[:, 9] = 0.5  # dx of the centre tap (4): channel 2·4 + 1
    out = modulated_deformable_conv(x, offsets, torch.ones(1, 9, 5, 5), weight)
    neighbours = F.pad(x, (0, 1))
    torch.testing.assert_close(out, 0.5 * x + 0.5 * neighbours[..., 1:])


def test_gradients_reach_offsets_and_modulation():
    x, weight = example()
    offsets = (0.3 * torch.randn(2, 18, 7, 9)).requires_grad_()
    modulation = torch.rand(2, 9, 7, 9, requires_grad=True)
    modulated_deformable_conv(x, offsets, modulation, weight).square().sum().backward()
    assert offsets.grad.abs().sum() > 0
    assert modulation.grad.abs().sum() > 0


def test_plain_start_upsamples_bilinearly_in_its_first_channel():
    layer = DeformableUpsample(3, 4, {"type": "BN"}, plain_start=True)
    same, upsampled = layer(torch.randn(2, 3, 6, 8))
    assert same.shape == (2, 4, 6, 8)
    assert upsampled.shape == (2, 4, 12, 16)
    assert layer.dcn_offset.weight.abs().sum() == 0
    kernel = bilinear_kernel(4)
    torch.testing.assert_close(layer.up_sample.weight[2, 0], kernel)
    ones = F.conv_transpose2d(torch.ones(1, 1, 6, 6), kernel[None, None], stride=2, padding=1)
    torch.testing.assert_close(ones[..., 1:-1, 1:-1], torch.ones(1, 1, 10, 10))
