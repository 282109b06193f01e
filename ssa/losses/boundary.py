"""Boundary masks of label maps: OpenCV's Canny and dilation as a few batched tensor operations.

On an integer map every non-zero L1 gradient is at least 1 and so passes both of the released
thresholds (0.1 and 0.2, which OpenCV floors to 0). Hysteresis therefore changes nothing, and Canny
is an integer Sobel and a non-maximum suppression.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

#: tan 22.5° in OpenCV's fixed point of 15 bits
_TAN_22_5 = 13573
#: cells of the frame in which the released code finds no edges
_FRAME = 6


def canny_edges(labels: Tensor) -> Tensor:
    """``cv2.Canny(labels, 0.1, 0.2)`` on every map of a batch, as a boolean mask.

    Args:
        labels: (B, h, w) integers of at most 32 bits, ignore values like 65535 or -2³¹ included.
    """
    height, width = labels.shape[-2:]
    # Fixed point of 15 bits on differences of up to 2³⁴: an ignore value of 65535 overflows int32.
    ids = labels.to(torch.int64)
    rows = torch.arange(-1, height + 1, device=ids.device).clamp(0, height - 1)
    columns = torch.arange(-1, width + 1, device=ids.device).clamp(0, width - 1)
    ids = ids[:, rows][:, :, columns]  # replicated border, which padding lacks for integers

    down, across = ids[:, 2:] - ids[:, :-2], ids[:, :, 2:] - ids[:, :, :-2]
    dx = across[:, :-2] + 2 * across[:, 1:-1] + across[:, 2:]
    dy = down[:, :, :-2] + 2 * down[:, :, 1:-1] + down[:, :, 2:]
    abs_x, abs_y = dx.abs(), dy.abs()
    magnitude = abs_x + abs_y
    around = F.pad(magnitude, (1, 1, 1, 1))

    def neighbour(row: int, column: int) -> Tensor:
        return around[:, 1 + row : 1 + row + height, 1 + column : 1 + column + width]

    # The direction is compared in fixed point, as OpenCV does: ties must fall as they do there.
    tangent = abs_x * _TAN_22_5
    steep = abs_y << 15
    horizontal = steep < tangent
    vertical = steep > tangent + (abs_x << 16)
    falling = (dx ^ dy) < 0
    along_x = (magnitude > neighbour(0, -1)) & (magnitude >= neighbour(0, 1))
    along_y = (magnitude > neighbour(-1, 0)) & (magnitude >= neighbour(1, 0))
    rising_diagonal = (magnitude > neighbour(-1, -1)) & (magnitude > neighbour(1, 1))
    falling_diagonal = (magnitude > neighbour(-1, 1)) & (magnitude > neighbour(1, -1))
    diagonal = torch.where(falling, falling_diagonal, rising_diagonal)
    maximal = torch.where(horizontal, along_x, torch.where(vertical, along_y, diagonal))
    return maximal & (magnitude > 0)


def dilate(mask: Tensor, size: int) -> Tensor:
    """``cv2.dilate`` of (B, h, w) with a ``size``×``size`` kernel of ones.

    An even kernel's anchor is the cell right of and below its middle, as in OpenCV.
    """
    before, after = size // 2, size - 1 - size // 2
    padded = F.pad(mask.float()[:, None], (before, after, before, after))
    return F.max_pool2d(padded, size, stride=1)[:, 0] > 0


def boundary_mask(labels: Tensor, edge_size: int) -> Tensor:
    """Cells near a class boundary: Canny, a frame of 6 cells without edges, one dilation.

    Args:
        labels: (B, h, w) class ids at feature resolution; the ignore value counts as a class.
        edge_size: side of the dilation's square, in cells.

    Returns:
        (B, h, w) boolean.
    """
    edges = canny_edges(labels)
    inside = torch.zeros_like(edges)
    inside[:, _FRAME:-_FRAME, _FRAME:-_FRAME] = edges[:, _FRAME:-_FRAME, _FRAME:-_FRAME]
    return dilate(inside, edge_size)
