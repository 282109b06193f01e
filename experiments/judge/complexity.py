"""Parameters and multiply-accumulates of a network, counted on shapes alone.

Two counts stand side by side:

* ``macs_g``: the paper's convention. Convolutions, linear layers, pooling, resizing modules,
  normalisation layers (two operations an element) and rectifiers count; SyncBN does not, as the
  tool that the paper used does not know it; products outside modules do not either. The auxiliary
  head does not run but its parameters count.
* ``macs_all_g``: every matrix product and convolution, wherever it stands: attention scores, class
  centres, the cosine with the prototypes.

The conventions are those found in shared/golden/models/README.md. Everything runs on the meta
device: no memory, no arithmetic, seconds for the largest network.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.hooks import RemovableHandle

from ssa.backbones.layers import PerChannelConv2d, ResizeTo
from ssa.classifiers.parts.clustering import PrototypeProduct
from ssa.classifiers.parts.prototypes import PrototypeAdapter
from ssa.errors import ConfigurationError
from ssa.meta import meta_device
from ssa.models import build_segmentor

#: how many dotted parts of a module's name the breakdown keeps
BREAKDOWN_DEPTH = 2


class ModuleCost(BaseModel):
    """What one module and everything below it costs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    #: parameters of the deployed network, millions
    params_m: float
    #: multiply-accumulates in the paper's convention, 10⁹
    macs_g: float
    #: every matrix product and convolution, 10⁹
    macs_all_g: float


class Complexity(BaseModel):
    """Size and cost of one deployed network at one input size."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    classifier: str
    num_classes: int
    #: side of the square input, pixels
    size: int
    #: parameters, millions: the auxiliary head included, what only the classifier's training needs
    #: (the teacher) left out
    params_m: float
    #: parameters of the auxiliary head among them, millions
    auxiliary_params_m: float
    #: parameters left out, millions
    training_only_params_m: float
    #: multiply-accumulates in the paper's convention, 10⁹
    macs_g: float
    #: every matrix product and convolution, 10⁹
    macs_all_g: float
    #: the same by module, in the order of the network; the parts add up to the whole
    modules: tuple[ModuleCost, ...]


class ComplexityDifference(BaseModel):
    """What a method adds to its baseline (negative where it saves)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Complexity
    baseline: Complexity
    params_m: float
    macs_g: float
    macs_all_g: float


def complexity(
    card: Mapping[str, Any],
    classifier: Mapping[str, Any],
    *,
    num_classes: int = 150,
    size: int = 512,
    model_size: str = "paper",
    model_overrides: Mapping[str, Any] | None = None,
    depth: int = BREAKDOWN_DEPTH,
) -> Complexity:
    """Count a model file's network with one classifier.

    Args:
        card: a model file's content.
        classifier: as for :func:`ssa.models.build_segmentor`.
        num_classes: K.
        size: side of the square input, pixels.
        model_size: the paper's network, or a smaller one of the card.
        model_overrides: a tree laid over the segmentor.
        depth: how many parts of a module's name the breakdown keeps.

    Raises:
        ConfigurationError: ``size`` is not positive.
    """
    if size < 1:
        raise ConfigurationError(f"An input of {size}×{size} pixels has nothing to count.")
    with meta_device():
        network = build_segmentor(
            card,
            classifier=classifier,
            num_classes=num_classes,
            size=model_size,
            model_overrides=model_overrides,
            sync_norm=True,
        )
        network = network.eval().requires_grad_(False)
        image = torch.empty(1, 3, size, size)
    by_module, products = _count(network, image)
    training_only = set(_training_only(network))
    params: dict[str, int] = {
        name: parameter.numel()
        for name, parameter in network.named_parameters()
        if name not in training_only
    }
    parts = _breakdown(network, params, by_module, products, depth)
    every = dict(network.named_parameters())
    return Complexity(
        model=str(card["name"]),
        classifier=str(classifier["name"]),
        num_classes=num_classes,
        size=size,
        params_m=sum(params.values()) / 1e6,
        auxiliary_params_m=_of("auxiliary_head", params) / 1e6,
        training_only_params_m=sum(every[name].numel() for name in training_only) / 1e6,
        macs_g=sum(by_module.values()) / 1e9,
        macs_all_g=sum(products.values()) / 1e9,
        modules=tuple(parts),
    )


