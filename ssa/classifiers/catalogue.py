"""The names of all classifiers; neither they nor torch are imported before one is asked for.

Planning reads nothing of a classifier but its switches, so those stand in modules of their own,
``<name>_config.py``.
"""

from __future__ import annotations

from typing import Any

from ssa.classifiers.config import ClassifierConfig
from ssa.registry import Registry

#: ours, each in the module of its name
_OURS = ("cac", "dnc", "gmmseg", "protoseg", "softmax", "ssa")

#: every pixel classifier by its name in tables and configs; its values are classes
CLASSIFIERS: Registry[Any] = Registry(
    "classifier", {name: f"{__package__}.{name}" for name in _OURS}
)

#: the switches of ours by the classifier's name
CONFIGS: Registry[type[ClassifierConfig]] = Registry(
    "classifier of ours", {name: f"{__package__}.{name}_config" for name in _OURS}
)


def config_class(name: str) -> type[ClassifierConfig]:
    """The class of a classifier's configuration object; for one of ours, torch is not imported.

    Raises:
        UnknownNameError: no such classifier.
    """
    return CONFIGS[name] if name in CONFIGS else CLASSIFIERS[name].Config
