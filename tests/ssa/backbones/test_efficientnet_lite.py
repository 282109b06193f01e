"""EfficientNet-Lite: TensorFlow's padding, its own normalisation, and what is built."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ssa.backbones.efficientnet_lite import EfficientNetLite, SameConv

STAGES = [[3, 1, 8, 1, 1], [3, 2, 12, 2, 2], [5, 2, 16, 2, 1], [3, 2, 24, 2, 1]]


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("side", [1, 2, 7, 8, 9, 224])
def test_the_windows_of_a_strided_layer_are_tensorflows(kernel: int, side: int) -> None:
    """Output i sees the pixels from ``2 i − before``; of an odd sum the larger part lies behind."""
    layer = SameConv(1, 1, kernel, stride=2, norm_cfg={"type": "BN"}, activated=False).eval()
    nn.init.ones_(layer.conv.weight)
    image = torch.arange(1.0, side + 1).expand(1, 1, side, side)
    outputs = -(-side // 2)
    before = max((outputs - 1) * 2 + kernel - side, 0) // 2
    out = layer(image)[0, 0] * (1 + layer.bn.eps) ** 0.5
    assert out.shape == (outputs, outputs)

    def window(first: int) -> range:
        return range(max(first, 0), min(first + kernel, side))

    for i in range(outputs):
        columns = sum(each + 1 for each in window(2 * i - before))
        for j in (0, outputs - 1):
            rows = len(window(2 * j - before))
            assert float(out[j, i].detach()) == pytest.approx(rows * columns, rel=1e-5)


@torch.no_grad()
def test_images_reach_the_stem_as_the_weights_want_them() -> None:
    """Whatever the preprocessor normalised by, the stem sees (x − 127) / 128."""
    raw = torch.randint(0, 256, (2, 3, 32, 32)).float()
    mean, std = (10.0, 20.0, 30.0), (2.0, 3.0, 4.0)
    backbone = EfficientNetLite(STAGES, [1], given_mean=mean, given_std=std).eval()
    seen: list[torch.Tensor] = []
    backbone.stem.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    backbone((raw - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1))
    torch.testing.assert_close(seen[0], (raw - 127) / 128, rtol=1e-5, atol=1e-5)
    assert not {"scale", "shift"} & set(backbone.state_dict()), "no weights"


@torch.no_grad()
def test_what_lies_behind_the_last_output_is_not_built() -> None:
    whole = EfficientNetLite(STAGES, [1, 3]).eval()
    part = EfficientNetLite(STAGES, [0, 1]).eval()
    assert len(whole.blocks) == 5
    assert len(part.blocks) == 3
    part.load_state_dict({k: v for k, v in whole.state_dict().items() if k in part.state_dict()})
    images = torch.randn(1, 3, 40, 56)
    assert [out.shape[1:] for out in whole(images)] == [(12, 10, 14), (24, 3, 4)]
    torch.testing.assert_close(part(images)[1], whole(images)[0])
    assert [out.shape[1:] for out in part(images)] == [(8, 20, 28), (12, 10, 14)]
