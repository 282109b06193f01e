"""Clothing Co-Parsing: one dressed person an image, 59 classes, most of them rare.

Names and ids are those of the data set's own label list (0 null … 58 wedges). Of the 2,098
photographs 1,004 have masks; they have no official split, so the split is ours, drawn once with a
seed and kept by the photographs' numbers (``splits/ccp``). Everything is reduced to 40 %.
"""

from __future__ import annotations

from ssa.datasets.base import DataSet, Layout, register
from ssa.datasets.palette import colours

_SPLITS = ("train", "val", "test")

# fmt: off
_NAMES = (
    "null", "accessories", "bag", "belt", "blazer", "blouse", "bodysuit", "boots", "bra",
    "bracelet", "cape", "cardigan", "clogs", "coat", "dress", "earrings", "flats", "glasses",
    "gloves", "hair", "hat", "heels", "hoodie", "intimate", "jacket", "jeans", "jumper",
    "leggings", "loafers", "necklace", "panties", "pants", "pumps", "purse", "ring", "romper",
    "sandals", "scarf", "shirt", "shoes", "shorts", "skin", "skirt", "sneakers", "socks",
    "stockings", "suit", "sunglasses", "sweater", "sweatshirt", "swimwear", "t-shirt", "tie",
    "tights", "top", "vest", "wallet", "watch", "wedges",
)
# fmt: on

CCP = register(
    DataSet(
        name="ccp",
        title="Clothing Co-Parsing",
        class_names=_NAMES,
        # black for null, as VOC's rule has it for its background
        palette=((0, 0, 0), *colours(len(_NAMES) - 1)),
        counts={"train": 704, "val": 100, "test": 200},
        layouts=(
            Layout(
                name="mmsegmentation",
                folders={s: (f"images/{s}", f"annotations/{s}") for s in _SPLITS},
                converted=True,
            ),
        ),
        folders=("ccp",),
        obtain=(
            "Get the repository github.com/bearpaw/clothing-co-parsing (Apache-2.0; the "
            "photographs are for research use), then prepare it from the folder that holds "
            "photos/*.jpg and annotations/pixel-level/*.mat; or bring your own copy at 40 % as "
            "images/{train,val,test} + annotations/{train,val,test} in a folder ccp under the "
            "data root."
        ),
        evaluation_split="test",
    )
)
