"""Parts of single backbones whose constants a reference value does not reach."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssa.backbones.afformer import FrequencyFilters
from ssa.backbones.efficientformer_v2 import PositionBias, relative_position_index
from ssa.backbones.layers import drop_path_schedule
from ssa.backbones.seaformer import SqueezedAxis, round_channels


@given(st.floats(1, 4000))
def test_rounded_channels_are_multiples_of_eight_and_lose_at_most_a_tenth(channels):
    rounded = round_channels(channels)
    assert rounded % 8 == 0
    assert rounded >= 0.9 * channels
    assert abs(rounded - channels) <= 8


@pytest.mark.parametrize(("queries", "keys"), [(4, 4), (3, 3), (4, 8), (3, 5)])
def test_position_index_is_the_distance_of_each_pair(queries, keys):
    """Pairs at the same distances along both axes share a bias, other pairs never do."""
    index = relative_position_index(queries, keys)
    step = -(-keys // queries)
    seen: dict[tuple[int, int], int] = {}
    for q in range(queries**2):
        for k in range(keys**2):
            dy = abs(q // queries * step - k // keys)
            dx = abs(q % queries * step - k % keys)
            assert seen.setdefault((dy, dx), int(index[q, k])) == index[q, k]
    assert len(set(seen.values())) == len(seen)
    assert max(seen.values()) < keys**2


def test_position_bias_at_its_own_size_is_the_table():
    bias = PositionBias(3, 3)
    with torch.no_grad():
        bias.values.normal_()
    torch.testing.assert_close(bias(9, 9)[0], bias.values[:, bias.index])
    assert bias(4, 16).shape == (1, 8, 4, 16)
    assert "index" not in bias.state_dict()


def test_squeezed_rows_and_columns_are_transposes():
    """One module on an image's rows sees what it sees on the transposed image's columns."""
    torch.manual_seed(0)
    axis = SqueezedAxis(8, 16, 2, {"type": "BN"}).eval()
    query, key = torch.randn(2, 1, 8, 5, 7)
    value = torch.randn(1, 16, 5, 7)
    rows = axis(query, key, value, squeezed=3)
    columns = axis(*(part.transpose(2, 3) for part in (query, key, value)), squeezed=2)
    assert rows.shape == (1, 16, 5, 1)
    torch.testing.assert_close(rows, columns.transpose(2, 3))


def test_frequency_filters_of_a_constant_image():
    """A constant value passes the low-pass filters as it is (rectified)."""
    filters = FrequencyFilters(8, (1, 1, 2))
    with torch.no_grad():
        for convolution in filters.high_pass:
            convolution.weight.zero_()
            convolution.bias.zero_()
    value = torch.randn(1, 4, 1, 8).expand(1, 4, 30, 8)
    found = filters(torch.randn(1, 4, 30, 8), value, (5, 6))
    torch.testing.assert_close(found, value.relu())


def test_drop_path_rises_from_zero_to_the_rate():
    assert drop_path_schedule(0.3, 4) == pytest.approx([0, 0.1, 0.2, 0.3])
    assert drop_path_schedule(0.3, 1) == [0]
    assert drop_path_schedule(0.3, 0) == []
