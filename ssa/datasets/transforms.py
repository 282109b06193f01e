"""The training and the test pipeline, as pure functions of an image, its labels and a generator.

The steps, their order and their constants are those of mmsegmentation's configurations (Resize,
RandomCrop, RandomFlip, PhotoMetricDistortion). Normalising and padding follow in the model's
``SegDataPreProcessor``. Written lean: on small images mmsegmentation's transform machinery costs
more than the pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ssa.datasets.base import IGNORE_INDEX

Pixels = NDArray[np.uint8]

_CROP_TRIES = 10
_BRIGHTNESS = 32.0  # PhotoMetricDistortion's constants
_CONTRAST = (0.5, 1.5)
_SATURATION = (0.5, 1.5)
_HUE = 18
_LEVELS = np.arange(256, dtype=np.float32)
_IDENTITY = np.arange(256, dtype=np.uint8)


@dataclass(frozen=True)
class TrainTransform:
    """Random resize, crop, flip and photometric distortion."""

    scale: tuple[int, int]  # bound of (longer, shorter) side before the ratio
    crop_size: tuple[int, int]  # (height, width); smaller images are padded by the preprocessor
    ratio_range: tuple[float, float] = (0.5, 2.0)  # the scale is multiplied by a drawn ratio
    cat_max_ratio: float = 0.75  # a crop is redrawn while one class covers more than this
    flip: float = 0.5  # probability of a horizontal flip
    photometric: bool = True

    def __call__(
        self, image: Pixels, label: Pixels, rng: np.random.Generator
    ) -> tuple[Pixels, Pixels, dict[str, object]]:
        """Transform one pair.

        Args:
            image: (H, W, 3) BGR uint8.
            label: (H, W) uint8.
            rng: all randomness comes from it.

        Returns:
            image (h, w, 3), label (h, w) and what is to be noted in the sample's metainfo.
        """
        low, high = self.ratio_range
        ratio = low + (high - low) * rng.random()
        size = fitted_size(label.shape, (int(self.scale[0] * ratio), int(self.scale[1] * ratio)))
        label = resize_label(label, size)
        window = self._crop(label, rng)
        image, label = resize_image(image, size)[window], label[window]
        flip = bool(rng.random() < self.flip)
        if flip:
            image, label = _mirrored(image), _mirrored(label)
        if self.photometric:
            image = distort(np.ascontiguousarray(image), rng)
        return image, label, {"flip": flip, "flip_direction": "horizontal" if flip else None}

    def _crop(self, label: Pixels, rng: np.random.Generator) -> tuple[slice, slice]:
        """A window in which no class covers more than ``cat_max_ratio``, if ten tries find one."""
        height, width = self.crop_size
        for attempt in range(_CROP_TRIES + 1):
            top = int(rng.integers(max(label.shape[0] - height, 0) + 1))
            left = int(rng.integers(max(label.shape[1] - width, 0) + 1))
            window = (slice(top, top + height), slice(left, left + width))
            if self.cat_max_ratio >= 1 or attempt == _CROP_TRIES:
                break
            counts = cv2.calcHist([label[window]], [0], None, [256], [0, 256]).ravel()
            counts[IGNORE_INDEX] = 0
            if (counts > 0).sum() > 1 and counts.max() < self.cat_max_ratio * counts.sum():
                break
        return window


@dataclass(frozen=True)
class TestTransform:
    """Resize the image to the test scale; the annotation stays at its original size."""

    __test__ = False  # not a test case of pytest

    scale: tuple[int, int] | None = None  # bound of (longer, shorter) side; None: as it is
    multiple_of: int = 1  # then round both sides up to a multiple (32 in the released ADE20K)

    def __call__(
        self, image: Pixels, label: Pixels, rng: np.random.Generator | None = None
    ) -> tuple[Pixels, Pixels, dict[str, object]]:
        """Transform one pair; see TrainTransform."""
        height, width = image.shape[:2]
        if self.scale is not None:
            height, width = fitted_size((height, width), self.scale)
            image = resize_image(image, (height, width))
        if self.multiple_of > 1:
            m = self.multiple_of
            image = resize_image(image, (-(-height // m) * m, -(-width // m) * m))
        return image, label, {"flip": False, "flip_direction": None}


def fitted_size(shape: tuple[int, ...], scale: tuple[int, ...]) -> tuple[int, int]:
    """The (height, width) with the ratio of ``shape`` that just fits into ``scale``.

    The longer side is bounded by the larger number of ``scale``, the shorter by the smaller.
    """
    height, width = shape
    factor = min(max(scale) / max(height, width), min(scale) / min(height, width))
    return max(int(height * factor + 0.5), 1), max(int(width * factor + 0.5), 1)


def _mirrored(picture: Pixels) -> Pixels:
    return np.asarray(cv2.flip(picture, 1), dtype=np.uint8)


def resize_image(image: Pixels, size: tuple[int, int]) -> Pixels:
    """Bilinear resize of (H, W, 3) to ``size`` = (height, width)."""
    if image.shape[:2] == size:
        return image
    return np.asarray(cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def resize_label(label: Pixels, size: tuple[int, int]) -> Pixels:
    """Nearest resize of (H, W) to ``size`` = (height, width)."""
    if label.shape == size:
        return label
    return np.asarray(
        cv2.resize(label, size[::-1], interpolation=cv2.INTER_NEAREST), dtype=np.uint8
    )


def distort(image: Pixels, rng: np.random.Generator) -> Pixels:
    """PhotoMetricDistortion of a BGR image: brightness, contrast, saturation, hue, each p = ½.

    Contrast comes before or after saturation and hue, p = ½. Each step rounds to uint8, as in
    mmsegmentation, so steps on grey levels compose to one table of 256 entries.
    """
    table = _IDENTITY
    if rng.random() < 0.5:
        table = _linear(1.0, rng.uniform(-_BRIGHTNESS, _BRIGHTNESS))
    contrast_first = rng.random() < 0.5
    contrast = _linear(rng.uniform(*_CONTRAST), 0.0) if rng.random() < 0.5 else _IDENTITY
    if contrast_first:
        table = contrast[table]
    saturation = _linear(rng.uniform(*_SATURATION), 0.0) if rng.random() < 0.5 else None
    hue = None
    if rng.random() < 0.5:
        turned = (np.arange(256) + int(rng.integers(-_HUE, _HUE))) % 180
        hue = turned.astype(np.uint8)
    if saturation is None and hue is None and not contrast_first:
        table = contrast[table]
    image = _look_up(image, table)
    if saturation is not None:
        image = _in_hsv(image, 1, saturation)
    if hue is not None:
        image = _in_hsv(image, 0, hue)
    if not contrast_first and not (saturation is None and hue is None):
        image = _look_up(image, contrast)
    return image


def _linear(gain: float, offset: float) -> Pixels:
    return np.clip(_LEVELS * np.float32(gain) + np.float32(offset), 0, 255).astype(np.uint8)


def _look_up(image: Pixels, table: Pixels) -> Pixels:
    return image if table is _IDENTITY else np.asarray(cv2.LUT(image, table), dtype=np.uint8)


def _in_hsv(image: Pixels, channel: int, table: Pixels) -> Pixels:
    tables = np.stack([_IDENTITY] * 3, axis=-1)
    tables[:, channel] = table
    hsv = cv2.LUT(cv2.cvtColor(image, cv2.COLOR_BGR2HSV), tables[None])
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR), dtype=np.uint8)
