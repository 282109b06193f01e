"""Reading images and annotations from files."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ssa.datasets.base import DataError, Pair

Pixels = NDArray[np.uint8]

#: what Pillow raises on a file that it does not decode: broken chunks are SyntaxError, text chunks
#: past its limit ValueError, more than 179 million pixels DecompressionBombError
UNREADABLE = (
    *(OSError, SyntaxError, ValueError, EOFError, TypeError, LookupError, ArithmeticError),
    *(MemoryError, NotImplementedError, zlib.error, struct.error, Image.DecompressionBombError),
)
_LOSSY = ("JPEG", "MPO", "JPEG2000", "WEBP", "AVIF")
_EXIF_ORIENTATION = 0x0112
_SIDEWAYS = (5, 6, 7, 8)  # orientations that swap height and width
_ORIENTED = cv2.IMREAD_COLOR
_AS_STORED = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION


def read_image(path: Path, turn: bool = True) -> Pixels:
    """Decode a colour, grey or CMYK image to BGR (H, W, 3) uint8, mmsegmentation's order.

    Args:
        turn: apply the EXIF orientation, as mmsegmentation does.

    Raises:
        DataError: if the file cannot be read or decoded.
    """
    try:
        data = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise DataError(f"Cannot read the image {path}: {error.strerror}.") from error
    try:
        image = cv2.imdecode(data, _ORIENTED if turn else _AS_STORED) if data.size else None
    except (cv2.error, MemoryError):  # a header of absurd size; cv2.error's text is of no use
        raise DataError(
            f"Cannot decode the image {path}: it is damaged or too large; replace it by a whole "
            "copy, or a smaller one."
        ) from None
    if image is None:
        raise DataError(f"Cannot decode the image {path}; replace it by a whole copy.")
    return np.asarray(image, dtype=np.uint8)


def read_label(path: Path) -> Pixels:
    """Decode an annotation to its raw values (H, W) uint8; of an indexed PNG the indices.

    Raises:
        DataError: if it cannot be read, is not a single channel of 8 bits, or is stored in a
            format that alters values.
    """
    with _annotation(path) as file:
        return np.array(file, dtype=np.uint8)


def label_size(path: Path) -> tuple[int, int]:
    """(H, W) of an annotation, by its header alone.

    Raises:
        DataError: as :func:`read_label`, but for what only decoding would show.
    """
    with _annotation(path) as file:
        return file.height, file.width


def image_sizes(path: Path, decode: bool = False) -> list[tuple[int, int]]:
    """The sizes (H, W) an image may be read with: as stored, and turned as EXIF says.

    Args:
        path: of the image.
        decode: read it to its end: Pillow refuses a truncated file, OpenCV paints the rest grey.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with Image.open(path) as image:
            if decode:
                image.load()
            width, height = image.size
            turned = image.getexif().get(_EXIF_ORIENTATION) in _SIDEWAYS
    except UNREADABLE as error:
        raise DataError(f"Cannot read the image {path}: {error}.") from error
    return [(height, width), (width, height)] if turned else [(height, width)]


def other_size(pair: Pair, sizes: Sequence[tuple[int, int]], label: tuple[int, int]) -> str:
    """The sentence about an image that its annotation does not fit; "" where it does.

    Args:
        pair: the two files.
        sizes: of the image, as :func:`image_sizes` gives them.
        label: (H, W) of the annotation.
    """
    if label in sizes:
        return ""
    (height, width), *_ = sizes
    return (
        f"{pair.image} has {height}×{width} pixels, its annotation {pair.label} "
        f"{label[0]}×{label[1]}."
    )


@contextmanager
def _annotation(path: Path) -> Iterator[Image.Image]:
    """The opened file of an annotation; what goes wrong within is a DataError."""
    try:
        with Image.open(path) as file:
            if file.format in _LOSSY:
                raise DataError(
                    f"{path} is stored as {file.format}, which alters pixels: its values are no "
                    "longer the class ids. Export the annotation anew as PNG from its source."
                )
            if file.mode not in ("L", "P"):
                raise DataError(
                    f"{path} has the mode {file.mode}; an annotation is an 8-bit grey or indexed "
                    "PNG of class ids, not a colour picture."
                )
            yield file
    except DataError:
        raise
    except UNREADABLE as error:
        raise DataError(f"Cannot read the annotation {path}: {error}.") from error


def _size(picture: Pixels) -> tuple[int, int]:
    return int(picture.shape[0]), int(picture.shape[1])


def read_pair(pair: Pair, table: Pixels) -> tuple[Pixels, Pixels]:
    """Read an image (H, W, 3) BGR and its class ids (H, W), mapped through ``table`` (256,).

    An annotation that was drawn on the stored pixels of a photograph with an EXIF orientation
    does not fit the turned image; then the image is taken as stored.

    Raises:
        DataError: if one is unreadable or their sizes differ either way.
    """
    image, raw = read_image(pair.image), read_label(pair.label)
    if image.shape[:2] != raw.shape:
        stored = read_image(pair.image, turn=False)
        if sentence := other_size(pair, [_size(stored), _size(image)], _size(raw)):
            raise DataError(sentence)
        image = stored
    return image, np.asarray(cv2.LUT(raw, table), dtype=np.uint8)
