"""The deployed SSA classifier in C: two sweeps over the features, no map in between.

``kernels/adapted_inference.c`` says how it works; ``SSAClassifier._decide`` is the reference, and
what runs wherever there is no C compiler, another device, another precision, a gradient, autocast,
or a trace (ONNX, ``torch.export``, ``torch.compile``).
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ssa.classifiers.parts.prototypes import FoldedAdapter
from ssa.losses.native import kernel_library, run_phase, threads_worth
from ssa.losses.precision import EPS

_CENTRES, _COMBINE, _DECIDE = range(3)
#: multiplications of one product that repay the start of one thread
_THREAD_ELEMENTS = 10_000_000
#: positions of one unit of work, and the most units of one image: each has sums of its own
_UNIT_POSITIONS, _MOST_UNITS = 1024, 8
#: classes are padded to a multiple of this
_PAD = 16
#: what stands where a class is only padding
_LOWEST = -1e30


class _Task(ctypes.Structure):
    """``Task`` of kernels/adapted_inference.c, field by field."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("features", "taps", "taps_bias", "table")),
        *((name, ctypes.c_void_p) for name in ("coarse_weight", "coarse_bias", "semantic")),
        *((name, ctypes.c_void_p) for name in ("spatial", "mass", "highest", "total")),
        *((name, ctypes.c_void_p) for name in ("prototypes", "logits")),
        *((name, ctypes.c_int64) for name in ("B", "D", "Dp", "K", "Kp", "h", "w", "units")),
        *((name, ctypes.c_int64) for name in ("want_semantic", "want_spatial", "cosine")),
    )


@dataclass(frozen=True)
class Branch:
    """One centre's way to the prototypes: M·ReLU(A·centre + offset), or M·centre (one layer)."""

    #: M (D, D/2), or (D, D) of one layer; the output projection is multiplied in
    output: Tensor
    #: A (D/2, D) and offset (D/2, K), None for one layer
    hidden: tuple[Tensor, Tensor] | None

    @classmethod
    def of(cls, adapter: FoldedAdapter, projection: Tensor | None) -> tuple[Branch, Tensor]:
        """The branch, and its constant (D, K) or (D, 1) in the prototypes."""

        def project(values: Tensor) -> Tensor:
            return values if projection is None else projection @ values

        if adapter.output is None:
            return cls(project(adapter.centre_weight), None), project(adapter.offset.t())
        hidden = (adapter.centre_weight, adapter.offset.t().contiguous())
        return cls(project(adapter.output.weight), hidden), project(adapter.output.bias[:, None])


@dataclass(frozen=True)
class NativeWeights:
    """A deployed classifier as the kernel wants it; what is constant is multiplied in."""

    #: W transposed (D, K'), K' padded, and the bias (K'); None where no coarse mask is read
    coarse: tuple[Tensor, Tensor] | None
    #: the depth-wise convolution's weight (D, 9) and bias (D,), if that encodes positions
    taps: tuple[Tensor, Tensor] | None
    #: of S_c and of P_c; None where it is not wanted
    semantic: Branch | None
    spatial: Branch | None
    #: the softmax behind P_c
    spatial_softmax: str
    #: what the prototypes are without the branches, (D, K)
    constant: Tensor
    #: τ, None for the inner product
    cosine_scale: float | None

    def prototypes(self, semantic: Tensor | None, spatial: Tensor | None) -> Tensor:
        """(B or 1, D, K) of the centres (B, D, K)."""
        total = self.constant[None]
        for branch, centre in ((self.semantic, semantic), (self.spatial, spatial)):
            if branch is None or centre is None:
                continue
            images = len(centre)
            if branch.hidden is not None:
                weight, offset = (part.expand(images, -1, -1) for part in branch.hidden)
                centre = torch.baddbmm(offset, weight, centre).relu_()
            total = torch.baddbmm(
                total.expand(images, -1, -1), branch.output.expand(images, -1, -1), centre
            )
        if self.cosine_scale is None:
            return total
        # a sum of squares is several times faster than a norm across rows
        squares = total.square().sum(dim=1, keepdim=True).clamp_min_(EPS**2)
        return total * squares.rsqrt_().mul_(self.cosine_scale)


def runs_natively(features: Tensor) -> bool:
    """Whether the kernel can take these features, as far as they decide it."""
    return (
        type(features) is Tensor
        and features.dtype == torch.float32
        and features.device.type == "cpu"
        and features.numel() > 0
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and not torch.is_autocast_enabled("cpu")
        and type(torch.empty(0, device="cpu")) is Tensor
        and kernel_library(kernel="adapted_inference") is not None
    )


def pad_classes(weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """W (K, D) and its bias as :class:`NativeWeights` wants them."""
    missing = -len(weight) % _PAD
    offset = weight.new_zeros(len(weight)) if bias is None else bias
    return F.pad(weight.t(), (0, missing)).contiguous(), F.pad(offset, (0, missing), value=_LOWEST)


def native_logits(features: Tensor, weights: NativeWeights, table: Tensor | None) -> Tensor:
    """O (B, K, h, w) of features S_f (B, D, h, w) for which :func:`runs_natively`.

    Args:
        features: S_f.
        weights: of the classifier.
        table: P_f (1, D, h, w) where it does not depend on the features.
    """
    library = kernel_library(kernel="adapted_inference")
    assert library is not None
    features = features.contiguous()
    (B, D, h, w), K = features.shape, weights.constant.shape[1]
    down = int(library.ssa_rows())
    units = max(1, min(h * w // _UNIT_POSITIONS, _MOST_UNITS))
    task = _Task(features=features.data_ptr(), B=B, D=D, h=h, w=w, K=K, units=units)
    task.Dp, task.Kp = -(-D // down) * down, K + -K % _PAD
    threads = threads_worth(B * K * D * h * w, _THREAD_ELEMENTS)
    if weights.taps is not None:
        task.taps, task.taps_bias = (values.data_ptr() for values in weights.taps)
    elif table is not None:
        table = table.contiguous()
        task.table = table.data_ptr()
    semantic = spatial = None
    if weights.coarse is not None:
        shape = (B, units, task.Dp, task.Kp)
        semantic = features.new_empty(shape if weights.semantic is not None else 0)
        spatial = features.new_empty(shape if weights.spatial is not None else 0)
        moments = features.new_empty(3, B, units, task.Kp)
        task.coarse_weight, task.coarse_bias = (values.data_ptr() for values in weights.coarse)
        task.semantic, task.spatial = semantic.data_ptr(), spatial.data_ptr()
        task.mass, task.highest, task.total = (moment.data_ptr() for moment in moments)
        task.want_semantic = weights.semantic is not None
        if weights.spatial is not None:
            task.want_spatial = {"positions": 1, "classes": 2}[weights.spatial_softmax]
        run_phase(library, task, _CENTRES, threads)
        run_phase(library, task, _COMBINE, 1)
        semantic = semantic[:, 0, :D, :K] if len(semantic) else None
        spatial = spatial[:, 0, :D, :K] if len(spatial) else None
    prototypes = weights.prototypes(semantic, spatial).expand(B, -1, -1).contiguous()
    logits = features.new_empty(B, K, h, w)
    task.cosine = weights.cosine_scale is not None
    task.prototypes, task.logits = prototypes.data_ptr(), logits.data_ptr()
    run_phase(library, task, _DECIDE, threads)
    return logits
