"""Data sets: what they are, how their files are found, read and fed to training."""

from ssa.datasets.base import DATASETS, IGNORE_INDEX, DataError, DataSet, Layout, Pair
from ssa.datasets.camvid import CAMVID
from ssa.datasets.digest import content_digest
from ssa.datasets.scenes import SCENES, ScenesParameters

__all__ = [
    "CAMVID",
    "DATASETS",
    "IGNORE_INDEX",
    "SCENES",
    "DataError",
    "DataSet",
    "Layout",
    "Pair",
    "ScenesParameters",
    "content_digest",
]
