"""Released checkpoints to ours: whole segmentors (baselines and SSA-Seg) and their backbones.

A released segmentor's ``state_dict`` has the parts ``backbone.*``, ``decode_head.*`` (for a cascade
``decode_head.<stage>.*``) and ``auxiliary_head.*``. Backbone and last head are translated by
:mod:`ssa.released.names`; the classifier's parameters, which released heads mix with their own,
move to ``decode_head.classifier``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ssa.released.keys import RELEASED_TO_SSA, RELEASED_UNUSED
from ssa.released.names import is_unused, translate

#: parts of the wrapping head that a released head keeps among its own
WRAPPER_PARTS = ("guidance.",)


@dataclass(frozen=True)
class KeyMap:
    """Where each released key goes.

    Several released names may share one of ours (AFFormer's shared modules); the last one wins, as
    it does when the released network loads its own file.
    """

    #: released key → ours, in the order of the released file
    ours: dict[str, str]
    #: released keys that have no counterpart
    unused: tuple[str, ...]

    def convert(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The entries of ``state`` under our names; unused ones are left out."""
        return {self.ours[key]: value for key, value in state.items() if key in self.ours}


def map_segmentor_keys(keys: Iterable[str], config: Mapping[str, Any]) -> KeyMap:
    """Map the keys of a released segmentor to those of ours.

    Args:
        keys: the released ``state_dict``'s.
        config: of our segmentor, as :func:`ssa.models.build_segmentor_config` gives it.
    """
    backbone = config["backbone"]["type"]
    heads = config["decode_head"]
    cascade = isinstance(heads, Sequence)
    last = heads[-1] if cascade else heads
    prefix = f"decode_head.{len(heads) - 1}." if cascade else "decode_head."
    head = last["decode_head"]["type"]
    ours: dict[str, str] = {}
    unused: list[str] = []
    for key in keys:
        if key.startswith("backbone."):
            local = key.removeprefix("backbone.")
            if is_unused(local, backbone):
                unused.append(key)
            else:
                ours[key] = f"backbone.{translate(local, backbone)}"
        elif key.startswith(prefix):
            local = key.removeprefix(prefix)
            if local in RELEASED_UNUSED or is_unused(local, head):
                unused.append(key)
            else:
                ours[key] = prefix + _head_key(local, head)
        else:
            ours[key] = key
    return KeyMap(ours, tuple(unused))


def map_backbone_keys(keys: Iterable[str], backbone: str) -> KeyMap:
    """Map the keys of a released backbone (no prefix) of type ``backbone`` to ours."""
    ours: dict[str, str] = {}
    unused: list[str] = []
    for key in keys:
        if is_unused(key, backbone):
            unused.append(key)
        else:
            ours[key] = translate(key, backbone)
    return KeyMap(ours, tuple(unused))


def _head_key(local: str, head: str) -> str:
    if local in RELEASED_TO_SSA:
        return f"classifier.{RELEASED_TO_SSA[local]}"
    translated = translate(local, head)
    return translated if translated.startswith(WRAPPER_PARTS) else f"decode_head.{translated}"
