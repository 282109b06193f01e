"""Data sets: what they are, how their files are found, made, checked, read and fed to training."""

from ssa.datasets.ade20k import ADE20K
from ssa.datasets.base import DATASETS, IGNORE_INDEX, DataError, DataSet, Layout, Pair
from ssa.datasets.camvid import CAMVID
from ssa.datasets.ccp import CCP
from ssa.datasets.coco_stuff10k import COCO_STUFF10K
from ssa.datasets.digest import content_digest
from ssa.datasets.folder import describe, find
from ssa.datasets.pascal_context import PASCAL_CONTEXT
from ssa.datasets.scenes import SCENES, ScenesParameters
from ssa.datasets.voc_subset import VOC_SUBSET

__all__ = [
    "ADE20K",
    "CAMVID",
    "CCP",
    "COCO_STUFF10K",
    "DATASETS",
    "IGNORE_INDEX",
    "PASCAL_CONTEXT",
    "SCENES",
    "VOC_SUBSET",
    "DataError",
    "DataSet",
    "Layout",
    "Pair",
    "ScenesParameters",
    "content_digest",
    "describe",
    "find",
]
