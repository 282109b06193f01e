"""The deployed SSA classifier in C: two sweeps over the features, no map in between.

``kernels/adapted_inference.c`` says how it works; ``SSAClassifier._decide`` is the reference, and
what runs wherever there is no C compiler, another device, another precision, a gradient, autocast,
or a trace (ONNX, ``torch.export``, ``torch.compile``).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ssa.losses.native import kernel_library, run_phase, threads_worth
from ssa.losses.precision import EPS

_CENTRES, _COMBINE, _DECIDE = range(3)
#: multiplications of one product that repay the start of one thread
_THREAD_ELEMENTS = 10_000_000
#: positions of one unit of work, and the most units of one image: each has sums of its own
_UNIT_POSITIONS, _MOST_UNITS = 1024, 8
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
class Parts:
    """What the kernel needs to know of a classifier."""

    #: W (K, D) and its bias (K,), None where no coarse mask is read
    coarse: tuple[Tensor, Tensor | None] | None
    #: the depth-wise convolution's weight (D, 1, 3, 3) and bias (D,), if that encodes positions
    taps: tuple[Tensor, Tensor] | None
    #: P_f (1, D, h, w), where it does not depend on the features
    table: Tensor | None
    #: whether S_c is wanted
    semantic: bool
    #: the softmax behind P_c, None where P_c is not wanted
    spatial: str | None
    #: τ, None for the inner product
    cosine_scale: float | None
    #: S_c and P_c, each (B, K, D) or None, to the prototypes (B or 1, K, D)
    adapt: Callable[[Tensor | None, Tensor | None], Tensor]


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


def native_logits(features: Tensor, parts: Parts) -> Tensor:
    """O (B, K, h, w) of features S_f (B, D, h, w) for which :func:`runs_natively`."""
    library = kernel_library(kernel="adapted_inference")
    assert library is not None
    features = features.detach().contiguous()
    (B, D, h, w), prototypes = features.shape, None
    pad, down = int(library.ssa_pad()), int(library.ssa_rows())
    task = _Task(features=features.data_ptr(), B=B, D=D, h=h, w=w)
    # what the task points to must live as long as it
    kept: list[Tensor] = []

    def pointer(values: Tensor) -> int:
        values = values.detach().float().contiguous()
        kept.append(values)
        return values.data_ptr()

    if parts.taps is not None:
        task.taps, task.taps_bias = (pointer(values) for values in parts.taps)
    elif parts.table is not None:
        task.table = pointer(parts.table)
    if parts.coarse is None:
        prototypes = parts.adapt(None, None)
    else:
        weight, bias = parts.coarse
        K = weight.shape[0]
        padded = -(-K // pad) * pad
        task.K, task.Kp, task.Dp = K, padded, -(-D // down) * down
        units = max(1, min(h * w // _UNIT_POSITIONS, _MOST_UNITS))
        task.units = units
        task.coarse_weight = pointer(F.pad(weight.detach().t(), (0, padded - K)))
        offset = weight.new_zeros(K) if bias is None else bias.detach()
        task.coarse_bias = pointer(F.pad(offset, (0, padded - K), value=_LOWEST))
        shape = (B, units, task.Dp, padded)
        semantic = features.new_empty(shape if parts.semantic else 0)
        spatial = features.new_empty(shape if parts.spatial else 0)
        task.semantic, task.spatial = pointer(semantic), pointer(spatial)
        task.mass, task.highest, task.total = (
            pointer(moment) for moment in features.new_empty(3, B, units, padded)
        )
        task.want_semantic = parts.semantic
        task.want_spatial = {None: 0, "positions": 1, "classes": 2}[parts.spatial]
        threads = threads_worth(B * K * D * h * w, _THREAD_ELEMENTS)
        run_phase(library, task, _CENTRES, threads)
        run_phase(library, task, _COMBINE, 1)

        def centre(sums: Tensor) -> Tensor | None:
            return sums[:, 0, :D, :K].transpose(1, 2) if len(sums) else None

        prototypes = parts.adapt(centre(semantic), centre(spatial))
    if parts.cosine_scale is not None:
        prototypes = F.normalize(prototypes, dim=-1, eps=EPS) * parts.cosine_scale
    K = prototypes.shape[1]
    logits = features.new_empty(B, K, h, w)
    task.K, task.cosine = K, parts.cosine_scale is not None
    if parts.coarse is None:
        task.Kp, task.Dp, task.units = pad, -(-D // down) * down, 1
    task.prototypes, task.logits = pointer(prototypes.expand(B, -1, -1)), logits.data_ptr()
    run_phase(library, task, _DECIDE, threads_worth(B * K * D * h * w, _THREAD_ELEMENTS))
    return logits
