"""Where things stand in a made scene: the label map, drawn from regular shapes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ssa.datasets.draws import Draws

CLASSES = (
    "sky",
    "building",
    "road",
    "pavement",
    "tree",
    "car",
    "pole",
    "sign",
    "lamp",
    "person",
    "door",
    "window",
    "wall",
    "floor",
    "ceiling",
    "cabinet",
)
ID = {name: index for index, name in enumerate(CLASSES)}
VOID = 255

# What may stand in an outdoor or indoor scene beside its three or two backgrounds. Two to four
# kinds are drawn, so that at most seven of the sixteen classes ever share an image.
OUTDOOR = ("pavement", "tree", "car", "pole", "sign", "lamp", "person", "door", "window")
INDOOR = ("ceiling", "cabinet", "pole", "sign", "lamp", "person", "door", "window")
# The order of painting, from far to near.
_ORDER = (
    *("pavement", "ceiling", "window", "door", "tree", "cabinet"),
    *("car", "pole", "lamp", "sign", "person"),
)


class Canvas:
    """A label map under construction, measured in ``unit`` = 1/96 of its shorter side.

    Args:
        height, width: size in pixels.
        draws: the image's random stream.
    """

    def __init__(self, height: int, width: int, draws: Draws) -> None:
        self.height, self.width, self.draws = height, width, draws
        self.labels = np.zeros((height, width), np.uint8)
        self.y, self.x = np.indices((height, width))
        self.unit = min(height, width) / 96

    def size(self, low: float, high: float) -> int:
        """A drawn length in pixels, from bounds in units; at least one."""
        return max(1, int(self.draws.between(low, high) * self.unit + 0.5))

    def box(self, name: str, x0: int, y0: int, x1: int, y1: int) -> None:
        """Fill columns x0 … x1−1 of rows y0 … y1−1."""
        self.labels[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)] = ID[name]

    def disc(self, name: str, cx: int, cy: int, rx: int, ry: int) -> None:
        """Fill an ellipse of half axes rx, ry."""
        inside = ((self.x - cx) * ry) ** 2 + ((self.y - cy) * rx) ** 2 <= (rx * ry) ** 2
        self.labels[inside] = ID[name]

    def diamond(self, name: str, cx: int, cy: int, r: int) -> None:
        """Fill a square that stands on its corner."""
        self.labels[abs(self.x - cx) + abs(self.y - cy) <= r] = ID[name]

    def trapezoid(
        self, name: str, y0: int, y1: int, top: tuple[int, int], bottom: tuple[int, int]
    ) -> None:
        """Fill rows y0 … y1−1 between a left and a right edge, each given at top and bottom."""
        span = max(y1 - 1 - y0, 1)
        down = self.y - y0
        left = top[0] * span + (bottom[0] - top[0]) * down
        right = top[1] * span + (bottom[1] - top[1]) * down
        inside = (down >= 0) & (self.y < y1) & (self.x * span >= left) & (self.x * span < right)
        self.labels[inside] = ID[name]


def draw_layout(
    height: int, width: int, draws: Draws
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw one scene.

    Returns:
        what stands where, (height, width) uint8 class ids, and the annotation of it, the same
        but 255 on the void borders.
    """
    canvas = Canvas(height, width, draws)
    outdoor = draws.chance(0.55)
    kinds = set(draws.sample(OUTDOOR if outdoor else INDOOR, draws.integer(2, 4)))
    ground = int(height * draws.between(0.55, 0.75))
    if outdoor:
        _draw_street(canvas, ground)
    else:
        canvas.labels[:ground], canvas.labels[ground:] = ID["wall"], ID["floor"]
    for name in _ORDER:
        if name in kinds:
            _THINGS[name](canvas, ground, kinds)
    return canvas.labels, _with_void(canvas)


def _draw_street(canvas: Canvas, ground: int) -> None:
    canvas.labels[:ground], canvas.labels[ground:] = ID["sky"], ID["road"]
    x, draws = 0, canvas.draws
    while x < canvas.width:
        right = x + canvas.size(24, 60)
        top = int(ground * draws.between(0.05, 0.75))
        if x == 0 or draws.chance(0.8):  # a gap now and then, through which the sky is seen
            canvas.box("building", x, top, right, ground)
        x = right


def _pavement(canvas: Canvas, ground: int, kinds: set[str]) -> None:
    inset, side = canvas.size(14, 36), canvas.draws.integer(0, 2)  # left, right or both
    width, middle = canvas.width, canvas.width // 2
    near = canvas.size(0, 12)
    if side != 1:
        canvas.trapezoid("pavement", ground, canvas.height, (0, middle - near), (0, inset - near))
    if side != 0:
        canvas.trapezoid(
            "pavement", ground, canvas.height, (middle + near, width), (width - inset + near, width)
        )


def _ceiling(canvas: Canvas, ground: int, kinds: set[str]) -> None:
    depth, inset = canvas.size(8, 22), canvas.size(0, 20)
    canvas.trapezoid("ceiling", 0, depth, (0, canvas.width), (inset, canvas.width - inset))


def _window(canvas: Canvas, ground: int, kinds: set[str]) -> None:
    # Never touches the ground and mostly lies, where a door stands on the ground.
    draws, count = canvas.draws, canvas.draws.integer(1, 3)
    wide, high = canvas.size(12, 22), canvas.size(9, 18)
    top = canvas.draws.integer(int(ground * 0.3), max(ground - high - canvas.size(8, 14), 1))
    step = wide + canvas.size(5, 14)
    left = draws.integer(2, max(canvas.width - count * step, 3))
    for i in range(count):
        canvas.box("window", left + i * step, top, left + i * step + wide, top + high)


