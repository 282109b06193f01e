"""ADE20K in the 150-class form of the 2016 scene parsing challenge (ADEChallengeData2016).

Class names and their order are those of the challenge, as mmsegmentation spells them.
"""

from __future__ import annotations

from ssa.datasets.base import DataSet, Layout, register
from ssa.datasets.palette import colours

# fmt: off
_NAMES = (
    "wall", "building", "sky", "floor", "tree", "ceiling", "road", "bed ", "windowpane", "grass",
    "cabinet", "sidewalk", "person", "earth", "door", "table", "mountain", "plant", "curtain",
    "chair", "car", "water", "painting", "sofa", "shelf", "house", "sea", "mirror", "rug",
    "field", "armchair", "seat", "fence", "desk", "rock", "wardrobe", "lamp", "bathtub",
    "railing", "cushion", "base", "box", "column", "signboard", "chest of drawers", "counter",
    "sand", "sink", "skyscraper", "fireplace", "refrigerator", "grandstand", "path", "stairs",
    "runway", "case", "pool table", "pillow", "screen door", "stairway", "river", "bridge",
    "bookcase", "blind", "coffee table", "toilet", "flower", "book", "hill", "bench",
    "countertop", "stove", "palm", "kitchen island", "computer", "swivel chair", "boat", "bar",
    "arcade machine", "hovel", "bus", "towel", "light", "truck", "tower", "chandelier", "awning",
    "streetlight", "booth", "television receiver", "airplane", "dirt track", "apparel", "pole",
    "land", "bannister", "escalator", "ottoman", "bottle", "buffet", "poster", "stage", "van",
    "ship", "fountain", "conveyer belt", "canopy", "washer", "plaything", "swimming pool",
    "stool", "barrel", "basket", "waterfall", "tent", "bag", "minibike", "cradle", "oven",
    "ball", "food", "step", "tank", "trade name", "microwave", "pot", "animal", "bicycle",
    "lake", "dishwasher", "screen", "blanket", "sculpture", "hood", "sconce", "vase",
    "traffic light", "tray", "ashcan", "fan", "pier", "crt screen", "plate", "monitor",
    "bulletin board", "shower", "radiator", "glass", "clock", "flag",
)
# fmt: on

ADE20K = register(
    DataSet(
        name="ade20k",
        title="ADE20K",
        class_names=_NAMES,
        palette=colours(len(_NAMES)),
        counts={"train": 20210, "val": 2000},
        layouts=(
            Layout(
                name="ADEChallengeData2016",
                folders={
                    "train": ("images/training", "annotations/training"),
                    "val": ("images/validation", "annotations/validation"),
                },
            ),
        ),
        folders=("ade20k", "ADEChallengeData2016", "ade/ADEChallengeData2016"),
        obtain=(
            "Unpack ADEChallengeData2016.zip (data.csail.mit.edu/places/ADEchallenge), then "
            "prepare it from the folder ADEChallengeData2016."
        ),
        reduce_zero_label=True,
    )
)
