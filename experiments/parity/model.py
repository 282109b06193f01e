"""Compare a whole network with reference values of the authors' released code.

The reference weights are not files but a rule: every released parameter name seeds its own random
values. So a network that is built here, filled through the conversion of names and gives the same
logits has the same architecture, down to the last constant.

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

import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmseg.models.decode_heads.ham_head import NMF2D
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ssa.backbones.efficientformer_v2 import PositionBias
from ssa.errors import SsaError
from ssa.models import build_segmentor, build_segmentor_config, load_model_card
from ssa.released.conversion import map_segmentor_keys

#: largest error of the logits over the standard deviation of the whole output
TOLERANCE = 1e-4
#: where the float32 reference is itself uncertain: how many times the measured rounding is allowed,
#: on how many images changed in the last digit it is measured, and what is never allowed
ROUNDING_MULTIPLE, NEARBY_IMAGES, CHAOS_LIMIT = 4, 4, 1e-2
#: classes of the reference networks, and how many of them the file keeps
NUM_CLASSES, KEPT_CLASSES = 150, 16
#: the classifier configurations that have reference files
CLASSIFIER_PRESETS: dict[str, dict[str, Any]] = {
    "softmax": {"name": "softmax"},
    "ssa": {"name": "ssa", "preset": "released"},
}
MODEL_FILES = Path(__file__).resolve().parents[1] / "models"


class ReferenceFileError(SsaError):
    """A reference file that cannot be read, or that is not one of this form."""


class _NoRandomFill(TorchFunctionMode):
    """Skips random initialisation, which for the largest network takes longer than the rest."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (Tensor.uniform_, Tensor.normal_):
            return args[0]
        return func(*args, **(kwargs or {}))


def reference_values(key: str, shape: Sequence[int], salt: str = "") -> np.ndarray:
    """The reference value of one released parameter or buffer.

    Standard normal numbers n of a generator seeded by the name: running variances are 1 + 0.1·|n|
    and means 0.1·n, matrices and kernels n / sqrt(inputs), one-dimensional weights 1 + 0.1·n, all
    else 0.1·n; counters are 0.
    """
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, dtype=np.int64)
    generator = np.random.default_rng(zlib.crc32((salt + key).encode()))
    normal = generator.standard_normal(tuple(shape)).astype(np.float32)
    if key.endswith("running_var"):
        return 1 + np.float32(0.1) * np.abs(normal)
    if key.endswith("running_mean"):
        return np.float32(0.1) * normal
    if len(shape) >= 2:
        normal /= np.float32(np.sqrt(np.prod(shape[1:])))
        return normal
    return np.float32(0.1) * normal + np.float32(1 if key.endswith("weight") else 0)


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
    reference, facts = _read(Path(file))
    salt = facts.get("salt", "") if salt is None else salt
    size = facts.get("size", 64) if size is None else size
    seed = facts.get("seed", 0) if seed is None else seed
    if classifier not in CLASSIFIER_PRESETS:
        raise ReferenceFileError(
            f"There are no reference values for the classifier '{classifier}'; "
            f"give one of {', '.join(CLASSIFIER_PRESETS)}."
        )
    card = load_model_card(models / f"{model}.yaml")
    choice = CLASSIFIER_PRESETS[classifier]
    config = build_segmentor_config(card, classifier=choice, num_classes=NUM_CLASSES)
    with _NoRandomFill():
        network = build_segmentor(card, classifier=choice, num_classes=NUM_CLASSES).eval()
    missing, unexpected = fill_by_rule(network, config, facts["state_dict"], salt)

    normal = np.random.default_rng(seed).standard_normal((1, 3, size, size))
    image = torch.from_numpy(normal.astype(np.float32))
    result: dict[str, Any] = {"model": model, "classifier": classifier, "file": str(file)}
    biases = [module.values for module in network.modules() if isinstance(module, PositionBias)]
    if biases:
        result["position_biases"] = "filled"
        if logits_error(_logits(network, image), reference) > CHAOS_LIMIT:
            result["position_biases"] = "initial"
            for bias in biases:
                torch.nn.init.zeros_(bias)
    result |= compare(network, image, reference)
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


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    try:
        with np.load(path) as arrays:
            values = {name: arrays[name] for name in ("logits", "mean", "std", "shape")}
        facts = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ReferenceFileError(
            f"Cannot read reference values from {path} and its json ({error}); give a file of the "
            "form of shared/golden/models."
        ) from None
    if "state_dict" not in facts:
        raise ReferenceFileError(f"{path.with_suffix('.json')} lists no 'state_dict'.")
    return values, facts
