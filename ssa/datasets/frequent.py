"""Which classes of a long-tailed data set are frequent enough to be scored by themselves.

Half of what a mean over all classes of such a data set says is said by classes that a handful of
pictures show. So a second mean is taken over those of at least :data:`LEAST_PICTURES` pictures,
counted over all splits of the whole data set: a fact of the data, not of a run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

#: pictures of all splits together that must show a class
LEAST_PICTURES = 20

# fmt: off
#: data set → names of its frequent classes; a data set without a long tail is not here
FREQUENT: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "ccp": (
        "null", "accessories", "bag", "belt", "blazer", "blouse", "boots", "bracelet", "cape",
        "coat", "dress", "glasses", "hair", "hat", "jacket", "jeans", "jumper", "leggings",
        "loafers", "necklace", "pants", "purse", "romper", "sandals", "scarf", "shirt", "shoes",
        "shorts", "skin", "skirt", "socks", "stockings", "suit", "sunglasses", "sweater",
        "sweatshirt", "t-shirt", "tie", "top", "vest", "wallet", "watch",
    ),
})
# fmt: on


def frequent_mean(
    dataset: str, class_names: Sequence[str], values: Sequence[float | None]
) -> float | None:
    """The mean of a per-class score over the frequent classes of a data set.

    A class that occurs neither in the labels nor in the predictions of what was scored has no
    score and is left out, as mIoU leaves it out.

    Args:
        dataset: name of the data set.
        class_names: K names.
        values: K scores; None where a class has none.

    Returns: the mean; None for a data set without such a list, or where no such class has a score.
    """
    frequent = set(FREQUENT.get(dataset, ()))
    known = [v for name, v in zip(class_names, values) if name in frequent and v is not None]
    return sum(known) / len(known) if known else None
