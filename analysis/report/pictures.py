"""Pictures as data URIs: lossless, small, the same bytes for the same pixels."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from experiments.errors import StoreError

#: colour of unlabelled pixels
UNLABELLED = (128, 128, 128)
IGNORE_INDEX = 255


def data_uri(picture: bytes, kind: str = "png") -> str:
    """A picture as a ``data:`` address, so that the page loads nothing."""
    return f"data:image/{kind};base64," + base64.b64encode(picture).decode()


def reduced(pixels: NDArray[np.uint8], longest: int) -> NDArray[np.uint8]:
    """Pixels (H, W) or (H, W, 3) whose longer side is at most ``longest``; ids stay ids."""
    height, width = pixels.shape[:2]
    if max(height, width) <= longest:
        return pixels
    factor = longest / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    rule = Image.Resampling.LANCZOS if pixels.ndim == 3 else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(pixels).resize(size, rule))


def photo(pixels: NDArray[np.uint8]) -> str:
    """RGB pixels (H, W, 3) as they are."""
    return _saved(Image.fromarray(pixels))


def mask(ids: NDArray[np.uint8], palette: Sequence[tuple[int, int, int]]) -> str:
    """Class ids (H, W) in their colours; 255 is grey. Indexed: a byte a pixel at most."""
    flat = [channel for colour in palette for channel in colour]
    flat += [0] * (3 * IGNORE_INDEX - len(flat))
    image = Image.fromarray(ids)
    image.putpalette([*flat, *UNLABELLED])
    return _saved(image)


def veil(prediction: NDArray[np.uint8], label: NDArray[np.uint8]) -> str:
    """A white veil over the pixels (H, W) that are right or unlabelled; errors stay clear."""
    wrong = (label != IGNORE_INDEX) & (prediction != label)
    image = Image.fromarray(wrong.astype(np.uint8))
    image.putpalette([255, 255, 255, 0, 0, 0])
    return _saved(image, transparency=bytes([225, 0]))


def correct_percent(prediction: NDArray[np.uint8], label: NDArray[np.uint8]) -> float | None:
    """Share of labelled pixels that are right; None where nothing is labelled."""
    labelled = label != IGNORE_INDEX
    if not labelled.any():
        return None
    return float(100.0 * (prediction[labelled] == label[labelled]).mean())


def stored_picture(path: Path, longest: int) -> tuple[str, int, int]:
    """A PNG file with its width and height in pixels, reduced where a side is over ``longest``.

    As WebP without loss, which is a third smaller.

    Raises:
        StoreError: it is none, or damaged, or of a size that no figure has.
    """
    try:
        return _stored(path, longest)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise StoreError(
            f"{path} is no picture ({error}); delete it and give `./run_all.sh figures` again."
        ) from None


def _stored(path: Path, longest: int) -> tuple[str, int, int]:
    with Image.open(path, formats=["PNG"]) as image:
        image.load()  # what is cut short is found here, and not by a reader's browser
        width, height = image.size
        shown = image.convert("RGBA")
    if max(width, height) > longest:
        factor = longest / max(width, height)
        width, height = round(width * factor), round(height * factor)
        shown = shown.resize((width, height), Image.Resampling.LANCZOS)
    return _saved(shown, "webp", lossless=True, method=0, quality=50), width, height


def _saved(image: Image.Image, kind: str = "png", **options: object) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind, **(options or {"optimize": True}))
    return data_uri(buffer.getvalue(), kind)
