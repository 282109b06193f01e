"""Cross-entropy and dice of upsampled logits without the upsampled map.

Three upsampled (B, K, H, W) maps with two losses each dominate the time and memory of a training
step. Here the map exists only a band at a time, and what is kept for the backward pass is the
gradient with respect to the low-resolution logits.

Two executions of the same arithmetic, chosen by one rule: the C kernel for float32 (and, for
tests, float64) tensors on the CPU wherever a C compiler works, whatever the size, because it builds
in under a second, once a machine; banded PyTorch otherwise (other devices, no compiler).
"""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from ssa.errors import SsaError
from ssa.losses.inputs import LabelRangeError, LossInputError, check_range, checked_labels
from ssa.losses.native import kernel_library, run_phase, threads_worth
from ssa.losses.upsampling import Blend, bands, blend

#: output rows of one unit of work in the C kernel
_UNIT_ROWS = 64
#: elements of the (virtual) upsampled map that repay the start of one thread
_THREAD_ELEMENTS = 2_000_000
#: elements of one band in PyTorch on a CPU: fits its cache
_CPU_BAND_ELEMENTS = 1 << 19
#: likewise on other devices: few large kernels
_DEVICE_BAND_ELEMENTS = 1 << 26
#: a softmax's total below which its pixel lies too far under the bound of its logits
_LEAST_TOTAL = 1e-30

_COUNT, _FORWARD, _COLLECT_CE, _COLLECT_DICE = range(4)

_Sums = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


class SecondDerivativeError(SsaError, RuntimeError):
    """The losses keep their gradient, not how it depends on the logits."""

    def __init__(self) -> None:
        super().__init__(
            "The fused losses can be differentiated once; for a gradient penalty or "
            "create_graph=True upsample the logits with torch.nn.functional.interpolate and take "
            "torch's own losses."
        )


class _Task(ctypes.Structure):
    """``Task`` of kernels/upsampled_losses.c, field by field."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("logits", "labels", "y0", "y1", "x0", "x1")),
        *((name, ctypes.c_void_p) for name in ("ly", "lx", "order", "slot", "area", "found")),
        *((name, ctypes.c_void_p) for name in ("ce", "inter", "mass", "on_inter", "on_mass")),
        *((name, ctypes.c_void_p) for name in ("bands", "slopes", "own", "grad")),
        *((name, ctypes.c_int64) for name in ("B", "K", "Kp", "h", "w", "H", "W", "ignore")),
        *((name, ctypes.c_int64) for name in ("unit_rows", "units_per_image", "band_rows")),
        *((name, ctypes.c_int64) for name in ("want_ce", "want_dice", "want_grad")),
    )


def upsampled_loss_sums(
    logits: Tensor,
    labels: Tensor,
    *,
    ignore_index: int,
    align_corners: bool,
    cross_entropy: bool = True,
    dice: bool = True,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sums over all pixels and masks of a batch of upsampled logits, differentiable once.

    Args:
        logits: (B, K, h, w), float32 or float64.
        labels: (B, H, W) or (B, 1, H, W), any integer type; the logits are upsampled
            bilinearly to (H, W).
        ignore_index: label that takes no part.
        align_corners: of the upsampling.
        cross_entropy: whether the first sum is wanted (else 0).
        dice: whether the second sum is wanted (else 0).

    Returns:
        Σ −log softmax(x)_label over valid pixels; Σ over the classes present in each image of
        1 − (2·inter + 1)/(Σσ(x) + area + 1), ignored pixels being negatives; the number of valid
        pixels; and the number of present (image, class) pairs.

    Raises:
        LossInputError: logits and labels do not belong together
            (:func:`ssa.losses.inputs.checked_labels`), or the logits are in half precision.
        LabelRangeError: a label is neither below K nor the ignore value (on the CPU; other devices
            raise their own assertion).
        SecondDerivativeError: in a backward pass with ``create_graph=True``.
    """
    labels = checked_labels(logits, labels, channels=None, ignore_index=ignore_index, name="logits")
    if logits.dtype not in (torch.float32, torch.float64):
        raise LossInputError(
            f"The logits are {logits.dtype}, too coarse for sums over pixels; convert them with "
            ".float()."
        )
    gradient = torch.is_grad_enabled() and logits.requires_grad
    settings = (ignore_index, align_corners, cross_entropy, dice, gradient)
    # a probe that is no plain tensor: within FakeTensorMode only an operator knows its shapes
    if torch.compiler.is_compiling() or type(torch.empty(0, device="cpu")) is not Tensor:
        return _operator(logits, labels, *settings)[:4]
    return _LossSums.apply(logits, labels, settings)


