"""mmengine's metric that keeps exact areas per image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.dist import all_gather_object
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS

from experiments.store.areas import ImageAreas, image_areas, scores


@METRICS.register_module()
class AreaMetric(BaseMetric):
    """mIoU, aAcc and mAcc in percent from integer areas; keeps them for statistics and figures.

    Args:
        num_classes: K.
        ignore_index: label value that counts nowhere.
    """

    def __init__(self, num_classes: int, ignore_index: int = 255, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.areas: ImageAreas | None = None

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Count the areas of a batch of predictions against their labels at original size."""
        for sample in data_samples:
            prediction = sample["pred_sem_seg"]["data"].squeeze(0).cpu().numpy()
            label = sample["gt_sem_seg"]["data"].squeeze(0).cpu().numpy()
            areas = image_areas(prediction, label, self.num_classes, self.ignore_index)
            self.results.append((_name(sample["img_path"]), *areas))

    def evaluate(self, size: int) -> dict[str, float]:
        """Score the images of all processes, on each of them.

        Raises:
            RuntimeError: an image is missing or counted twice.
        """
        results = [entry for part in all_gather_object(self.results) for entry in part]
        self.results.clear()
        if len(results) != size:
            raise RuntimeError(f"{len(results)} images were scored, but the split has {size}")
        return self.compute_metrics(results)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Score all images; their areas stay in :attr:`areas`, sorted by name."""
        results = sorted(results, key=lambda entry: entry[0])
        self.areas = ImageAreas(
            names=tuple(entry[0] for entry in results),
            intersection=np.stack([entry[1] for entry in results]),
            predicted=np.stack([entry[2] for entry in results]),
            labelled=np.stack([entry[3] for entry in results]),
        )
        return dict(scores(self.areas))


def _name(path: str) -> str:
    return str(path).rsplit("/", 1)[-1].rsplit(".", 1)[0]
