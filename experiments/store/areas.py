"""Exact scores: integer areas per image and class, and what follows from them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments.store.arrays import npz_bytes
from experiments.store.records import Scores

Areas = NDArray[np.int64]


@dataclass(frozen=True)
class ImageAreas:
    """Pixel counts of N images and K classes; every count an exact integer.

    ``intersection``, ``predicted`` and ``labelled`` are (N, K); ignored pixels count nowhere.
    """

    names: tuple[str, ...]
    intersection: Areas
    predicted: Areas
    labelled: Areas

    @property
    def union(self) -> Areas:
        """(N, K) union areas."""
        return self.predicted + self.labelled - self.intersection

    def to_bytes(self) -> bytes:
        """As npz; equal areas give equal bytes."""
        return npz_bytes(
            names=np.array(self.names),
            intersection=self.intersection.astype(np.int32),
            predicted=self.predicted.astype(np.int32),
            labelled=self.labelled.astype(np.int32),
        )

    @classmethod
    def load(cls, path: Path) -> ImageAreas:
        """Read what :meth:`to_bytes` gave."""
        with np.load(path) as arrays:
            return cls(
                names=tuple(str(name) for name in arrays["names"]),
                intersection=arrays["intersection"].astype(np.int64),
                predicted=arrays["predicted"].astype(np.int64),
                labelled=arrays["labelled"].astype(np.int64),
            )

    def digest(self) -> str:
        """sha256 of names and counts."""
        sha = hashlib.sha256("\n".join(self.names).encode())
        for array in (self.intersection, self.predicted, self.labelled):
            sha.update(np.ascontiguousarray(array, dtype="<i8").tobytes())
        return sha.hexdigest()


def image_areas(
    prediction: NDArray[np.integer], label: NDArray[np.integer], num_classes: int, ignore_index: int
) -> tuple[Areas, Areas, Areas]:
    """Intersection, predicted and labelled area of each class in one image, each (K,).

    Args:
        prediction: (H, W) class ids.
        label: (H, W) class ids or ``ignore_index``.
        num_classes: K.
        ignore_index: label value that counts nowhere.

    Raises:
        ValueError: a label that is neither a class nor ``ignore_index``.
    """
    valid = label != ignore_index
    prediction, label = prediction[valid], label[valid]
    if label.size and int(label.max()) >= num_classes:
        raise ValueError(f"label {int(label.max())} in a data set of {num_classes} classes")
    intersection = np.bincount(label[prediction == label], minlength=num_classes)
    predicted = np.bincount(prediction, minlength=num_classes)
    labelled = np.bincount(label, minlength=num_classes)
    return intersection, predicted, labelled


def per_class_iou(areas: ImageAreas) -> NDArray[np.float64]:
    """(K,) IoU of each class over all images in percent; NaN where a class never occurs."""
    return iou(areas.intersection.sum(0), areas.union.sum(0))


def iou(intersection: NDArray, union: NDArray) -> NDArray[np.float64]:
    """IoU in percent of areas of one shape; NaN where the union is empty."""
    return _ratio(intersection, union) * 100.0


def mean_iou(intersection: NDArray, union: NDArray) -> NDArray[np.float64]:
    """mIoU in percent over the last axis, of the classes whose union is not empty."""
    return np.nanmean(iou(intersection, union), axis=-1)


def leave_one_out(intersection: NDArray, union: NDArray) -> NDArray[np.float64]:
    """(N,) mIoU in percent of all images but one, of (N, K) areas of at least two images."""
    rest = (areas.sum(0, dtype=np.float64) - areas for areas in (intersection, union))
    return mean_iou(*rest)


def scores(areas: ImageAreas) -> Scores:
    """mIoU, aAcc and mAcc over all images, in percent, as mmsegmentation defines them."""
    intersection, labelled = areas.intersection.sum(0), areas.labelled.sum(0)
    return Scores(
        miou=float(mean_iou(intersection, areas.union.sum(0))),
        aacc=float(100.0 * intersection.sum() / max(int(labelled.sum()), 1)),
        macc=float(np.nanmean(_ratio(intersection, labelled)) * 100.0),
    )


def _ratio(part: NDArray, whole: NDArray) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
