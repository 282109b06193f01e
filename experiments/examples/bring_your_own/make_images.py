"""Make the example's images: discs, squares and bars on a noisy ground, and their masks.

    python make_images.py [FOLDER]     default: data/shapes beside this file

It stands for the step that you have behind you: photographs and masks in two folders. Every picture
is drawn from its own number, so equal calls make equal pictures.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SIZE = 64  # pixels, both sides
COUNTS = {"train": 24, "val": 12}
UNLABELLED = 9


def draw(number: int) -> tuple[Image.Image, Image.Image]:
    """Picture ``number`` and its mask."""
    rng = np.random.default_rng(number)
    ground = rng.integers(60, 196, 3)
    photo = Image.fromarray(np.full((SIZE, SIZE, 3), ground, np.uint8))
    mask = Image.new("L", (SIZE, SIZE))
    pens = ImageDraw.Draw(photo), ImageDraw.Draw(mask)
    for _ in range(4):
        kind = int(rng.integers(1, 4))
        x, y = (int(v) for v in rng.integers(0, SIZE - 16, 2))
        side = int(rng.integers(12, 24))
        box = (x, y, x + side, y + (side if kind < 3 else 5))
        red, green, blue = (int(v) for v in rng.integers(0, 256, 3))
        for pen, ink in zip(pens, ((red, green, blue), (kind,))):
            (pen.ellipse if kind == 1 else pen.rectangle)(box, fill=ink)
    pens[1].rectangle((0, 0, SIZE - 1, 1), fill=UNLABELLED)  # as annotators leave borders out
    noisy = np.asarray(photo) + rng.normal(0, 12, (SIZE, SIZE, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8)), mask


def main() -> None:
    """Write photos/<split>/*.jpg and masks/<split>/*.png."""
    default = Path(__file__).resolve().parent / "data" / "shapes"
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else default
    number = 0
    for split, count in COUNTS.items():
        photos, masks = folder / "photos" / split, folder / "masks" / split
        photos.mkdir(parents=True, exist_ok=True)
        masks.mkdir(parents=True, exist_ok=True)
        for _ in range(count):
            photo, mask = draw(number)
            photo.save(photos / f"{number:03d}.jpg", quality=92)
            mask.save(masks / f"{number:03d}.png")
            number += 1
    print(f"{number} images and masks in {folder}")


if __name__ == "__main__":
    main()
