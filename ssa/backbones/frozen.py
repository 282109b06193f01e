"""EfficientNet-Lite with its weights as they were loaded: a run trains what stands behind it."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmseg.registry import MODELS
from torch import Tensor

from ssa.backbones.efficientnet_lite import EfficientNetLite
from ssa.backbones.feature_store import FeatureStore, key_of

#: variable of the environment that names the folder features are kept in; unset: none are kept
FOLDER = "SSA_FEATURES"
#: sides of the noise that is looked at to tell how this process computes
_PROBE = (96, 64)


@MODELS.register_module()
class FrozenEfficientNetLite(EfficientNetLite):
    """An EfficientNet-Lite that never learns: no gradients, stored statistics, in training as well.

    Each image is computed by itself, so that its features do not hang on the batch it is in, and
    the same image has the same features in every step of every run. Where ``SSA_FEATURES`` names a
    folder they are looked up there and kept there; without it they are computed each time. Either
    way they are the same bits.

    Args:
        settings: of :class:`ssa.backbones.EfficientNetLite`; no stochastic depth.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.requires_grad_(False)
        self.eval()
        self._opened: tuple[tuple[object, ...], FeatureStore] | None = None

    def train(self, mode: bool = True) -> FrozenEfficientNetLite:
        """Stay as it is; ``mode`` is for what stands behind it."""
        super().train(False)
        return self

    @torch.no_grad()
    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Normalised images (B, 3, H, W) to one map a stage of ``out_stages``."""
        store = None if images.is_meta else self._store(images)
        each = [self._maps(image, store) for image in images.split(1)]
        layout = torch.contiguous_format
        if self.stem.conv.weight.is_contiguous(memory_format=torch.channels_last):
            layout = torch.channels_last
        return tuple(torch.cat(maps).contiguous(memory_format=layout) for maps in zip(*each))

    def _maps(self, image: Tensor, store: FeatureStore | None) -> Sequence[Tensor]:
        """The maps of one image (1, 3, H, W)."""
        if store is None:
            return super().forward(image)
        key = key_of(image)
        found = store.get(key)
        if found is None:
            maps = super().forward(image)
            store.put(key, maps)
            return maps
        return [each.to(image.device) for each in found]

    def _store(self, images: Tensor) -> FeatureStore | None:
        """The store of what this backbone is now, opened anew where its weights have changed."""
        root = os.environ.get(FOLDER)
        if not root:
            return None
        tensors = [*self.parameters(), *self.buffers()]
        now: tuple[object, ...] = (root, images.device, images.dtype, torch.get_num_threads())
        now += tuple((each.data_ptr(), each._version) for each in tensors)
        if self._opened is None or self._opened[0] != now:
            self._opened = (now, FeatureStore(root, self._identity(images)))
        return self._opened[1]

    def _identity(self, images: Tensor) -> str:
        """What decides an image's features beside the image: weights, code, and how it is computed.

        The last is partly named and partly measured, on an image of noise: what is nobody's to list
        (a library's choice of kernels, a processor's instructions, a variable of the environment)
        changes its features as well.
        """
        noise = torch.randn(1, 3, *_PROBE, generator=torch.Generator().manual_seed(0))
        probe = super().forward(noise.to(images))
        state = [*self.named_parameters(), *self.named_buffers()]
        told = {
            "weights": {name: key_of(each) for name, each in state if each.is_floating_point()},
            "code": {name: _source_digest(name) for name in _modules_of(self)},
            "torch": torch.__version__,
            "device": images.device.type,
            "instructions": torch.backends.cpu.get_cpu_capability(),
            "threads": torch.get_num_threads(),
            "channels_last": self.stem.conv.weight.is_contiguous(memory_format=torch.channels_last),
            "noise": [key_of(each) for each in probe],
        }
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _modules_of(network: torch.nn.Module) -> list[str]:
    """The modules of ours that define a network and its layers."""
    classes = {cls for each in network.modules() for cls in type(each).__mro__}
    return sorted(name for name in {cls.__module__ for cls in classes} if name.startswith("ssa."))


def _source_digest(module: str) -> str:
    file = getattr(sys.modules[module], "__file__", None)
    return hashlib.sha256(Path(file).read_bytes() if file else b"").hexdigest()