def _sums(
    logits: Tensor,
    labels: Tensor,
    ignore_index: int,
    align_corners: bool,
    cross_entropy: bool,
    dice: bool,
    gradient: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The four sums and the gradients of the first two, empty where not wanted."""
    settings = (ignore_index, align_corners, cross_entropy, dice, gradient)
    if logits.device.type == "cpu":
        library = kernel_library("double" if logits.dtype == torch.float64 else "float")
        if library is not None:
            return _by_kernel(library, logits, labels, *settings)
    return _by_bands(logits, labels, *settings)


def _combine(
    gradients: tuple[Tensor, ...], upstream: tuple[Tensor | None, Tensor | None]
) -> Tensor | None:
    """Gradient of the logits from the kept gradients of the two sums."""
    parts = [
        factor * kept
        for kept, factor in zip(gradients, upstream)
        if factor is not None and len(kept)
    ]
    return sum(parts[1:], parts[0]) if parts else None


class _LossSums(torch.autograd.Function):
    """The sums in eager PyTorch (the operator below would import all of torch.compile)."""

    @staticmethod
    def forward(ctx, logits, labels, settings):  # type: ignore[no-untyped-def]
        *sums, on_ce, on_dice = _sums(logits, labels, *settings)
        ctx.save_for_backward(on_ce, on_dice)
        ctx.mark_non_differentiable(*sums[2:])
        ctx.set_materialize_grads(False)
        return tuple(sums)

    @staticmethod
    def backward(ctx, on_ce, on_dice, *_):  # type: ignore[no-untyped-def]
        # once_differentiable would stay silent where the upstream gradient is a constant
        if torch.is_grad_enabled():
            raise SecondDerivativeError
        return _combine(ctx.saved_tensors, (on_ce, on_dice)), None, None


#: the same as one opaque operator, for torch.compile
_operator = torch.library.custom_op("ssa_seg_lab::upsampled_loss_sums", _sums, mutates_args=())


@_operator.register_fake
def _(
    logits: Tensor,
    labels: Tensor,
    ignore_index: int,
    align_corners: bool,
    cross_entropy: bool,
    dice: bool,
    gradient: bool,
) -> _Sums:
    def scalar(dtype: torch.dtype) -> Tensor:
        return logits.new_empty((), dtype=dtype)

    def kept(wanted: bool) -> Tensor:
        return logits.new_empty(logits.shape if gradient and wanted else 0)

    return (
        *(scalar(logits.dtype), scalar(logits.dtype)),
        *(scalar(torch.int64), scalar(torch.int64)),
        *(kept(cross_entropy), kept(dice)),
    )


def _keep_gradients(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    ctx.save_for_backward(output[4], output[5])
    ctx.set_materialize_grads(False)


def _operator_backward(ctx, on_ce, on_dice, *_):  # type: ignore[no-untyped-def]
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        raise SecondDerivativeError
    return (_combine(ctx.saved_tensors, (on_ce, on_dice)), *([None] * 6))


_operator.register_autograd(_operator_backward, setup_context=_keep_gradients)


def _by_kernel(
    library: ctypes.CDLL,
    logits: Tensor,
    labels: Tensor,
    ignore_index: int,
    align_corners: bool,
    cross_entropy: bool,
    dice: bool,
    gradient: bool,
) -> _Sums:
    """The C kernel; see its head for how it works."""
    logits, labels = logits.contiguous(), labels.to(torch.int32).contiguous()
    (B, K, h, w), (H, W) = logits.shape, labels.shape[1:]
    dtype = logits.dtype
    rows, columns = blend(h, H, align_corners, dtype), blend(w, W, align_corners, dtype)
    per_image = -(-H // _UNIT_ROWS)
    starts = torch.arange(0, H, _UNIT_ROWS, device="cpu")
    ends = (starts + _UNIT_ROWS).clamp_max(H) - 1
    band_rows = int((rows.high[ends] - rows.low[starts]).max()) + 1
    pad = int(library.ssa_pad())
    padded = -(-K // pad) * pad
    units = B * per_image

    # Zeroed, not empty: a unit leaves alone what it has no use for.
    sums = torch.zeros(units, 2, padded, device="cpu", dtype=torch.float64)
    ce_units = torch.zeros(units, device="cpu", dtype=torch.float64)
    order, slot = torch.empty(2, B, K, device="cpu", dtype=torch.int32).unbind()
    area = torch.empty(B, K, device="cpu", dtype=torch.int64)
    found = torch.empty(B, 3, device="cpu", dtype=torch.int64)
    size = units * band_rows * w * padded if gradient else 0
    bands = logits.new_empty(size if cross_entropy else 0)
    slopes, own = logits.new_empty(2, size if dice else 0).unbind()
    on_ce = torch.empty_like(logits) if gradient and cross_entropy else logits.new_empty(0)
    on_dice = torch.empty_like(logits) if gradient and dice else logits.new_empty(0)
    inter, mass = sums[:, 0].contiguous(), sums[:, 1].contiguous()

    task = _Task(
        logits=logits.data_ptr(),
        labels=labels.data_ptr(),
        y0=rows.low.data_ptr(),
        y1=rows.high.data_ptr(),
        x0=columns.low.data_ptr(),
        x1=columns.high.data_ptr(),
        ly=rows.share.data_ptr(),
        lx=columns.share.data_ptr(),
        order=order.data_ptr(),
        slot=slot.data_ptr(),
        area=area.data_ptr(),
        found=found.data_ptr(),
        ce=ce_units.data_ptr(),
        inter=inter.data_ptr(),
        mass=mass.data_ptr(),
        bands=bands.data_ptr(),
        slopes=slopes.data_ptr(),
        own=own.data_ptr(),
        grad=on_ce.data_ptr(),
        B=B,
        K=K,
        Kp=padded,
        h=h,
        w=w,
        H=H,
        W=W,
        ignore=ignore_index,
        unit_rows=_UNIT_ROWS,
        units_per_image=per_image,
        band_rows=band_rows,
        want_ce=cross_entropy,
        want_dice=dice,
        want_grad=gradient,
    )
    threads = _threads(B * K * H * W)
    run_phase(library, task, _COUNT, threads)
    wrong = int(found[:, 1].sum())
    if wrong:
        raise LabelRangeError(wrong, K, ignore_index)
    run_phase(library, task, _FORWARD, threads)
    if gradient and cross_entropy:
        run_phase(library, task, _COLLECT_CE, threads)

    dice_sum = torch.zeros((), device="cpu", dtype=torch.float64)
    if dice:
        place_area = area.gather(1, order.long())
        image_inter = inter.view(B, per_image, padded).sum(1)[:, :K]
        image_mass = mass.view(B, per_image, padded).sum(1)[:, :K]
        present = place_area > 0
        covered = image_mass + place_area + 1
        overlap = 2 * image_inter + 1
        dice_sum = torch.where(present, 1 - overlap / covered, 0).sum()
        if gradient:
            weights = torch.zeros(2, B, padded, device="cpu", dtype=dtype)
            weights[0, :, :K] = torch.where(present, -2 / covered, 0)
            weights[1, :, :K] = torch.where(present, overlap / covered**2, 0)
            task.on_inter, task.on_mass = weights[0].data_ptr(), weights[1].data_ptr()
            task.grad = on_dice.data_ptr()
            run_phase(library, task, _COLLECT_DICE, threads)
    return (
        ce_units.sum().to(dtype),
        dice_sum.to(dtype),
        found[:, 0].sum(),
        found[:, 2].sum(),
        on_ce,
        on_dice,
    )


def _threads(elements: int) -> int:
    """How many threads a map of so many upsampled elements is worth."""
    return threads_worth(elements, _THREAD_ELEMENTS)


def _by_bands(
    logits: Tensor,
    labels: Tensor,
    ignore_index: int,
    align_corners: bool,
    cross_entropy: bool,
    dice: bool,
    gradient: bool,
) -> _Sums:
    """The same in PyTorch: pixel-major bands in one sweep, upsampled by two small matrix products.

    Passes over a band are what it costs. The softmax is taken against the blend of the
    low-resolution maxima, an upper bound that spares the search for each pixel's maximum; and dice
    needs no second sweep, because its gradient is the slope σ(1 − σ), scaled by two numbers of each
    class and image that are known at the end: one for all pixels, one for the class's own.
    """
    (B, K, h, w), (H, W) = logits.shape, labels.shape[1:]
    device, dtype = logits.device, logits.dtype
    on_cpu = device.type == "cpu"
    valid = labels != ignore_index
    check_range(labels, K, ignore_index)
    ids = labels.long().where(valid, 0)
    area = logits.new_zeros(B, K, dtype=torch.float64)
    area.scatter_add_(1, ids.flatten(1), valid.flatten(1).double())
    present = area > 0
    with_ce, with_dice = gradient and cross_entropy, gradient and dice

    budget = _CPU_BAND_ELEMENTS if on_cpu else _DEVICE_BAND_ELEMENTS
    images = min(B, max(1, budget // (H * W * K)))
    height = min(H, max(1, budget // (images * W * K)))
    across, parts, rows, columns = bands((h, w), (H, W), height, align_corners, dtype, device)

    ce = logits.new_zeros((), dtype=torch.float64)
    inter, mass = logits.new_zeros(2, B, K, dtype=torch.float64).unbind()
    # not empty_like: it would keep the logits' layout, and one is filled as a flat map below
    on_ce = logits.new_empty(logits.shape if with_ce else 0)
    on_dice = logits.new_empty(logits.shape if with_dice else 0)
    own_slope = logits.new_empty(ids.shape if with_dice else 0)
    buffers = logits.new_empty(2 if dice else 1, images * height * W * K)

    for start in range(0, B, images):
        of = slice(start, min(start + images, B))
        # (images, h, W, K): upsampled along the row, classes last
        source = torch.einsum("xw,bkhw->bhxk", across, logits[of]).contiguous()
        bound = torch.einsum("xw,bhw->bhx", across, logits[of].amax(dim=1))
        by_ce = torch.zeros_like(source) if with_ce else None
        by_dice = torch.zeros_like(source) if with_dice else None
        for lines, strip, down in parts:
            x = _upsampled(source[:, strip], down, buffers[0])
            label, weight = ids[of, lines, :, None], valid[of, lines, :, None].to(dtype)
            if dice:
                p = torch.sigmoid(x, out=buffers[1][: x.numel()].view_as(x))
                mass[of] += p.sum(dim=(1, 2))
                own = p.gather(3, label).mul_(weight)
                inter[of] += torch.zeros_like(inter[of]).scatter_add_(
                    1, label.flatten(1), own.flatten(1).double()
                )
                if by_dice is not None:
                    own_slope[of, lines] = (own - own * own).squeeze(3)
                    _add_upward(by_dice[:, strip], down, p.addcmul_(p, p, value=-1))
            if cross_entropy:
                shift = (down @ bound[:, strip])[..., None] if on_cpu else x.amax(3, keepdim=True)
                x -= shift
                score = x.gather(3, label)
                total = x.exp_().sum(dim=3, keepdim=True)
                if on_cpu and not bool((total > _LEAST_TOTAL).all()):
                    # corners that are sure of unlike classes: far below the bound, or not finite
                    x = _upsampled(source[:, strip], down, buffers[0])
                    x -= x.amax(3, keepdim=True)
                    score = x.gather(3, label)
                    total = x.exp_().sum(dim=3, keepdim=True)
                ce += ((total.log() - score) * weight).sum(dtype=torch.float64)
                if by_ce is not None:
                    x *= weight / total
                    _add_upward(by_ce[:, strip], down, x.scatter_add_(3, label, -weight))
        for low_resolution, gradients in ((on_ce, by_ce), (on_dice, by_dice)):
            if gradients is not None:
                low_resolution[of] = torch.einsum("xw,bhxk->bkhw", across, gradients)

    dice_sum = torch.zeros_like(ce)
    if dice:
        covered, overlap = mass + area + 1, 2 * inter + 1
        dice_sum = torch.where(present, 1 - overlap / covered, 0).sum()
        if with_dice:
            on_inter = torch.where(present, -2 / covered, 0).to(dtype)
            on_mass = torch.where(present, overlap / covered**2, 0).to(dtype)
            on_dice *= on_mass[:, :, None, None]
            own_slope *= on_inter.gather(1, ids.flatten(1)).view_as(own_slope)
            _spread(own_slope, ids, rows, columns, on_dice)
    return ce.to(dtype), dice_sum.to(dtype), valid.sum(), present.sum(), on_ce, on_dice


def _upsampled(strip: Tensor, down: Tensor, into: Tensor) -> Tensor:
    """Rows (images, H', W, K) of source lines (images, h', W, K), written into a flat buffer."""
    images, _, width, classes = strip.shape
    band = into[: images * len(down) * width * classes].view(images, len(down), width * classes)
    torch.bmm(down.expand(images, -1, -1), strip.flatten(2), out=band)
    return band.unflatten(2, (width, classes))


def _add_upward(strip: Tensor, down: Tensor, band: Tensor) -> None:
    """Add a band's gradient (images, H', W, K) to that of its source lines (images, h', W, K)."""
    strip.flatten(2).baddbmm_(down.t().expand(len(strip), -1, -1), band.flatten(2))


def _spread(values: Tensor, ids: Tensor, rows: Blend, columns: Blend, into: Tensor) -> None:
    """Add values (B, H, W), each of one class, to the four source cells (B, K, h, w) of its pixel.

    Args:
        values: what each pixel adds to its class.
        ids: (B, H, W), the class.
        rows: blend of the rows.
        columns: blend of the columns.
        into: (B, K, h, w), contiguous; changed.
    """
    h, w = into.shape[2:]
    flat = into.view(len(into), -1)
    for row, row_share in ((rows.low, 1 - rows.share), (rows.high, rows.share)):
        line, by_row = row[:, None] * w, values * row_share[:, None]
        for column, column_share in (
            (columns.low, 1 - columns.share),
            (columns.high, columns.share),
        ):
            cell = ids * (h * w) + (line + column)
            flat.scatter_add_(1, cell.flatten(1), (by_row * column_share).flatten(1))
