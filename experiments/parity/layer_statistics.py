"""Whether pretrained weights sit right, shown without a labelled image of ImageNet.

A BatchNorm keeps the mean and the variance that each of its channels had in pretraining. Natural
photographs give a network that was loaded and fed rightly much the same ones, layer by layer; a
weight in the wrong place, images that are not normalised or another order of the colours do not.

The means of the convolutions that expand a linear bottleneck are left out, as a correlation over
channels cannot judge them: they are zero where one bottleneck alone lies before (its shift is
undone behind it, gets no gradient and stays at zero), and spread by some 0.1 to 0.26
standard deviations where a residual sum does, mostly less than what is measured differs by.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from experiments.declare.load import load_registry
from experiments.declare.model import ModelCard
from experiments.parity.reference_file import ReferenceFileError
from ssa.models import merge
from ssa.released.manifest import require_weights
from ssa.released.weights import load_pretrained

#: correlation, over the channels of a layer, of what is measured and what is stored: of the means
#: of every layer at least, of the variances in the middle of the layers
LEAST_CORRELATION = 0.9
#: normalisations behind a linear bottleneck, whose channels have nearly the same mean
_MEANLESS = re.compile(r"\.expand\.bn$")
#: ImageNet's statistics, RGB, by which every run's preprocessor normalises
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)

Wrong = Literal["channels", "normalisation"]


@dataclass(frozen=True)
class LayerAgreement:
    """One normalisation: stored statistics beside measured ones."""

    name: str
    channels: int
    means: float | None  # correlation over the channels; None: too alike for one
    variances: float  # the same of the variances


def photographs(folder: Path, count: int, side: int) -> Tensor:
    """Square middle parts of photographs as they are stored, nothing resized.

    Args:
        folder: of JPEG files; those that are smaller than ``side`` are passed over.
        count: how many, evenly over the sorted names.
        side: pixels.

    Returns: (count, 3, side, side), RGB, 0 … 255.

    Raises:
        ReferenceFileError: the folder holds too few.
    """
    paths = sorted(folder.glob("*.jpg"))
    chosen: list[np.ndarray] = []
    for path in paths[:: max(len(paths) // (2 * count), 1)]:
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is None or min(image.shape[:2]) < side:
            continue
        top, left = ((length - side) // 2 for length in image.shape[:2])
        chosen.append(image[top : top + side, left : left + side, ::-1])
        if len(chosen) == count:
            break
    if len(chosen) < count:
        raise ReferenceFileError(
            f"{folder} holds {len(chosen)} photographs (*.jpg) of {side} pixels or more, {count} "
            "are needed; name a folder with more, for instance --data-root's ccp/images/train."
        )
    return torch.from_numpy(np.stack(chosen)).permute(0, 3, 1, 2).float()


def pretrained_backbone(card: ModelCard, weights: Path) -> nn.Module:
    """A network's backbone to its last layer, with its pretrained file, ready for evaluation.

    Args:
        card: of the network.
        weights: folder of pretrained files.

    Raises:
        SsaError: the file is missing or unfit.
    """
    from mmseg.registry import MODELS

    import ssa.backbones  # noqa: F401  registers what mmsegmentation lacks

    config: dict[str, Any] = merge(card.segmentor["backbone"], {"norm_cfg": {"type": "BN"}})
    if "out_stages" in config:  # what is behind the last output is in the file, too
        config["out_stages"] = [len(config["stages"]) - 1]
    backbone: nn.Module = MODELS.build(config)
    load_pretrained(backbone, str(card.weights), require_weights(str(card.weights), weights))
    return backbone.eval()


@torch.no_grad()
def agreement(
    backbone: nn.Module, images: Tensor, wrong: Wrong | None = None
) -> list[LayerAgreement]:
    """Every BatchNorm of ``backbone``, in the order of the network.

    Args:
        backbone: in evaluation mode, so that each layer gets what it got in pretraining.
        images: (N, 3, H, W), RGB, 0 … 255.
        wrong: feed them wrongly on purpose: blue first, or 0 … 255 without normalising.
    """
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    given = images.flip(1) if wrong == "channels" else images
    given = given if wrong == "normalisation" else (given - mean) / std
    measured: dict[str, tuple[Tensor, Tensor]] = {}
    norms = {name: m for name, m in backbone.named_modules() if isinstance(m, _BatchNorm)}

    def keep(name: str) -> Any:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            maps = inputs[0].double()
            measured[name] = (maps.mean(dim=(0, 2, 3)), maps.var(dim=(0, 2, 3)))

        return hook

    handles = [norm.register_forward_pre_hook(keep(name)) for name, norm in norms.items()]
    try:
        backbone(given)
    finally:
        for handle in handles:
            handle.remove()
    return [
        LayerAgreement(
            name,
            norms[name].num_features,
            None if _MEANLESS.search(name) else _correlation(means, norms[name].running_mean),
            _correlation(variances, norms[name].running_var),
        )
        for name, (means, variances) in measured.items()
    ]


def statistics_report(
    model: str, folder: Path, weights: Path, *, count: int, side: int
) -> dict[str, Any]:
    """How well each layer's statistics agree, and how badly if the images were fed wrongly.

    Args:
        model: name of a model file.
        folder: of photographs.
        weights: folder of pretrained files.
        count: photographs.
        side: of their middle parts, pixels.

    Returns:
        ``layers`` (name, channels, means, variances), ``right`` and, fed wrongly, ``channels`` and
        ``normalisation``: each the ``least`` correlation of means and the ``median`` of
        variances; ``ok``.

    Raises:
        SsaError: unknown model, missing or unfit weights, too few photographs.
    """
    backbone = pretrained_backbone(load_registry().model(model), weights)
    images = photographs(folder, count, side)
    layers = agreement(backbone, images)
    right = summary(layers)
    return {
        "model": model,
        "photographs": count,
        "side": side,
        "layers": [vars(layer) for layer in layers],
        "right": right,
        "channels": summary(agreement(backbone, images, "channels")),
        "normalisation": summary(agreement(backbone, images, "normalisation")),
        "ok": min(right.values()) > LEAST_CORRELATION,
    }


def summary(layers: Sequence[LayerAgreement]) -> dict[str, float]:
    """``least`` correlation of means over the layers, and ``median`` of that of variances."""
    return {
        "least": min(layer.means for layer in layers if layer.means is not None),
        "median": median(layer.variances for layer in layers),
    }


def table_lines(report: Mapping[str, Any]) -> list[str]:
    """The report as a table of text, a line a layer."""
    lines = [f"{'layer':<24}{'channels':>9}{'means':>9}{'variances':>11}"]
    lines += [
        f"{layer['name']:<24}{layer['channels']:>9}{_number(layer['means']):>9}"
        f"{_number(layer['variances']):>11}"
        for layer in report["layers"]
    ]
    fed = {"right": "fed rightly", "channels": "blue for red", "normalisation": "not normalised"}
    lines += [
        f"{words}: means at least {report[key]['least']:.3f}, "
        f"variances {report[key]['median']:.3f} in the middle"
        for key, words in fed.items()
    ]
    return lines


def _number(value: float | None) -> str:
    return "alike" if value is None else f"{value:.3f}"


def _correlation(measured: Tensor, stored: Any) -> float:
    return float(torch.corrcoef(torch.stack([measured, stored.double()]))[0, 1])
