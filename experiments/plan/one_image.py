"""Whether a network can be trained on one image at a time.

Batch normalisation over one value a channel is undefined; a branch that pools a map to 1×1 (pyramid
pooling, ASPP) has as many values as there are images in a micro-batch.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from experiments.declare.run_spec import RunSpec
from experiments.imports import import_mmengine


def one_image_fault(spec: RunSpec, processes: int = 1) -> str:
    """Why a run's share of a batch is too small for its normalisation, a sentence; "" if it isn't.

    Costs nothing unless the share is one image; then the network is built and run without memory.

    Args:
        spec: the run.
        processes: that share a batch.
    """
    training = spec.training
    each = training.batch // (training.accumulation * processes)
    text = json.dumps(spec.segmentor, sort_keys=True)
    if each != 1 or (processes > 1 and '"SyncBN"' in text):  # takes all processes' values
        return ""
    layer = _lone_value(text.replace('"SyncBN"', '"BN"'), training.augmentation.crop)
    if not layer:
        return ""
    share = training.batch // processes
    usable = next((m for m in range(share // 2, 0, -1) if share % m == 0), 0)
    remedy = f"Give --accumulation {usable} or a divisor of it" if usable else "Give fewer --gpus"
    return (
        f"{training.accumulation} micro-batches of a batch of {training.batch} leave one image to "
        f"each, of which {spec.model}'s {layer} has one value a channel, too few for batch "
        f"normalisation. {remedy}, so that two images or more come together."
    )


@lru_cache(maxsize=64)
def _lone_value(segmentor: str, crop: tuple[int, int]) -> str:
    """Name of the first normalisation that sees one value a channel of one image; "" if none."""
    import_mmengine()
    import torch
    from mmengine.config import ConfigDict
    from mmengine.registry import DefaultScope
    from mmseg.models import segmentors as _segmentors  # noqa: F401  registers EncoderDecoder
    from mmseg.registry import MODELS
    from torch.nn.modules.batchnorm import _BatchNorm

    import ssa.backbones
    import ssa.heads
    import ssa.mask_classifiers  # noqa: F401  all register what mmsegmentation lacks
    from ssa.meta import meta_device

    lone: list[str] = []

    def watch(name: str) -> Any:
        def look(_: Any, inputs: tuple[torch.Tensor, ...]) -> None:
            if inputs[0].numel() == inputs[0].shape[1]:
                lone.append(name)

        return look

    try:
        with meta_device(), DefaultScope.overwrite_default_scope("mmseg"), torch.no_grad():
            model = MODELS.build(ConfigDict(json.loads(segmentor))).train()
            for name, module in model.named_modules():
                if isinstance(module, _BatchNorm):
                    module.register_forward_pre_hook(watch(name))
            image = torch.zeros(1, 3, *crop)
            model._forward(image)
            auxiliary = getattr(model, "auxiliary_head", None) or ()
            features = model.extract_feat(image)
            for head in auxiliary if isinstance(auxiliary, torch.nn.ModuleList) else [auxiliary]:
                if isinstance(head, torch.nn.Module):
                    head(features)
    except Exception:  # noqa: BLE001 what else is wrong with a network, its run says better
        pass
    return lone[0] if lone else ""
