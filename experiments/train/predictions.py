"""The class of each pixel of an image, as evaluation needs it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.model import is_model_wrapper
from mmengine.structures import PixelData
from torch.nn.functional import interpolate


def classified(model: Any, batch: Any) -> list[Any]:
    """The batch's samples with their classes, (1, H, W) at the size that an image was read with.

    The same classes as mmsegmentation's ``val_step``, without what counting areas does not need: a
    copy of the (K, H, W) logits of each image at the size that it has already, and ``argmax``,
    which takes four times as long over the first dimension as ``max`` does.

    Args:
        model: mmsegmentation's segmentor, or what shares it among processes.
        batch: what the evaluation's loader gives, of images of one size.
    """
    segmentor = model.module if is_model_wrapper(model) else model
    data = segmentor.data_preprocessor(batch, False)
    samples: list[Any] = data["data_samples"]
    places = [sample.metainfo for sample in samples]
    for sample, logits, place in zip(samples, segmentor.inference(data["inputs"], places), places):
        whole = _as_read(logits, place, segmentor.align_corners)
        sample.pred_sem_seg = PixelData(data=whole.max(dim=0, keepdim=True).indices)
    return samples


def _as_read(logits: torch.Tensor, place: Mapping[str, Any], align_corners: bool) -> torch.Tensor:
    """(K, h, w) logits of a padded image as (K, H, W) of the image."""
    assert not place.get("flip"), "evaluation does not flip"
    left, right, top, bottom = place.get("img_padding_size", place.get("padding_size", (0,) * 4))
    _, height, width = logits.shape
    inner = logits[:, top : height - bottom, left : width - right]
    size = tuple(place["ori_shape"])
    if inner.shape[1:] == size:
        return inner
    return interpolate(inner[None], size, mode="bilinear", align_corners=align_corners)[0]
