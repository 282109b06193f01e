"""Compare a whole network with reference values of the authors' released code.

Two traps of the reference values:

* Filled with random values, OCRNet and CGRSeg amplify float32 rounding: their attention saturates,
  so the reference itself lies some 1e-3 of the logits' standard deviation from what the same
  network gives in float64 (mmsegmentation's own OCRNet differs as much from one machine to the
  next). Where float32 does not agree, the reference is compared with float64 and the limit becomes
  a small multiple of the rounding that is measured here; see :func:`compare`.
* EfficientFormerV2's released attention copies its position biases when it is put into eval mode.
  The reference was filled after that, so its logits were computed with the initial biases, zero.
  Both orders are recognised; ``position_biases`` says which one it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmseg.models.decode_heads.ham_head import NMF2D
from torch import Tensor, nn

from experiments.parity.reference_file import ReferenceFileError
from experiments.parity.reference_network import (
    MODEL_FILES,
    NUM_CLASSES,
    NetworkReference,
    NoRandomFill,
    reference_values,
)
from ssa.backbones.efficientformer_v2 import PositionBias
from ssa.models import build_segmentor, build_segmentor_config, load_model_card
from ssa.released.conversion import map_segmentor_keys

#: largest error of the logits over the standard deviation of the whole output
TOLERANCE = 1e-4
#: where the float32 reference is itself uncertain: how many times the measured rounding is allowed,
#: on how many images changed in the last digit it is measured, and what is never allowed
ROUNDING_MULTIPLE, NEARBY_IMAGES, CHAOS_LIMIT = 4, 4, 1e-2
#: what a file of reference values holds: the first 16 classes, and facts about all of them
ARRAYS = ("logits", "mean", "std", "shape")
#: the classifier configurations that have reference files
CLASSIFIER_PRESETS: dict[str, dict[str, Any]] = {
    "softmax": {"name": "softmax"},
    "ssa": {"name": "ssa", "preset": "released"},
}


@torch.no_grad()
def fill_by_rule(
    network: nn.Module, config: Mapping[str, Any], shapes: Mapping[str, Sequence[int]], salt: str
) -> tuple[list[str], list[str]]:
    """Give ``network`` the reference values of the released entries ``shapes``.

    Returns:
        Our entries that no released one reaches, and released ones that reach none of ours (or one
        of another shape). Both are empty if the conversion is complete.
    """
    mapping = map_segmentor_keys(shapes, config)
    entries = network.state_dict()
    built = {key for key in entries if key.endswith("relative_position_index")}
    last_name = {ours: key for key, ours in mapping.ours.items()}
    unexpected = []
    for key, ours in mapping.ours.items():
        if ours not in entries or list(entries[ours].shape) != list(shapes[key]):
            unexpected.append(key)
        elif last_name[ours] == key and ours not in built:
            entries[ours].copy_(torch.from_numpy(reference_values(key, shapes[key], salt)))
    reached = set(mapping.ours.values())
    return sorted(set(entries) - reached), unexpected


def model_parity(
    model: str,
    classifier: str,
    file: str | Path,
    salt: str | None = None,
    size: int | None = None,
    seed: int | None = None,
    models: Path = MODEL_FILES,
) -> dict[str, Any]:
    """One forward pass of a model file's network against a file of reference values.

    Args:
        model: name of a model file.
        classifier: ``softmax`` or ``ssa``.
        file: npz with ``logits`` (first 16 classes), ``mean``, ``std``, ``shape``; the json beside
            it lists the released entries.
        salt, size, seed: what the reference was made with; None takes the json's value, or ``''``,
            64 and 0.
        models: the folder of model files.

    Returns:
        ``model, classifier, file, max_error`` (over the standard deviation of the output),
        ``missing, unexpected`` (names), ``ok``; where float32 does not decide, ``exact_error``,
        ``rounding`` and ``limit`` as well; for EfficientFormerV2 ``position_biases``.

    Raises:
        ReferenceFileError: a file is missing or has another form.
        ConfigurationError: no such model file.
    """
    reference = NetworkReference.read(Path(file), ARRAYS, salt, size, seed)
    if classifier not in CLASSIFIER_PRESETS:
        raise ReferenceFileError(
            f"There are no reference values for the classifier '{classifier}'; "
            f"give one of {', '.join(CLASSIFIER_PRESETS)}."
        )
    card = load_model_card(models / f"{model}.yaml")
    choice = CLASSIFIER_PRESETS[classifier]
    config = build_segmentor_config(card, classifier=choice, num_classes=NUM_CLASSES)
    with NoRandomFill():
        network = build_segmentor(card, classifier=choice, num_classes=NUM_CLASSES).eval()
    missing, unexpected = fill_by_rule(network, config, reference.shapes, reference.salt)

    image = reference.image
    result: dict[str, Any] = {"model": model, "classifier": classifier, "file": str(file)}
    biases = [module.values for module in network.modules() if isinstance(module, PositionBias)]
    if biases:
        result["position_biases"] = "filled"
        if logits_error(_logits(network, image), reference.arrays) > CHAOS_LIMIT:
            result["position_biases"] = "initial"
            for bias in biases:
                torch.nn.init.zeros_(bias)
    result |= compare(network, image, reference.arrays)
    result |= {"missing": missing, "unexpected": unexpected}
    result["ok"] = result["ok"] and not missing and not unexpected
    return result


def compare(
    network: nn.Module, image: Tensor, reference: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """The network's logits for one image against a reference, as far as float32 can tell.

    Equal in float32 within :data:`TOLERANCE`, or equal in float64 within
    :data:`ROUNDING_MULTIPLE` times the largest float32 rounding of this network, measured on the
    image and on copies changed in the last digit, and never beyond :data:`CHAOS_LIMIT`. The network
    is left in float64 in the second case.

    Returns:
        ``max_error`` and ``ok``; in the second case also ``exact_error`` (reference against
        float64), ``rounding`` (float32 against float64) and ``limit``, all over the standard
        deviation of the reference.
    """
    logits = _logits(network, image)
    error = logits_error(logits, reference)
    if error <= TOLERANCE or draws_at_test_time(network) or not np.isfinite(error):
        return {"max_error": error, "ok": error <= TOLERANCE}
    generator = torch.Generator().manual_seed(0)
    nearby = [logits]
    for _ in range(NEARBY_IMAGES):
        noise = torch.randn(image.shape, generator=generator)
        nearby.append(_logits(network, image * (1 + torch.finfo(image.dtype).eps * noise)))
    exact = _logits(network.double(), image.double())
    deviation = float(reference["std"])
    rounding = max(float((one - exact).abs().max()) for one in nearby) / deviation
    exact_error = logits_error(exact, reference)
    limit = min(max(TOLERANCE, ROUNDING_MULTIPLE * rounding), CHAOS_LIMIT)
    return {
        "max_error": error,
        "exact_error": exact_error,
        "rounding": rounding,
        "limit": limit,
        "ok": exact_error <= limit,
    }


def draws_at_test_time(network: nn.Module) -> bool:
    """Whether the network draws random numbers in eval mode, which float64 would draw otherwise."""
    return any(isinstance(module, NMF2D) for module in network.modules())


@torch.no_grad()
def _logits(network: Any, image: Tensor) -> Tensor:
    """The decode head's raw output (K, h, w) for one image (1, 3, H, W)."""
    features = network.backbone(image)
    head = network.decode_head
    if isinstance(head, nn.ModuleList):
        out = head[0](features)
        for later in list(head)[1:]:
            out = later(features, out)
        return out[0]
    # SegNeXt's head draws its bases in every forward pass; the reference seeded here
    torch.manual_seed(0)
    return head(features)[0]


def logits_error(logits: Tensor, reference: Mapping[str, np.ndarray]) -> float:
    """Largest error of the kept logits, the mean and the deviation, over the deviation."""
    deviation = float(reference["std"])
    if [1, *logits.shape] != [int(side) for side in reference["shape"]]:
        return float("inf")
    kept = torch.from_numpy(reference["logits"]).reshape(-1, *logits.shape[1:]).double()
    exact = logits.double()
    return max(
        float((exact[: len(kept)] - kept).abs().max()) / deviation,
        abs(float(exact.mean()) - float(reference["mean"])) / deviation,
        abs(float(exact.std(correction=0)) - deviation) / deviation,
    )
