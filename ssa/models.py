"""From a declarative model file to a network: one pure function, one that builds.

A model file states an mmsegmentation segmentor at the paper's size; everything else (a smaller
size, another classifier, the number of classes) is an override of that tree. The key ``wrapper`` of
a decode head names the head that holds the classifier where it is not ``ClassifierHead``.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssa.errors import ConfigurationError, Remedy, UnknownNameError
from ssa.network_check import check_network

if TYPE_CHECKING:
    from torch import nn

#: the size that a model file states in full; the others are overrides of it
PAPER_SIZE = "paper"
#: the classifier that every network had originally
BASELINE_CLASSIFIER = "softmax"
#: what stands in its place for a mask classifier
NO_CLASSIFIER = "none"


def load_model_card(path: Path) -> dict[str, Any]:
    """Read one declarative model file (YAML).

    Raises:
        ConfigurationError: no such file, it cannot be read, is no mapping with a segmentor, or
            names code where a registered class belongs.
    """
    if not path.is_file():
        raise ConfigurationError(f"There is no model file {path}.", remedy=Remedy("list_models"))
    import yaml  # of the extra mmseg; everything else here takes what was read already

    try:
        card = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise ConfigurationError(f"The model file {path} cannot be read: {first}.") from None
    if not isinstance(card, dict) or not isinstance(card.get("segmentor"), dict):
        raise ConfigurationError(f"The model file {path} has no 'segmentor' section; add one.")
    try:
        return check_network(card)
    except ValueError as error:
        raise ConfigurationError(f"The model file {path}: {error}.") from None


def merge(base: Any, override: Any) -> Any:
    """``override`` laid over ``base``: mappings merge key by key, everything else is replaced."""
    if not (isinstance(base, Mapping) and isinstance(override, Mapping)):
        return copy.deepcopy(override)
    merged = {key: copy.deepcopy(value) for key, value in base.items() if key not in override}
    merged |= {key: merge(base.get(key), value) for key, value in override.items()}
    return merged


def build_segmentor_config(
    card: Mapping[str, Any],
    *,
    classifier: Mapping[str, Any],
    num_classes: int,
    size: str = PAPER_SIZE,
    model_overrides: Mapping[str, Any] | None = None,
    sync_norm: bool = False,
) -> dict[str, Any]:
    """The mmsegmentation config of ``card`` with one classifier behind its last decode head.

    Args:
        card: a model file's content.
        classifier: ``name``, ``preset``, ``overrides`` as
            :func:`ssa.classifiers.build_classifier` takes them; a card with
            ``pixel_classifier: false`` (a mask classifier) leaves them aside.
        num_classes: K, written into every head.
        size: ``"paper"`` or a name in the card's ``sizes``.
        model_overrides: a tree laid over the segmentor last.
        sync_norm: keep SyncBN as the paper has it; False turns it to BN (one process).

    Raises:
        UnknownNameError: the card has no such size.
    """
    config = copy.deepcopy(dict(card["segmentor"]))
    if size != PAPER_SIZE:
        sizes = card.get("sizes") or {}
        if size not in sizes:
            raise UnknownNameError(f"size of {card['name']}", size, [PAPER_SIZE, *sizes])
        config = merge(config, sizes[size])
    if classifier["name"] not in (BASELINE_CLASSIFIER, NO_CLASSIFIER):
        config = merge(config, card.get("adapted") or {})
    config = merge(config, model_overrides or {})
    heads = config["decode_head"]
    if not card.get("pixel_classifier", True):  # a mask classifier decides by itself
        config["decode_head"] = heads | {"num_classes": num_classes}
    elif isinstance(heads, Sequence):
        *first, last = heads
        config["decode_head"] = [
            *(head | {"num_classes": num_classes} for head in first),
            _with_classifier(last, classifier, num_classes),
        ]
    else:
        config["decode_head"] = _with_classifier(heads, classifier, num_classes)
    if auxiliary := config.get("auxiliary_head"):
        several = auxiliary if isinstance(auxiliary, list) else [auxiliary]
        several = [head | {"num_classes": num_classes} for head in several]
        config["auxiliary_head"] = several if isinstance(auxiliary, list) else several[0]
    return config if sync_norm else _without_sync(config)


def build_segmentor(
    card: Mapping[str, Any],
    *,
    classifier: Mapping[str, Any],
    num_classes: int,
    size: str = PAPER_SIZE,
    model_overrides: Mapping[str, Any] | None = None,
    sync_norm: bool = False,
) -> nn.Module:
    """Build the network of :func:`build_segmentor_config`; its weights are not initialised yet.

    Inside :func:`ssa.meta.meta_device` nothing is allocated.
    """
    # imported here: planning resolves configs by the hundred and must not wait for mmsegmentation
    from mmengine.config import ConfigDict
    from mmengine.registry import DefaultScope
    from mmseg.models import segmentors as _segmentors  # noqa: F401  registers EncoderDecoder
    from mmseg.registry import MODELS

    import ssa.backbones
    import ssa.heads
    import ssa.mask_classifiers  # noqa: F401  all register what mmsegmentation lacks

    config = build_segmentor_config(
        card,
        classifier=classifier,
        num_classes=num_classes,
        size=size,
        model_overrides=model_overrides,
        sync_norm=sync_norm,
    )
    with DefaultScope.overwrite_default_scope("mmseg"):
        # mmsegmentation reads some settings as attributes
        return MODELS.build(ConfigDict(config))


def _with_classifier(
    head: Mapping[str, Any], classifier: Mapping[str, Any], num_classes: int
) -> dict[str, Any]:
    inner = dict(head) | {"num_classes": num_classes}
    return {
        "type": inner.pop("wrapper", "ClassifierHead"),
        "decode_head": inner,
        "classifier": copy.deepcopy(dict(classifier)),
    }


def _without_sync(config: Any) -> Any:
    if isinstance(config, dict):
        changed = {key: _without_sync(value) for key, value in config.items()}
        return changed | {"type": "BN"} if config.get("type") == "SyncBN" else changed
    if isinstance(config, list):
        return [_without_sync(value) for value in config]
    return config
