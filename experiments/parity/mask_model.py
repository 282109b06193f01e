"""Compare YOSO and PEM as whole networks with reference values of their authors' code."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from experiments.parity.reference_network import (
    MODEL_FILES,
    NUM_CLASSES,
    NetworkReference,
    NoRandomFill,
    reference_values,
)
from ssa.errors import UnknownNameError
from ssa.mask_classifiers.predictions import MaskPrediction, semantic_scores
from ssa.models import NO_CLASSIFIER, build_segmentor, load_model_card

#: largest error of an output over the standard deviation of the whole of it
TOLERANCE = 1e-4
#: leading classes and queries that the reference files keep
KEPT = 16
#: what a file holds: the outputs as far as they are kept, and facts about the whole of them
ARRAYS = (
    *("pred_logits", "pred_masks", "semseg"),
    *("pred_logits_stat", "pred_logits_shape", "pred_masks_stat", "pred_masks_shape"),
)

#: released prefix → ours, after the backbone's own names
PREFIXES = {
    "yoso_r50": {"yoso_neck.": "decode_head.neck.", "yoso_head.": "decode_head.decoder."},
    "pem_r50": {
        "sem_seg_head.pixel_decoder.": "decode_head.pixel_decoder.",
        "sem_seg_head.predictor.": "decode_head.predictor.",
    },
}


def our_key(model: str, key: str) -> str | None:
    """Our name of a released entry; None for the loss's constant class weights.

    detectron2's backbone: ``stem.conv1``, ``res2.0.conv1.norm``, ``res2.0.shortcut`` are
    mmsegmentation's ``conv1``, ``layer1.0.bn1``, ``layer1.0.downsample.0``.
    """
    if key.endswith("criterion.empty_weight"):
        return None
    for released, ours in PREFIXES[model].items():
        if key.startswith(released):
            return ours + key.removeprefix(released)
    key = key.replace(".stem.conv1.norm.", ".bn1.").replace(".stem.conv1.", ".conv1.")
    key = re.sub(r"\.res(\d)\.", lambda found: f".layer{int(found[1]) - 1}.", key)
    key = key.replace(".shortcut.norm.", ".downsample.1.").replace(".shortcut.", ".downsample.0.")
    return re.sub(r"\.conv(\d)\.norm\.", r".bn\1.", key)


def mask_model_parity(
    model: str,
    path: str | Path,
    salt: str | None = None,
    size: int | None = None,
    seed: int | None = None,
    models: Path = MODEL_FILES,
) -> dict[str, Any]:
    """One forward pass of a mask classifier against a file of reference values.

    Args:
        model: ``yoso_r50`` or ``pem_r50``.
        path: npz with ``pred_logits``, ``pred_masks``, ``semseg`` and their statistics; the json
            beside it lists the released entries.
        salt, size, seed: what the reference was made with; None takes the json's value.
        models: the folder of model files.

    Returns:
        ``model, classifier, file, max_error`` (over the standard deviation of each output),
        ``errors`` of each output, ``missing, unexpected`` (names), ``params``, ``ok``.

    Raises:
        UnknownNameError: no such model.
        ReferenceFileError: a file is missing or has another form.
    """
    if model not in PREFIXES:
        raise UnknownNameError("mask classifier with reference values", model, PREFIXES)
    reference = NetworkReference.read(Path(path), ARRAYS, salt, size, seed)
    card = load_model_card(models / f"{model}.yaml")
    with NoRandomFill():
        network = build_segmentor(
            card, classifier={"name": NO_CLASSIFIER}, num_classes=NUM_CLASSES
        ).eval()
    missing, unexpected = _fill(network, model, reference.shapes, reference.salt)
    errors = _errors(network, reference)
    worst = max(errors.values())
    return {
        "model": model,
        "classifier": NO_CLASSIFIER,
        "file": str(path),
        "max_error": worst,
        "errors": errors,
        "missing": missing,
        "unexpected": unexpected,
        "params": sum(p.numel() for p in network.parameters() if p.requires_grad),
        "ok": not missing and not unexpected and worst <= TOLERANCE,
    }


@torch.no_grad()
def _fill(
    network: nn.Module, model: str, shapes: Mapping[str, Sequence[int]], salt: str
) -> tuple[list[str], list[str]]:
    entries = network.state_dict()
    reached, unexpected = set(), []
    for key, shape in shapes.items():
        ours = our_key(model, key)
        if ours is None:
            continue
        if ours not in entries or list(entries[ours].shape) != list(shape):
            unexpected.append(key)
            continue
        reached.add(ours)
        entries[ours].copy_(torch.from_numpy(np.asarray(reference_values(key, shape, salt))))
    # the frozen norms of detectron2 count no batches
    uncounted = {k for k in entries if k.startswith("backbone") and k.endswith("batches_tracked")}
    return sorted(set(entries) - reached - uncounted), unexpected


@torch.no_grad()
def _errors(
    network: Any,  # mmsegmentation's EncoderDecoder
    reference: NetworkReference,
) -> dict[str, float]:
    arrays = reference.arrays
    features = network.extract_feat(reference.image)
    prediction: MaskPrediction = network.decode_head.decode(features)[-1]
    assert prediction.classes is not None
    kept = torch.cat([prediction.classes[..., :KEPT], prediction.classes[..., -1:]], dim=-1)
    scores = semantic_scores(prediction)
    errors = {
        "pred_logits": _relative(kept, arrays["pred_logits"], prediction.classes),
        "pred_masks": _relative(prediction.masks[:, :KEPT], arrays["pred_masks"], prediction.masks),
        "semseg": _relative(scores[:, :KEPT], arrays["semseg"], scores),
    }
    for name, whole in (("pred_logits", prediction.classes), ("pred_masks", prediction.masks)):
        if list(whole.shape) != arrays[f"{name}_shape"].tolist():
            return dict.fromkeys(errors, float("inf"))
        mean, deviation = (float(value) for value in arrays[f"{name}_stat"])
        errors[f"{name}_stat"] = _moments_error(whole, mean, deviation)
    for name, feature, (mean, deviation) in zip(
        ("res2", "res3", "res4", "res5"), features, reference.feature_statistics, strict=False
    ):
        errors[name] = _moments_error(feature, mean, deviation)
    return errors


def _moments_error(whole: Tensor, mean: float, deviation: float) -> float:
    exact = whole.double()
    off = max(abs(float(exact.mean()) - mean), abs(float(exact.std()) - deviation))
    return off / deviation


def _relative(kept: Tensor, expected: np.ndarray, whole: Tensor) -> float:
    if kept.shape != expected.shape:
        return float("inf")
    return float(np.abs(kept.numpy() - expected).max()) / float(whole.double().std())