def complexity_difference(method: Complexity, baseline: Complexity) -> ComplexityDifference:
    """What ``method`` adds to ``baseline``.

    Raises:
        ConfigurationError: they were counted at different sizes or numbers of classes.
    """
    if (method.size, method.num_classes) != (baseline.size, baseline.num_classes):
        raise ConfigurationError(
            f"{method.model} was counted at {method.size}² with {method.num_classes} classes, "
            f"{baseline.model} at {baseline.size}² with {baseline.num_classes}; count both alike."
        )
    return ComplexityDifference(
        method=method,
        baseline=baseline,
        params_m=method.params_m - baseline.params_m,
        macs_g=method.macs_g - baseline.macs_g,
        macs_all_g=method.macs_all_g - baseline.macs_all_g,
    )


def _convolution(module: nn.Conv2d, x: Tensor, out: Tensor) -> int:
    per_position = math.prod(module.kernel_size) * module.in_channels // module.groups
    bias = 0 if module.bias is None else out.numel()
    return per_position * out.numel() + bias


def _transposed(module: nn.ConvTranspose2d, x: Tensor, out: Tensor) -> int:
    per_position = math.prod(module.kernel_size) * module.out_channels // module.groups
    bias = 0 if module.bias is None else out.numel()
    return per_position * x.numel() + bias


def _linear(module: nn.Linear, x: Tensor, out: Tensor) -> int:
    return x.numel() * out.shape[-1]


def _norm(module: nn.Module, x: Tensor, out: Tensor) -> int:
    affine = getattr(module, "affine", False) or getattr(module, "elementwise_affine", False)
    return x.numel() * (2 if affine else 1)


def _of_input(module: nn.Module, x: Tensor, out: Tensor) -> int:
    return x.numel()


def _of_output(module: nn.Module, x: Tensor, out: Tensor) -> int:
    return out.numel()


def _adapter(module: PrototypeAdapter, centre: Tensor, out: Tensor) -> int:
    """The first layer (and its rectifier) as the one linear layer of a concatenation that it is.

    The classifier computes it as two products, one of them once for all images, and calls no
    module; its second layer is a module and counts itself.
    """
    first = module.output if module.hidden is None else module.hidden
    rows = centre.numel() // centre.shape[-1]
    rectified = 0 if module.hidden is None else rows * first.out_features
    return rows * first.in_features * first.out_features + rectified


def _product(module: PrototypeProduct, rows: Tensor, out: Tensor) -> int:
    """Prototypes in place of the 1×1 convolution: Table 2's figures of the rivals count them."""
    return rows.numel() * out.shape[1]


#: what the paper's convention counts, by exact class; a hard sigmoid is a ReLU6 in released code
COUNTERS: dict[type[nn.Module], Callable[[Any, Tensor, Tensor], int]] = {
    nn.Conv1d: _convolution,
    nn.Conv2d: _convolution,
    nn.ConvTranspose2d: _transposed,
    nn.Linear: _linear,
    nn.BatchNorm1d: _norm,
    nn.BatchNorm2d: _norm,
    nn.GroupNorm: _norm,
    nn.InstanceNorm2d: _norm,
    nn.LayerNorm: _norm,
    nn.AdaptiveAvgPool2d: _of_input,
    nn.AdaptiveMaxPool2d: _of_input,
    nn.AvgPool2d: _of_input,
    nn.MaxPool2d: _of_input,
    nn.ELU: _of_output,
    nn.Hardsigmoid: _of_output,
    nn.LeakyReLU: _of_output,
    nn.PReLU: _of_output,
    nn.ReLU: _of_output,
    nn.ReLU6: _of_output,
    nn.Upsample: _of_output,
    PerChannelConv2d: _convolution,
    PrototypeAdapter: _adapter,
    PrototypeProduct: _product,
    ResizeTo: _of_output,
}
#: subclasses that count as the layer they are: mmcv's for empty batches
WRAPPERS: dict[str, type[nn.Module]] = {
    "mmcv.cnn.bricks.wrappers.Conv2d": nn.Conv2d,
    "mmcv.cnn.bricks.wrappers.ConvTranspose2d": nn.ConvTranspose2d,
    "mmcv.cnn.bricks.wrappers.Linear": nn.Linear,
    "mmcv.cnn.bricks.wrappers.MaxPool2d": nn.MaxPool2d,
}


