"""Where in an image a prediction is right: near the borders of classes, and by object size.

The paper says that SSA-Seg is better at boundaries and small targets and measures neither. Both are
counted here in whole pixels, so that a figure can be checked by hand.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from experiments.store.areas import image_areas

Counts = NDArray[np.int64]

#: rings around class borders, one pixel wide each; the last part holds all other pixels
BAND_WIDTHS = 15
#: bounds of the bins of object size, as shares of the image. COCO's "small" (32² pixels) is 1/300
#: of its usual 640×480 image, its "large" begins at 3/100.
OBJECT_BOUNDS = (1 / 1000, 1 / 300, 1 / 100, 3 / 100, 1 / 10)


@dataclass(frozen=True)
class RegionAreas:
    """Pixel counts in R parts of the images, over K classes; each (R, K), exact integers."""

    intersection: Counts
    predicted: Counts
    labelled: Counts

    @property
    def union(self) -> Counts:
        """(R, K) union areas."""
        return self.predicted + self.labelled - self.intersection

    def __add__(self, other: RegionAreas) -> RegionAreas:
        return RegionAreas(
            self.intersection + other.intersection,
            self.predicted + other.predicted,
            self.labelled + other.labelled,
        )

    def within(self) -> RegionAreas:
        """Each part together with all before it: bands out of rings."""
        return RegionAreas(
            self.intersection.cumsum(0), self.predicted.cumsum(0), self.labelled.cumsum(0)
        )

    def iou(self) -> NDArray[np.float64]:
        """(R, K) IoU in percent; NaN where a class has no pixel in a part."""
        union = self.union
        return 100.0 * np.divide(
            self.intersection, union, out=np.full(union.shape, np.nan), where=union > 0
        )

    @classmethod
    def zeros(cls, parts: int, num_classes: int) -> RegionAreas:
        """Nothing counted yet."""
        return cls(*(np.zeros((parts, num_classes), dtype=np.int64) for _ in range(3)))


def border_rings(label: NDArray[np.integer], ignore_index: int) -> NDArray[np.int64]:
    """How far each pixel lies from the nearest border between two classes, (H, W).

    1 is a pixel that touches another class by an edge, w a pixel whose centre is less than w pixels
    from such a one; beyond :data:`BAND_WIDTHS` everything is ``BAND_WIDTHS + 1``. An unlabelled
    neighbour makes no border.

    Args:
        label: (H, W) class ids or ``ignore_index``.
        ignore_index: label value of unlabelled pixels.
    """
    border = np.zeros(label.shape, dtype=bool)
    for left, right in (
        ((slice(None), slice(None, -1)), (slice(None), slice(1, None))),
        ((slice(None, -1), slice(None)), (slice(1, None), slice(None))),
    ):
        a, b = label[left], label[right]
        differs = (a != b) & (a != ignore_index) & (b != ignore_index)
        border[left] |= differs
        border[right] |= differs
    if not border.any():
        return np.full(label.shape, BAND_WIDTHS + 1, dtype=np.int64)
    distance = ndimage.distance_transform_edt(~border)
    return np.minimum(np.ceil(distance).astype(np.int64) + 1, BAND_WIDTHS + 1)


def ring_areas(
    prediction: NDArray[np.integer], label: NDArray[np.integer], num_classes: int, ignore_index: int
) -> RegionAreas:
    """Areas in each ring around the borders, (BAND_WIDTHS + 1, K); sum over rings = whole image.

    Args:
        prediction: (H, W) class ids.
        label: (H, W) class ids or ``ignore_index``.
        num_classes: K.
        ignore_index: label value that counts nowhere.
    """
    rings = border_rings(label, ignore_index) - 1
    return _by_part(rings, prediction, label, BAND_WIDTHS + 1, num_classes, ignore_index)


def _by_part(
    parts: NDArray[np.integer],
    prediction: NDArray[np.integer],
    label: NDArray[np.integer],
    number: int,
    num_classes: int,
    ignore_index: int,
) -> RegionAreas:
    """Areas of the parts of one image: part and class together are one class of many."""
    joint = label.astype(np.int64) + num_classes * parts
    joint[label == ignore_index] = -1
    counts = image_areas(
        prediction.astype(np.int64) + num_classes * parts, joint, num_classes * number, -1
    )
    return RegionAreas(*(count.reshape(number, num_classes) for count in counts))


@dataclass(frozen=True)
class ObjectAreas:
    """Areas by object size, and how many objects of each class there are, (R, K)."""

    areas: RegionAreas
    objects: Counts

    def __add__(self, other: ObjectAreas) -> ObjectAreas:
        return ObjectAreas(self.areas + other.areas, self.objects + other.objects)

    @classmethod
    def zeros(cls, num_classes: int) -> ObjectAreas:
        """Nothing counted yet."""
        parts = len(OBJECT_BOUNDS) + 1
        return cls(
            RegionAreas.zeros(parts, num_classes), np.zeros((parts, num_classes), dtype=np.int64)
        )


def object_areas(
    prediction: NDArray[np.integer], label: NDArray[np.integer], num_classes: int, ignore_index: int
) -> ObjectAreas:
    """Areas by the size of objects: connected parts (8 neighbours) of one class in the labels.

    A labelled pixel belongs to the size of its object. So does a right prediction. A wrong one
    belongs to the size of the object of the predicted class that its connected part of the
    prediction overlaps most (the smaller size if two overlap alike), and to that part's own size
    if it overlaps none. Hence the sum over sizes is the whole image's areas.

    Args:
        prediction: (H, W) class ids.
        label: (H, W) class ids or ``ignore_index``.
        num_classes: K.
        ignore_index: label value that counts nowhere; such pixels split no prediction off, they
            are left out of it.
    """
    valid = label != ignore_index
    predicted = np.where(valid, prediction, ignore_index)
    truth, truth_class, truth_area = connected_parts(label, ignore_index)
    guess, _, guess_area = connected_parts(predicted, ignore_index)
    truth_bin = size_bins(truth_area, label.size)
    guess_bin = size_bins(guess_area, label.size)
    right = valid & (predicted == label)
    if right.any():
        pairs, overlaps = np.unique(
            np.stack([guess[right], truth[right]]), axis=1, return_counts=True
        )
        # the last assignment to a guess holds: the largest overlap, of equal ones the smallest size
        order = np.lexsort((-truth_bin[pairs[1]], overlaps))
        guess_bin[pairs[0][order]] = truth_bin[pairs[1][order]]
    # `part` of a pixel for what is labelled, and for what is predicted there
    labelled_part = np.where(valid, truth_bin[truth], 0)
    predicted_part = np.where(right, labelled_part, np.where(valid, guess_bin[guess], 0))
    number = len(OBJECT_BOUNDS) + 1

    def count(part: NDArray[np.integer], classes: NDArray[np.integer], where: NDArray) -> Counts:
        joint = part[where].astype(np.int64) * num_classes + classes[where]
        return np.bincount(joint, minlength=number * num_classes).reshape(number, num_classes)

    areas = RegionAreas(
        intersection=count(labelled_part, label, right),
        predicted=count(predicted_part, predicted, valid),
        labelled=count(labelled_part, label, valid),
    )
    there = np.arange(1, len(truth_area))  # 0 stands for unlabelled pixels
    objects = np.zeros((number, num_classes), dtype=np.int64)
    np.add.at(objects, (truth_bin[there], truth_class[there]), 1)
    return ObjectAreas(areas, objects)


def connected_parts(
    classes: NDArray[np.integer], ignore_index: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Number the connected parts (8 neighbours) of equal class, class by class.

    Args:
        classes: (H, W) class ids or ``ignore_index``.
        ignore_index: belongs to no part.

    Returns:
        part (H, W) with 0 where ignored; class and area in pixels of each part, entry 0 unused.
    """
    parts = np.zeros(classes.shape, dtype=np.int64)
    owner, area = [0], [0]
    for k in np.unique(classes):
        if k == ignore_index:
            continue
        number, numbered, statistics, _ = cv2.connectedComponentsWithStats(
            (classes == k).astype(np.uint8), connectivity=8
        )
        inside = numbered > 0
        parts[inside] = numbered[inside] + len(owner) - 1
        owner += [int(k)] * (number - 1)
        area += statistics[1:, cv2.CC_STAT_AREA].tolist()
    return parts, np.array(owner, dtype=np.int64), np.array(area, dtype=np.int64)


def size_bins(areas: NDArray[np.integer], image_area: int) -> NDArray[np.int64]:
    """Bin of each object by its share of the image; bin b begins at ``OBJECT_BOUNDS[b - 1]``."""
    return np.searchsorted(OBJECT_BOUNDS, areas / image_area, side="right")
