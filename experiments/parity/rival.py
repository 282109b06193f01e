"""Compare the rival classifiers with recorded steps of their authors' code.

Everything is inferred from the file: shapes, hyper-parameters, parameters, state, random draws.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.parity.reference_file import ReferenceFileError, read_arrays
from ssa.classifiers.base import PixelClassifier
from ssa.classifiers.cac import CacClassifier, CacConfig
from ssa.classifiers.dnc import DncClassifier, DncConfig
from ssa.classifiers.gmmseg import GmmSegClassifier, GmmSegConfig
from ssa.classifiers.parts.clustering import (
    class_layer_norm,
    class_sinkhorn,
    class_softmin,
    own_class_scores,
    pixel_classes,
)
from ssa.classifiers.parts.prototypes import class_softmax_centre
from ssa.classifiers.protoseg import ProtoSegClassifier, ProtoSegConfig
from ssa.errors import UnknownNameError

#: largest absolute difference allowed, from golden/rivals/README.md
TOLERANCES = {
    "score": 1e-4,
    "loss": 1e-5,
    "gradient": 1e-6,
    "parameter_gradient": 1e-5,
    "buffer": 1e-6,
}


@dataclass
class Comparison:
    """The largest difference of each kind, and every integer array that is not equal."""

    arrays: Mapping[str, np.ndarray]
    errors: dict[str, float] = field(default_factory=lambda: dict.fromkeys(TOLERANCES, 0.0))
    wrong_integers: list[str] = field(default_factory=list)
    compared: set[str] = field(default_factory=set)

    def close(self, kind: str, key: str, value: Tensor) -> None:
        """Record the difference between ``value`` and the array ``key``."""
        expected = torch.from_numpy(np.asarray(self.arrays[key])).double()
        value = value.detach().double()
        same = expected.shape == value.shape
        error = float((expected - value).abs().max()) if same and expected.numel() else 0.0
        if not same or error != error:  # another shape, or NaN
            error = float("inf")
        self.errors[kind] = max(self.errors[kind], error)
        self.compared.add(key)

    def equal(self, key: str, value: Tensor) -> None:
        """Record whether the integers ``value`` are exactly those of the array ``key``."""
        expected = np.asarray(self.arrays[key]).astype(np.int64)
        if not np.array_equal(expected, value.detach().long().numpy()):
            self.wrong_integers.append(key)
        self.compared.add(key)

    def report(self, path: Path) -> dict[str, Any]:
        """The result as one JSON-ready mapping; ``not_compared`` must be empty to be ok."""
        checked = ("out/", "loss/", "grad", "after", "stepA/", "stepB/")
        inputs = ("stepA/feat", "stepA/label", "stepB/feat", "stepB/label")
        left = sorted(
            key
            for key in self.arrays
            if key.startswith(checked) and key not in self.compared and key not in inputs
        )
        within = all(self.errors[kind] <= TOLERANCES[kind] for kind in TOLERANCES)
        return {
            "file": str(path),
            **{f"max_{kind}_error": error for kind, error in self.errors.items()},
            "wrong_integers": self.wrong_integers,
            "compared": len(self.compared),
            "not_compared": left,
            "ok": within and not self.wrong_integers and not left,
        }


def rival_parity(name: str, path: str | Path) -> dict[str, Any]:
    """Run one recorded step of a rival classifier and compare all of it.

    Args:
        name: ``cac``, ``gmmseg``, ``protoseg`` or ``dnc``.
        path: an npz file in the form of golden/rivals.

    Returns:
        ``file``, ``max_score_error``, ``max_loss_error``, ``max_gradient_error`` (features),
        ``max_parameter_gradient_error``, ``max_buffer_error``, ``wrong_integers``,
        ``compared`` (number of arrays), ``not_compared`` and ``ok``.

    Raises:
        UnknownNameError: no such rival.
        ReferenceFileError: the file is missing or of another form.
    """
    path = Path(path)
    if name not in _CHECKS:
        raise UnknownNameError("rival classifier", name, _CHECKS)
    arrays = read_arrays(path, form=f"shared/golden/rivals/{name}")
    comparison = Comparison(arrays)
    try:
        _CHECKS[name](arrays, comparison)
    except KeyError as error:
        raise ReferenceFileError(
            f"{path} has no array {error}, so it is no recorded step of '{name}'; "
            f"give a file of shared/golden/rivals/{name}."
        ) from None
    return comparison.report(path)


def _tensor(arrays: Mapping[str, np.ndarray], key: str) -> Tensor:
    return torch.from_numpy(np.array(arrays[key]))


def _scalar(arrays: Mapping[str, np.ndarray], key: str, default: float) -> float:
    return float(arrays[key]) if key in arrays else default


def _fill(module: nn.Module, arrays: Mapping[str, np.ndarray]) -> None:
    parameters = dict(module.named_parameters())
    recorded = {k.removeprefix("param/") for k in arrays if k.startswith("param/")}
    for name in recorded | set(parameters):
        if name not in parameters:
            raise KeyError(name)
        with torch.no_grad():
            parameters[name].copy_(_tensor(arrays, f"param/{name}"))


def _gradients(
    comparison: Comparison,
    module: nn.Module,
    features: Tensor,
    terms: dict[str, tuple[Tensor, float]],
    prefix: str = "",
) -> None:
    """Compare the gradients of every unweighted term and of the weighted total."""
    for name, (term, weight) in terms.items():
        key = f"gradterm/{name}/feat"
        if key in comparison.arrays and weight > 0:
            grad = torch.autograd.grad(term / weight, features, retain_graph=True)[0]
            comparison.close("gradient", key, grad)
    total = torch.stack([term for term, _ in terms.values()]).sum()
    total.backward()
    assert features.grad is not None
    comparison.close("gradient", f"{prefix}grad/feat", features.grad)
    for name, parameter in module.named_parameters():
        if parameter.grad is not None:
            comparison.close("parameter_gradient", f"{prefix}grad/{name}", parameter.grad)


def _cac_key(key: str) -> str:
    """A recorded array's key with the parameter's released name changed into ours."""
    for theirs, ours in (
        ("/apd_proj.", "/teacher.semantic_adapter."),
        ("/proj.", "/semantic_adapter."),
    ):
        if theirs in key:
            key = key.replace(theirs + "0.", ours + "hidden.").replace(
                theirs + "2.", ours + "output."
            )
    return key


def _step(
    comparison: Comparison,
    model: PixelClassifier,
    features: Tensor,
    labels: Tensor,
    weights: Mapping[str, float],
    names: Mapping[str, str] | None = None,
) -> dict[str, tuple[Tensor, float]]:
    """Compare the losses of one step, by their recorded ``names``, and their gradients.

    Returns: each weighted term with its weight, by its recorded name.
    """
    terms = {
        names[name] if names else name: (term, weights[name])
        for name, term in model.train().loss(features, labels).items()
    }
    for name, (term, weight) in terms.items():
        comparison.close("loss", f"loss/{name}", term / weight)
    comparison.close("loss", "loss/total", torch.stack([t for t, _ in terms.values()]).sum())
    _gradients(comparison, model, features, terms)
    return terms


def _check_cac(arrays: Mapping[str, np.ndarray], comparison: Comparison) -> None:
    features = _tensor(arrays, "feat").requires_grad_()
    labels = _tensor(arrays, "label")
    channels, classes = features.shape[1], arrays["param/conv_seg.weight"].shape[0]
    names = {"ce": "main_ce", "coarse_ce": "coarse_ce", "teacher_ce": "teacher_ce"}
    names["response"] = "distill"
    weights = {ours: _scalar(arrays, f"weight/{theirs}", 1.0) for ours, theirs in names.items()}
    config = CacConfig.preset(
        "released",
        ce_weight=weights["ce"],
        coarse_ce_weight=weights["coarse_ce"],
        teacher_ce_weight=weights["teacher_ce"],
        response_weight=weights["response"],
    )
    model = CacClassifier(channels, classes, config, dropout_ratio=0)
    arrays = {_cac_key(key): value for key, value in arrays.items()}
    comparison.arrays = arrays
    _fill(model, arrays)
    size = (features.shape[2], features.shape[3])
    pooled: list[Tensor] = []  # the teacher hands its means to φ̂ and to nobody else
    adapter = model.teacher.semantic_adapter
    assert adapter is not None
    hook = adapter.register_forward_pre_hook(lambda _, inputs: pooled.append(inputs[0]))
    with torch.no_grad():
        coarse = model.conv_seg(features)
        comparison.close("score", "out/coarse_logits", coarse)
        context = class_softmax_centre(coarse.flatten(2), features.flatten(2))
        comparison.close("score", "out/context_prototypes", context)
        adapted = model.adapted_prototypes(features, coarse)
        comparison.close("score", "out/enriched_classifier", adapted)
        comparison.close("score", "out/logits", model(features))
        teacher = model.teacher_prototypes(model.guide(labels, features), features)
        hook.remove()
        comparison.close("score", "out/teacher_prototypes", pooled[0])
        comparison.close("score", "out/teacher_classifier", teacher[0])
        logits = model.cosine_logits(features, teacher)
        comparison.close("score", "out/teacher_logits", logits)
        entropy = -(logits.softmax(1) * logits.log_softmax(1)).sum(1).view(len(features), *size)
        comparison.close("score", "out/teacher_entropy", entropy)
        comparison.close("score", "out/eval_logits", model.eval()(features))
    _step(comparison, model, features, labels, weights, names)


def _recorded_noise(
    arrays: Mapping[str, np.ndarray], classes: Tensor, num_classes: int
) -> Callable[[Tensor], Tensor]:
    """The recorded Gumbel draws in pixel order; the release draws class after class."""

    def noise(like: Tensor) -> Tensor:
        drawn = torch.zeros_like(like)
        for k in range(num_classes):
            key = f"rand/gumbel_class{k}"
            if key in arrays:
                drawn[classes == k] = _tensor(arrays, key).to(like.dtype)
        return drawn

    return noise


def _compare_by_class(
    comparison: Comparison,
    classes: Tensor,
    num_classes: int,
    scores: dict[str, Tensor],
    integers: dict[str, Tensor],
) -> None:
    """Compare rows of every class with the arrays ``<name>_class<k>``."""
    for k in range(num_classes):
        for name, rows in scores.items():
            if f"{name}_class{k}" in comparison.arrays:
                comparison.close("score", f"{name}_class{k}", rows[classes == k])
        for name, rows in integers.items():
            if f"{name}_class{k}" in comparison.arrays:
                comparison.equal(f"{name}_class{k}", rows[classes == k])


def _check_protoseg(arrays: Mapping[str, np.ndarray], comparison: Comparison) -> None:
    features = _tensor(arrays, "feat").requires_grad_()
    labels = _tensor(arrays, "label")
    num_classes, per_class, channels = arrays["before/prototypes"].shape
    has_projection = "param/proj_head.proj.0.weight" in arrays
    weights = {"ce": 1.0, "ppc": _scalar(arrays, "hyper/ppc_weight", 0.01)}
    weights["ppd"] = _scalar(arrays, "hyper/ppd_weight", 0.001)
    config = ProtoSegConfig.preset(
        "released",
        prototypes_per_class=per_class,
        momentum=_scalar(arrays, "hyper/gamma", 0.999),
        projection="width_norm" if has_projection else "none",
        contrast_weight=weights["ppc"],
        distance_weight=weights["ppd"],
        sinkhorn_iterations=int(_scalar(arrays, "hyper/sinkhorn_iters", 3)),
        sinkhorn_epsilon=_scalar(arrays, "hyper/sinkhorn_eps", 0.05),
        class_weights=(
            tuple(arrays["hyper/ce_weight"].tolist()) if "hyper/ce_weight" in arrays else None
        ),
    )
    model = ProtoSegClassifier(channels, num_classes, config, dropout_ratio=0)
    _fill(model, arrays)
    model.prototypes.copy_(_tensor(arrays, "before/prototypes"))
    size = (features.shape[2], features.shape[3])
    low = pixel_classes(labels, size, num_classes, 255)
    valid = low < num_classes
    model.draw_noise = _recorded_noise(arrays, low, num_classes)
    with torch.no_grad():
        unit = F.normalize(model.prototypes, dim=-1)
        comparison.close("buffer", "before/prototypes_normalised", unit)
        embeddings = model.embed(features)
        similarities = model.similarities(embeddings)
        own = own_class_scores(similarities, low)
        plan = class_sinkhorn(
            own,
            low,
            num_classes,
            iterations=config.sinkhorn_iterations,
            epsilon=config.sinkhorn_epsilon,
        )
        drawn = F.one_hot((plan + model.draw_noise(plan)).argmax(1), per_class)
        target = torch.where(valid, low * per_class + plan.argmax(1), -1)
        comparison.close("score", "out/embedding", embeddings)
        comparison.close("score", "out/similarity", similarities.transpose(1, 2))
        comparison.close("score", "out/contrast_logits", similarities.flatten(1))
        comparison.close("score", "out/seg_logits", model(features))
        comparison.equal("out/label_low", torch.where(valid, low, 255).view(-1, *size))
        comparison.equal("out/contrast_target", target)
    _compare_by_class(
        comparison,
        low,
        num_classes,
        {"out/sinkhorn_in": own, "out/sinkhorn_plan": plan},
        {"out/sinkhorn_index": plan.argmax(1), "out/gumbel_onehot": drawn},
    )
    _step(comparison, model, features, labels, weights)
    comparison.compared.add("grad_first_step_only/prototypes")  # of a tensor nobody trains
    comparison.close("buffer", "after/prototypes", model.prototypes)
    comparison.close("score", "out/eval_logits_after", model.eval()(features))


def _check_gmmseg(arrays: Mapping[str, np.ndarray], comparison: Comparison) -> None:
    features = _tensor(arrays, "feat").requires_grad_()
    labels = _tensor(arrays, "label")
    num_classes, components, channels = arrays["before/means"].shape
    weights = {"ce": 1.0, "contrast": _scalar(arrays, "hyper/contrast_weight", 0.01)}
    config = GmmSegConfig.preset(
        "released",
        components=components,
        embedding_channels=None,
        memory_size=arrays["before/queue"].shape[2],
        samples_per_step=int(_scalar(arrays, "hyper/max_sample_size", 20)),
        update_interval=int(_scalar(arrays, "hyper/update_interval", 5)),
        mean_momentum=_scalar(arrays, "hyper/gamma_mean", 0.999),
        deviation_momentum=_scalar(arrays, "hyper/gamma_cov", 0.0),
        contrast_weight=weights["contrast"],
        sinkhorn_iterations=int(_scalar(arrays, "hyper/sinkhorn_iters", 3)),
        sinkhorn_epsilon=_scalar(arrays, "hyper/sinkhorn_eps", 0.05),
    )
    model = GmmSegClassifier(channels, num_classes, config, dropout_ratio=0)
    _fill(model, arrays)
    state = model.state_dict()
    state["means"] = _tensor(arrays, "before/means")
    state["deviations"] = _tensor(arrays, "before/diagonal")
    state["memory.entries"] = _tensor(arrays, "before/queue")
    state["memory.pointer"] = _tensor(arrays, "before/queue_ptr")
    state["counter.steps"] = _tensor(arrays, "before/iteration_counter").long().squeeze()
    model.load_state_dict(state)
    size = (features.shape[2], features.shape[3])
    low = pixel_classes(labels, size, num_classes, 255)
    valid = low < num_classes
    with torch.no_grad():
        embeddings = model.embed(features)
        log_densities = model.log_densities(embeddings)
        scores = class_layer_norm(model.class_scores(log_densities), model.mask_norm)
        scaled, plan = model.e_step(log_densities, low)
        component = plan.argmax(1)
        target = torch.where(valid, low * components + component, 255)
        correct = valid & (scores.argmax(1) == low)
        comparison.close("score", "out/embedding", embeddings)
        comparison.close("score", "out/log_prob", log_densities)
        comparison.close("score", "out/class_score", model.class_scores(log_densities))
        comparison.close("score", "out/seg_logits", model(features))
        comparison.equal("out/label_low", torch.where(valid, low, 255).view(-1, *size))
        comparison.equal("out/contrast_target", target)
        enqueued = F.one_hot(component, components) * correct[:, None]
        comparison.equal("out/enqueue_mask", enqueued)
    _compare_by_class(
        comparison,
        low,
        num_classes,
        {"out/sinkhorn_in": scaled, "out/sinkhorn_plan": plan},
        {"out/sinkhorn_index": component},
    )
    overflowing = enqueued.new_zeros(num_classes + 1, components).index_add(0, low, enqueued)
    overflowing = overflowing[:-1].flatten()
    for j, count in enumerate(overflowing[overflowing > config.samples_per_step].tolist()):
        step = torch.arange(config.samples_per_step)
        spaced = step * (count - 1) // max(config.samples_per_step - 1, 1)
        comparison.equal(f"out/sample_index_{j}", spaced)
    terms = _step(comparison, model, features, labels, weights)
    comparison.close("loss", "loss/contrast_weighted", terms["contrast"][0])
    comparison.close("buffer", "after/means", model.means)
    comparison.close("buffer", "after/diagonal", model.deviations)
    comparison.close("buffer", "after/queue", model.memory.entries)
    comparison.equal("after/queue_ptr", model.memory.pointer)
    comparison.equal("after/iteration_counter", model.counter.steps[None])
    comparison.close("score", "out/eval_logits_after", model.eval()(features))
    comparison.close("buffer", "after_eval/means", F.normalize(model.means, dim=-1))


def _check_dnc(arrays: Mapping[str, np.ndarray], comparison: Comparison) -> None:
    num_classes, per_class, channels = arrays["before/prototypes"].shape
    steps = [name for name in ("stepA", "stepB") if f"{name}/feat" in arrays]
    contrast_on = bool(_scalar(arrays, "hyper/contrast_on", 0))
    contrast_weight = _scalar(arrays, "hyper/contrast_weight", 0.005) if contrast_on else 0.0
    config = DncConfig.preset(
        "released",
        centroids_per_class=per_class,
        momentum=_scalar(arrays, "hyper/gamma", 0.999),
        epsilon=_scalar(arrays, "hyper/agd_eps", 0.05),
        bank_steps=int(_scalar(arrays, "hyper/bank_limit", 2)),
        bank_pixels=max(len(arrays[f"{name}/feat"]) for name in steps),
        contrast_weight=contrast_weight,
        contrast_temperature=_scalar(arrays, "hyper/temperature", 0.1),
    )
    model = DncClassifier(channels, num_classes, config, dropout_ratio=0)
    _fill(model, arrays)
    model.centroids.copy_(_tensor(arrays, "before/prototypes"))
    assert model.bank is not None
    # samples as the positions of one image of width 1
    features = {n: _tensor(arrays, f"{n}/feat").T[None, :, :, None].contiguous() for n in steps}
    labels = {n: _tensor(arrays, f"{n}/label").long()[None, :, None] for n in steps}

    x = features["stepA"].requires_grad_()
    comparison.close("score", "stepA/out/logits", model(x)[0, :, :, 0].T)
    terms = model.train().loss(x, labels["stepA"])
    comparison.close("loss", "loss/stepA_ce", terms["ce"])
    terms["ce"].backward()
    _sample_gradients(comparison, model, x, "stepA")
    comparison.close("buffer", "stepA/after/prototypes", model.centroids)

    x = features["stepB"].requires_grad_()
    bank = torch.cat([_tensor(arrays, f"{n}/feat") for n in steps])
    classes = torch.cat([_tensor(arrays, f"{n}/label").long() for n in steps])
    bank_map = bank.T[None, :, :, None]
    with torch.no_grad():
        embeddings = model.embed(bank_map)
        similarities = model.similarities(embeddings)
        own = own_class_scores(similarities, classes)
        plan = class_softmin(own, classes, num_classes, epsilon=config.epsilon)
        noise = _recorded_noise(arrays, classes, num_classes)
        drawn = F.one_hot((plan + noise(plan)).argmax(1), per_class)
        cosines = similarities.flatten(1) / config.contrast_temperature
        comparison.close("score", "stepB/out/embedding", embeddings)
        comparison.close("score", "stepB/out/similarity", similarities.transpose(1, 2))
        comparison.close("score", "stepB/out/logits", model.decide(similarities))
        comparison.close("score", "stepB/out/contrast_logits", cosines)
        comparison.equal("stepB/out/contrast_target", classes * per_class + plan.argmax(1))
    _compare_by_class(
        comparison,
        classes,
        num_classes,
        {"stepB/out/similarity": own, "stepB/out/plan": plan},
        {"stepB/out/index": plan.argmax(1), "stepB/out/gumbel_onehot": drawn},
    )
    padded = model.bank.classes  # what the bank holds decides where the draws belong
    model.draw_noise = lambda like: _recorded_noise(arrays, padded.flatten(), num_classes)(like)
    terms = model.loss(x, labels["stepB"])
    inside = padded.flatten() < num_classes
    comparison.close("score", "stepB/out/bank_feat", model.bank.features.flatten(0, 1)[inside])
    comparison.equal("stepB/out/bank_label", padded.flatten()[inside])
    comparison.close("loss", "loss/stepB_ce", terms["ce"])
    if contrast_on:
        comparison.close("loss", "loss/stepB_contrast", terms["contrast"] / contrast_weight)
    total = torch.stack(list(terms.values())).sum()
    comparison.close("loss", "loss/stepB_total", total)
    total.backward()
    _sample_gradients(comparison, model, x, "stepB")
    comparison.close("buffer", "after/prototypes", model.centroids)
    with torch.no_grad():
        logits = model.eval()(bank_map)[0, :, :, 0].T
        comparison.close("score", "out/eval_logits_after", logits)
        comparison.close("score", "out/eval_prob_after", logits.softmax(1))


def _sample_gradients(
    comparison: Comparison, model: nn.Module, features: Tensor, step: str
) -> None:
    assert features.grad is not None
    comparison.close("gradient", f"{step}/grad/feat", features.grad[0, :, :, 0].T)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        comparison.close("parameter_gradient", f"{step}/grad/{name}", parameter.grad)
    model.zero_grad()


_CHECKS: dict[str, Callable[[Mapping[str, np.ndarray], Comparison], None]] = {
    "cac": _check_cac,
    "gmmseg": _check_gmmseg,
    "protoseg": _check_protoseg,
    "dnc": _check_dnc,
}
