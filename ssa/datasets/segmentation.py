"""The data set class that mmengine's Runner loads training and evaluation items from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.structures import PixelData
from mmseg.registry import DATASETS as MMSEG_DATASETS
from mmseg.structures import SegDataSample
from numpy.typing import NDArray
from torch.utils.data import Dataset

from ssa.datasets.base import DATASETS, DataSet
from ssa.datasets.packed import Packed, pack, pack_key
from ssa.datasets.pixels import read_pair
from ssa.datasets.sampler import Token, item_generator
from ssa.datasets.transforms import TestTransform, TrainTransform, fitted_size, resize_label
from ssa.errors import ConfigurationError, UnknownNameError

_TRANSFORMS = {"train": TrainTransform, "test": TestTransform}


@MMSEG_DATASETS.register_module()
class PairedFolder(Dataset[dict[str, Any]]):
    """Pairs of image and annotation files of a registered data set, transformed.

    An item is ``{"inputs": (3, h, w) uint8 BGR, "data_samples": SegDataSample}``; the sample's
    ``gt_sem_seg.data`` is (1, h, w) int64 in training and (1, H, W) uint8 at original size in
    evaluation. Normalise with ``SegDataPreProcessor(bgr_to_rgb=True)``.

    Args:
        dataset: name in ``ssa.datasets.DATASETS``, or the description itself.
        root: its folder (``DataSet.locate`` or ``scenes.ensure`` give it).
        split: name of the split.
        transform: ``{"kind": "train" | "test", …fields of TrainTransform or TestTransform}``.
            Training items are asked for with a Token (IterationSampler), test items by index.
        seed: of the run; only training uses it.
        working_size: reduce every pair once to fit (longer, shorter) side and treat the result
            as the original. Changes what is evaluated, so it belongs to a run's identity.
        cache: keep decoded pairs in memory (each worker process its own). Changes no byte.
        limit: only the first so many pairs.
        packed: folder for a packed copy (``ssa.datasets.packed``), made on first use; with it
            ``digest``, that of the data set's content. Changes no byte.

    Raises:
        SsaError: wrong name, split, transform or folder.
    """

    def __init__(
        self,
        dataset: str | DataSet,
        root: str | Path,
        split: str,
        transform: Mapping[str, Any],
        seed: int = 0,
        working_size: tuple[int, int] | None = None,
        cache: bool = False,
        limit: int | None = None,
        packed: str | Path | None = None,
        digest: str | None = None,
    ) -> None:
        self.description = DATASETS[dataset] if isinstance(dataset, str) else dataset
        self.pairs = self.description.load_index(Path(root), split)[:limit]
        self.table = self.description.label_table(Path(root))
        self.transform = _built(transform)
        self.seed = int(seed)
        self.working_size = tuple(working_size) if working_size else None
        self._cache: dict[int, tuple[NDArray[np.uint8], NDArray[np.uint8]]] | None = (
            {} if cache else None
        )
        self._process = -1
        self._packed: Packed | None = None
        if packed is not None:
            if digest is None:
                raise ConfigurationError(
                    "A packed copy needs the digest of the data set's content."
                )
            key = pack_key(f"{digest}:{limit}", split, self.working_size)
            self._packed = Packed(pack(self._decoded, len(self), Path(packed), key), key)
        self.metainfo = {
            "classes": self.description.class_names,
            "palette": [list(colour) for colour in self.description.palette],
        }

    def __len__(self) -> int:
        return len(self.pairs)

    def __getstate__(self) -> dict[str, Any]:
        """Without the cached pixels: a spawned worker fills its own."""
        return {**self.__dict__, "_cache": None if self._cache is None else {}, "_process": -1}

    def __getitem__(self, token: Token | int) -> dict[str, Any]:
        """One item; see the class."""
        if self._process != os.getpid():
            # OpenCV's own threads would fight with the workers' and cost more than they give.
            cv2.setNumThreads(0)
            self._process = os.getpid()
        training = isinstance(self.transform, TrainTransform)
        if training != isinstance(token, Token):
            raise ConfigurationError(
                "Training items are asked for with the tokens of IterationSampler, test items "
                "with plain indices; give the data loader the sampler that fits the transform."
            )
        index = token.sample if isinstance(token, Token) else int(token)
        image, label = self._read(index)
        rng = item_generator(self.seed, token) if isinstance(token, Token) else None
        shown, target, facts = self.transform(image, label, rng)  # type: ignore[arg-type]
        shape = image.shape[:2]
        sample = SegDataSample(
            metainfo={
                "img_path": str(self.pairs[index].image),
                "seg_map_path": str(self.pairs[index].label),
                "sample_idx": index,
                "ori_shape": shape,
                "img_shape": shown.shape[:2],
                "reduce_zero_label": self.description.reduce_zero_label,
                **facts,
            }
        )
        # The loss wants int64. Either way a copy: the cache must not share memory with a batch.
        target = target.astype(np.int64 if training else np.uint8, order="C")
        sample.gt_sem_seg = PixelData(data=torch.from_numpy(target[None]))
        inputs = torch.from_numpy(np.stack(cv2.split(shown)))
        return {"inputs": inputs, "data_samples": sample}

    def _read(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        if self._packed is not None:
            return self._packed[index]
        if self._cache is None:
            return self._decoded(index)
        if index not in self._cache:
            self._cache[index] = self._decoded(index)
        return self._cache[index]

    def _decoded(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        image, label = read_pair(self.pairs[index], self.table)
        if self.working_size is not None:
            size = fitted_size(label.shape, self.working_size)
            if size != label.shape:
                image = np.asarray(
                    cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA), dtype=np.uint8
                )
                label = resize_label(label, size)
        return image, label


def _built(transform: Mapping[str, Any]) -> TrainTransform | TestTransform:
    fields = dict(transform)
    kind = fields.pop("kind", "none given")
    if kind not in _TRANSFORMS:
        raise UnknownNameError("kind of transform", str(kind), _TRANSFORMS)
    fields = {key: tuple(v) if isinstance(v, list) else v for key, v in fields.items()}
    try:
        return _TRANSFORMS[kind](**fields)
    except TypeError as error:
        raise ConfigurationError(f"The {kind} transform's fields are wrong: {error}.") from error