def _counted_as(module: nn.Module) -> type[nn.Module]:
    kind = type(module)
    return WRAPPERS.get(f"{kind.__module__}.{kind.__qualname__}", kind)


class _ShapesOnly(TorchFunctionMode):
    """What has no product and a known shape is not computed.

    On the meta device torch runs a batch norm or an interpolation as a dozen steps of Python, which
    take most of the time of counting.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in _KEEPING_SHAPE and args:
            return torch.empty_like(args[0])
        size = kwargs.get("size", args[1] if len(args) > 1 else None)
        if func is F.interpolate and args and size is not None:
            features: Tensor = args[0]
            sides = [size] * (features.dim() - 2) if isinstance(size, int) else size
            return features.new_empty((*features.shape[:2], *map(int, sides)))
        return func(*args, **kwargs)


#: functions whose output has the shape of their first argument, and that multiply no matrices
_KEEPING_SHAPE = frozenset({F.batch_norm, F.layer_norm, F.group_norm, F.relu, F.gelu})


@torch.no_grad()
def _count(network: nn.Module, image: Tensor) -> tuple[dict[str, int], dict[str, float]]:
    """One forward pass, counted both ways.

    Returns:
        By module, without what its children did: operations in the paper's convention, and
        multiply-accumulates of matrix products. What happens outside all calls has the name
        ``""``.
    """
    macs: dict[str, int] = defaultdict(int)
    products: dict[str, float] = defaultdict(float)
    counter = FlopCounterMode(display=False)
    # for every module that is being called: products before it, and products of its children
    calls: list[list[float]] = [[0, 0]]

    def enter(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        calls.append([counter.get_total_flops() / 2, 0])

    def leave(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
            before, of_children = calls.pop()
            total = counter.get_total_flops() / 2 - before
            products[name] += total - of_children
            calls[-1][1] += total
            if count := COUNTERS.get(_counted_as(module)):
                macs[name] += count(module, inputs[0], output)

        return hook

    handles: list[RemovableHandle] = []
    for name, module in network.named_modules():
        handles.append(module.register_forward_pre_hook(enter))
        handles.append(module.register_forward_hook(leave(name)))
    try:
        with counter, _ShapesOnly():
            network(image, mode="tensor")
    finally:
        for handle in handles:
            handle.remove()
    return macs, products


def _training_only(network: nn.Module) -> Iterable[str]:
    """Names of the parameters that a classifier leaves out when it is deployed."""
    for name, module in network.named_modules():
        for child in getattr(module, "training_only", ()):
            part = getattr(module, child, None)
            if isinstance(part, nn.Parameter):
                yield f"{name}.{child}"
            elif isinstance(part, nn.Module):
                for key, _ in part.named_parameters():
                    yield f"{name}.{child}.{key}"


def _of(prefix: str, values: Mapping[str, float]) -> float:
    """The sum over a module and everything below it; ``""`` is the whole network."""
    inside = f"{prefix}." if prefix else ""
    return sum(value for name, value in values.items() if name == prefix or name.startswith(inside))


def _breakdown(
    network: nn.Module,
    params: Mapping[str, int],
    macs: Mapping[str, int],
    products: Mapping[str, float],
    depth: int,
) -> Iterable[ModuleCost]:
    """Modules at ``depth``, plus one line a parent for what it does outside its children."""
    for name, module in network.named_modules():
        level = name.count(".") + 1 if name else 0
        if level > depth:
            continue
        cost = [_of(name, counts) for counts in (params, macs, products)]
        if level < depth:
            children = [
                f"{name}.{child}" if name else child for child, _ in module.named_children()
            ]
            for index, counts in enumerate((params, macs, products)):
                cost[index] -= sum(_of(child, counts) for child in children)
        if any(cost):
            yield ModuleCost(
                name=name or "(outside)",
                params_m=cost[0] / 1e6,
                macs_g=cost[1] / 1e9,
                macs_all_g=cost[2] / 1e9,
            )
