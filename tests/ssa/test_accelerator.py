"""On a GPU: the same numbers, and a step that waits for nothing.

What waits shows without a GPU as well. On the meta device no value can be read, so ``item()`` or a
mask of unknown size fails there, and a dispatch mode sees each copy between devices.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ssa.classifiers import CLASSIFIERS, PixelClassifier, build_classifier

CHANNELS, NUM_CLASSES = 32, 20
FORMS = [(name, None) for name in CLASSIFIERS] + [("ssa", "full")]
ids = [name if preset is None else f"{name} {preset}" for name, preset in FORMS]


class Copies(TorchDispatchMode):
    """Notes each tensor that is copied from one device to another."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if function.name() == "aten::_to_copy":
            self._note(args[0], kwargs.get("device") or args[0].device)
        elif function.name() == "aten::copy_":
            self._note(args[1], args[0].device)
        return function(*args, **kwargs)

    def _note(self, source: Tensor, target: Any) -> None:
        if torch.device(target).type != source.device.type:
            self.found.append(f"{tuple(source.shape)} from {source.device} to {target}")


def classifier(name: str, preset: str | None) -> PixelClassifier:
    torch.manual_seed(0)
    given = {"preset": preset} if preset else {}
    return build_classifier(name, CHANNELS, NUM_CLASSES, dropout_ratio=0, **given).train()


def batch(device: str) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(2, CHANNELS, 24, 24, generator=generator)
    blocks = torch.randint(0, NUM_CLASSES, (2, 12, 12), generator=generator)
    labels = blocks.repeat_interleave(16, 1).repeat_interleave(16, 2)
    labels[:, :10] = 255
    return features.to(device).requires_grad_(), labels.to(device)


def step(model: PixelClassifier, features: Tensor, labels: Tensor) -> Tensor:
    """One forward and backward pass; the total loss."""
    model.zero_grad(set_to_none=True)
    total = torch.stack([value.sum() for value in model.loss(features, labels).values()]).sum()
    total.backward()
    return total.detach()


@pytest.fixture
def cuda() -> Iterator[str]:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device; on a machine with one: ./run_all.sh test -m gpu")
    yield "cuda"
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize(("name", "preset"), FORMS, ids=ids)
def test_a_step_reads_no_value_and_copies_nothing_between_devices(
    name: str, preset: str | None
) -> None:
    model = classifier(name, preset).to("meta")
    features, labels = batch("meta")
    step(model, features, labels)  # what is made once for these sizes is made here
    with Copies() as copies:
        step(model, features, labels)
    assert copies.found == []


def test_a_copy_between_devices_is_noted() -> None:
    with Copies() as copies:
        torch.ones(3).to("meta")
        torch.ones(3).to(torch.float64)
        torch.empty(3, device="meta").copy_(torch.ones(3))
    assert copies.found == ["(3,) from cpu to meta"] * 2


@pytest.mark.gpu
@pytest.mark.parametrize(("name", "preset"), FORMS, ids=ids)
def test_a_gpu_computes_the_same_waits_for_nothing_and_takes_half_precision(
    name: str, preset: str | None, cuda: str
) -> None:
    """Float32 sums come in another order; TF32 is off by default in torch's matrix products."""
    here = classifier(name, preset)
    there = classifier(name, preset).to(cuda)
    features, labels = batch("cpu")
    moved, moved_labels = batch(cuda)
    total = step(here, features, labels)
    assert torch.allclose(step(there, moved, moved_labels).cpu(), total, rtol=1e-3)
    assert features.grad is not None
    assert moved.grad is not None
    assert (moved.grad.cpu() - features.grad).norm() < 1e-2 * features.grad.norm()

    torch.cuda.set_sync_debug_mode("error")
    step(there, moved, moved_labels)
    torch.cuda.set_sync_debug_mode("default")

    for dtype in (torch.float16, torch.bfloat16):
        moved.grad = None
        with torch.autocast(cuda, dtype=dtype):
            terms = there.loss(moved, moved_labels).values()
        half = torch.stack([value.sum() for value in terms]).sum()
        half.backward()
        assert half.isfinite()
        assert moved.grad is not None
        assert moved.grad.isfinite().all()
