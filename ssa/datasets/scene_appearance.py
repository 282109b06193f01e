"""What things look like in a made scene: each image draws every class's colours anew."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssa.datasets.draws import Draws
from ssa.datasets.scene_layout import CLASSES

_TEXTURES = ("plain", "rows", "columns", "diagonal", "checks", "blotches")


@dataclass(frozen=True)
class Look:
    """What a class looks like in one image (or, as a base, before the image's shift)."""

    colour: tuple[float, float, float]  # mean red, green, blue, 0 … 255
    texture: str  # one of _TEXTURES
    contrast: float  # amplitude of the texture in grey levels
    period: int  # of the texture, in pixels of a 96-pixel image


# Six pairs share one base look and are told apart by shape or place alone: door and window,
# road and floor, lamp and sign, car and cabinet, building and wall, sky and ceiling.
_BASE = {
    ("sky", "ceiling"): Look((165, 190, 215), "plain", 8, 8),
    ("building", "wall"): Look((160, 125, 100), "checks", 14, 5),
    ("road", "floor"): Look((100, 100, 105), "blotches", 12, 2),
    ("pavement",): Look((150, 140, 150), "diagonal", 14, 6),
    ("tree",): Look((60, 110, 50), "blotches", 30, 3),
    ("car", "cabinet"): Look((150, 50, 60), "plain", 10, 6),
    ("pole",): Look((70, 75, 85), "columns", 10, 2),
    ("lamp", "sign"): Look((225, 200, 80), "plain", 12, 3),
    ("person",): Look((190, 95, 150), "rows", 25, 3),
    ("door", "window"): Look((85, 80, 140), "columns", 16, 4),
}
_GROUPS = tuple(_BASE)


def draw_looks(draws: Draws, shift: float) -> list[Look]:
    """Draw one image's look of every class.

    At ``shift`` 0 each class keeps its base look. At 1 its lightness moves by up to ±110 and each
    channel by up to ±70 grey levels more, its texture is replaced four times out of five, and
    contrast and period change by up to a factor of two. In half of the images the two classes of
    a look-alike pair are painted alike.
    """
    looks: dict[str, Look] = {}
    for names in _GROUPS:
        base = _BASE[names]
        alike = draws.chance(0.5)
        drawn = [_shifted(base, draws, shift) for _ in names]
        for index, name in enumerate(names):
            looks[name] = drawn[0 if alike else index]
    return [looks[name] for name in CLASSES]


def _shifted(base: Look, draws: Draws, shift: float) -> Look:
    lightness = 110 * shift * draws.between(-1, 1)
    red, green, blue = (c + lightness + 70 * shift * draws.between(-1, 1) for c in base.colour)
    other = draws.choice(_TEXTURES)
    return Look(
        colour=(red, green, blue),
        texture=other if draws.chance(0.8 * shift) else base.texture,
        contrast=base.contrast * (1 + shift * draws.between(-0.5, 1)),
        period=max(1, int(base.period * (1 + shift * draws.between(-0.5, 1)) + 0.5)),
    )


def paint(
    labels: NDArray[np.uint8], looks: list[Look], draws: Draws, shift: float
) -> NDArray[np.uint8]:
    """Paint classes (H, W) as an RGB image (H, W, 3) uint8.

    ``labels`` has no void yet: what a void pixel shows is what stands there. The image's own
    illumination (gain, colour cast, gradient) moves with ``shift``; sensor noise does not.
    Only elementwise IEEE operations, so the bytes are the same on every machine.
    """
    height, width = labels.shape
    y, x = np.indices((height, width))
    unit = min(height, width) / 96
    image = np.zeros((height, width, 3))
    for index in np.unique(labels):
        look, inside = looks[index], labels == index
        period = max(1, int(look.period * unit + 0.5))
        pattern = _pattern(look.texture, x, y, period, draws)
        shade = look.contrast * pattern[inside]
        image[inside] = np.asarray(look.colour) + shade[:, None]
    image = _soften(image)
    gain = 1 + 0.3 * shift * draws.between(-1, 1)
    cast = np.array([1 + 0.15 * shift * draws.between(-1, 1) for _ in range(3)])
    slope_x, slope_y = (0.3 * shift * draws.between(-1, 1) for _ in range(2))
    ramp = 1 + slope_x * (2 * x / width - 1) + slope_y * (2 * y / height - 1)
    image = image * (gain * ramp)[..., None] * cast
    sigma = draws.between(3, 9)
    image += sigma * (draws.fractions(height, width, 3) * 3.464 - 1.732)  # unit variance
    return np.floor(np.clip(image, 0, 255)).astype(np.uint8)


def _pattern(
    texture: str, x: NDArray[np.intp], y: NDArray[np.intp], period: int, draws: Draws
) -> NDArray[np.float64]:
    """A texture in −1 … 1; one pattern for all instances of a class."""
    phase = draws.integer(0, 2 * period - 1)
    if texture == "blotches":
        cells = draws.fractions(x.shape[0] // period + 1, x.shape[1] // period + 1) * 2 - 1
        return np.asarray(cells[y // period, x // period], dtype=np.float64)
    if texture == "checks":
        wave = (x + phase) // period + y // period
    else:
        run = {"rows": y, "columns": x, "diagonal": x + y, "plain": np.zeros_like(x)}[texture]
        wave = (run + phase) // period
    return np.asarray((wave & 1) * 2.0 - 1 if texture != "plain" else wave * 0.0, np.float64)


def _soften(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Half of each pixel, an eighth of each of its four neighbours; the frame stays."""
    out = image.copy()
    middle = image[1:-1, 1:-1] * 4
    around = image[:-2, 1:-1] + image[2:, 1:-1] + image[1:-1, :-2] + image[1:-1, 2:]
    out[1:-1, 1:-1] = (middle + around) / 8
    return out