def _door(canvas: Canvas, ground: int, kinds: set[str]) -> None:
    wide, high = canvas.size(10, 17), canvas.size(24, 38)
    left = canvas.draws.integer(1, canvas.width - wide - 1)
    canvas.box("door", left, ground - high, left + wide, ground)


def _tree(canvas: Canvas, ground: int, kinds: set[str]) -> None:
    for _ in range(canvas.draws.integer(1, 2)):
        x, high = canvas.draws.integer(0, canvas.width), canvas.size(26, 46)
        canvas.box("tree", x - canvas.size(1, 2), ground - high, x + canvas.size(1, 3), ground)
        canvas.disc("tree", x, ground - high, canvas.size(9, 18), canvas.size(10, 20))


def _cabinet(canvas: Canvas, ground: int, kinds: set[str]) -> None:
    wide, high, down = canvas.size(22, 38), canvas.size(16, 30), canvas.size(2, 12)
    left = canvas.draws.integer(0, canvas.width - wide)
    canvas.box("cabinet", left, ground + down - high, left + wide, ground + down)


def _car(canvas: Canvas, ground: int, kinds: set[str]) -> None:
    for _ in range(canvas.draws.integer(1, 2)):
        wide, high = canvas.size(20, 36), canvas.size(7, 11)
        left = canvas.draws.integer(-wide // 4, canvas.width - 3 * wide // 4)
        bottom = canvas.draws.integer(ground + high, max(canvas.height - 4, ground + high))
        right, wheel = left + wide, max(high // 3, 1)
        canvas.box("car", left, bottom - high, right, bottom)
        canvas.trapezoid(
            "car",
            bottom - high - high * 3 // 4,
            bottom - high,
            (left + wide // 3, right - wide // 3),
            (left + wide // 8, right - wide // 8),
        )
        for x in (left + wide // 5, right - wide // 5):
            canvas.disc("car", x, bottom, wheel, wheel)


def _pole(canvas: Canvas, ground: int, kinds: set[str]) -> None:
    for _ in range(canvas.draws.integer(1, 3)):
        x, thick = canvas.draws.integer(3, canvas.width - 4), canvas.size(2, 5.4)
        top = int(ground * canvas.draws.between(0, 0.5))
        canvas.box("pole", x, top, x + thick, ground + canvas.size(1, 8))


def _lamp(canvas: Canvas, ground: int, kinds: set[str]) -> None:
    # Round and high up; a sign is angular and hangs at half height.
    for _ in range(canvas.draws.integer(1, 3)):
        x, r = canvas.draws.integer(6, canvas.width - 7), canvas.size(4.5, 8.5)
        canvas.disc("lamp", x, int(ground * canvas.draws.between(0.08, 0.4)), r, r)


def _sign(canvas: Canvas, ground: int, kinds: set[str]) -> None:
    draws = canvas.draws
    for _ in range(draws.integer(1, 3)):
        x, r = draws.integer(6, canvas.width - 7), canvas.size(4, 7.5)
        y = int(ground * draws.between(0.3, 0.75))
        if draws.chance(0.5):
            canvas.diamond("sign", x, y, r + 1)
        else:
            canvas.box("sign", x - r, y - r, x + r, y + r)


def _person(canvas: Canvas, ground: int, kinds: set[str]) -> None:
    draws = canvas.draws
    for _ in range(draws.integer(1, 4)):
        high = canvas.size(14, 30)
        x, feet = draws.integer(2, canvas.width - 3), ground + canvas.size(1, 14)
        head, half = max(high // 7, 1), max(high // 5, 1)
        canvas.disc("person", x, feet - high + head, head, head)
        canvas.box("person", x - half, feet - high + 2 * head, x + half, feet)


_THINGS = {
    "pavement": _pavement,
    "ceiling": _ceiling,
    "window": _window,
    "door": _door,
    "tree": _tree,
    "cabinet": _cabinet,
    "car": _car,
    "pole": _pole,
    "lamp": _lamp,
    "sign": _sign,
    "person": _person,
}


def _with_void(canvas: Canvas) -> NDArray[np.uint8]:
    """A frame of 255 of its own thickness on each side, and in every third scene contours."""
    labels, draws = canvas.labels, canvas.draws
    top, bottom, left, right = (canvas.size(0.6, 3.4) * draws.chance(0.7) for _ in range(4))
    contours = draws.chance(1 / 3)
    if contours:  # only where one background meets another: thin targets must stay labelled
        large = np.isin(
            labels, [ID[n] for n in ("sky", "building", "road", "pavement", "wall", "floor")]
        )
        edge = np.zeros_like(large)
        edge[:-1] |= (labels[:-1] != labels[1:]) & large[:-1] & large[1:]
        edge[:, :-1] |= (labels[:, :-1] != labels[:, 1:]) & large[:, :-1] & large[:, 1:]
        labels = np.where(edge, np.uint8(VOID), labels)
    else:
        labels = labels.copy()
    labels[:top], labels[labels.shape[0] - bottom :] = VOID, VOID
    labels[:, :left], labels[:, labels.shape[1] - right :] = VOID, VOID
    return labels
