"""Compare the ``released`` classifier with reference values of the authors' code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.parity.reference_file import ReferenceFileError, read_arrays
from ssa.classifiers.ssa import SSAClassifier, resize_labels
from ssa.classifiers.ssa_config import SSAConfig
from ssa.losses.boundary import boundary_mask
from ssa.released.keys import RELEASED_TO_SSA

#: largest absolute error of a loss, of a map or prototype, and of a gradient over its maximum
LOSS_TOLERANCE, LOGIT_TOLERANCE, GRADIENT_TOLERANCE = 1e-5, 1e-4, 1e-4


def classifier_parity(path: str | Path) -> dict[str, Any]:
    """One training step of the released preset against a file of reference values.

    Everything is inferred from the file: sizes, classes, channels, edge size.

    Args:
        path: an npz in the form of shared/golden/README.md.

    Returns:
        ``file``, ``max_loss_error`` (absolute), ``max_logit_error`` (absolute; logits, prototypes
        and masks), ``max_gradient_error`` (over the maximum of each reference gradient), ``ok``,
        and ``worst_loss``, ``worst_logit``, ``worst_gradient`` (the array behind each).

    Raises:
        ReferenceFileError: unreadable, or an array is missing.
    """
    needed = ["feat", "label", "edge_size", *(f"param/{key}" for key in RELEASED_TO_SSA)]
    arrays = read_arrays(Path(path), needed, form="shared/golden/README.md")
    classifier, features, labels = _load(arrays)
    terms = classifier.loss(features, labels)
    total = torch.stack(list(terms.values())).sum()
    total.backward()

    losses = {name: value.item() for name, value in {**terms, "total": total}.items()}
    loss_errors = {
        name: abs(losses[name] - float(arrays[f"loss/{name}"]))
        for name in _names(arrays, "loss/", losses)
    }
    outputs = _outputs(classifier, features, labels)
    logit_errors = {
        name: _difference(outputs[name], arrays[f"out/{name}"])
        for name in _names(arrays, "out/", outputs)
    }
    parameters = dict(classifier.named_parameters())
    gradients = {"feat": features.grad}
    gradients |= {key: parameters[ours].grad for key, ours in RELEASED_TO_SSA.items()}
    gradient_errors = {}
    for name in _names(arrays, "grad/", gradients):
        reference, gradient = arrays[f"grad/{name}"], gradients[name]
        mine = torch.zeros(reference.shape) if gradient is None else gradient
        scale = max(float(np.abs(reference).max(initial=0.0)), 1e-6)
        gradient_errors[name] = _difference(mine, reference) / scale

    worst = {
        "loss": max(loss_errors, key=_rank(loss_errors)),
        "logit": max(logit_errors, key=_rank(logit_errors)),
        "gradient": max(gradient_errors, key=_rank(gradient_errors)),
    }
    errors = loss_errors[worst["loss"]], logit_errors[worst["logit"]]
    gradient_error = gradient_errors[worst["gradient"]]
    return {
        "file": str(path),
        "max_loss_error": errors[0],
        "max_logit_error": errors[1],
        "max_gradient_error": gradient_error,
        "ok": errors[0] <= LOSS_TOLERANCE
        and errors[1] <= LOGIT_TOLERANCE
        and gradient_error <= GRADIENT_TOLERANCE,
        **{f"worst_{kind}": name for kind, name in worst.items()},
    }


def _rank(errors: dict[str, float]) -> Callable[[str], float]:
    """Order by error, nan (a value that is not a number, or a wrong shape) above everything."""
    return lambda name: float("inf") if np.isnan(errors[name]) else errors[name]


def _load(arrays: dict[str, np.ndarray]) -> tuple[SSAClassifier, Tensor, Tensor]:
    """The classifier with the file's parameters, its features and its labels."""
    num_classes, channels = arrays["param/conv_seg.weight"].shape[:2]
    config = SSAConfig.preset("released", edge_size=int(arrays["edge_size"]))
    classifier = SSAClassifier(channels, num_classes, config, dropout_ratio=0)
    state = {ours: torch.from_numpy(arrays[f"param/{k}"]) for k, ours in RELEASED_TO_SSA.items()}
    classifier.load_state_dict(state)
    features = torch.from_numpy(arrays["feat"]).requires_grad_()
    return classifier.train(), features, torch.from_numpy(arrays["label"].astype(np.int64))


@torch.no_grad()
def _outputs(classifier: SSAClassifier, features: Tensor, labels: Tensor) -> dict[str, Tensor]:
    seen = classifier.inspect(features)
    taught = classifier.inspect_teacher(features, labels)
    small = resize_labels(labels.reshape(len(labels), *labels.shape[-2:]), features.shape[2:])
    assert classifier.position_encoding is not None
    assert seen.coarse_logits is not None
    assert seen.semantic_prototypes is not None
    assert seen.spatial_prototypes is not None
    assert taught.spatial_prototypes is not None
    return {
        "coarse_logits": seen.coarse_logits,
        "spatial_features": classifier.position_encoding(features),
        "semantic_prototypes": seen.semantic_prototypes,
        "spatial_prototypes": seen.spatial_prototypes,
        "logits": seen.logits,
        "teacher_logits": taught.logits.unflatten(2, features.shape[2:]),
        "teacher_semantic_prototypes": taught.semantic_prototypes.expand(len(features), -1, -1),
        "teacher_spatial_prototypes": taught.spatial_prototypes,
        "boundary": boundary_mask(small, classifier.config.edge_size).float(),
    }


def _names(arrays: dict[str, np.ndarray], prefix: str, known: dict[str, Any]) -> list[str]:
    """The known names that the file has under ``prefix``; at least one."""
    names = [name for name in known if prefix + name in arrays]
    if not names:
        raise ReferenceFileError(f"The reference file has no array under '{prefix}'.")
    return names


def _difference(mine: Tensor, reference: np.ndarray) -> float:
    if tuple(mine.shape) != reference.shape:
        return float("nan")
    return float((mine.detach().double() - torch.from_numpy(reference).double()).abs().max())
