"""A classifier by its name, with a sentence for every setting that it does not have."""

from __future__ import annotations

import difflib
from typing import Any

from ssa.classifiers import base
from ssa.classifiers.base import PixelClassifier
from ssa.classifiers.catalogue import config_class
from ssa.errors import ConfigurationError, UnknownNameError

HEAD_SETTINGS = ("dropout_ratio", "ignore_index", "align_corners")


def build_classifier(
    name: str,
    channels: int,
    num_classes: int,
    *,
    preset: str | None = None,
    overrides: dict[str, Any] | None = None,
    **head_settings: Any,
) -> PixelClassifier:
    """Build the classifier ``name`` from one of its presets with some switches changed.

    Args:
        name: a name in :data:`CLASSIFIERS`.
        channels: D.
        num_classes: K.
        preset: None is the class's default preset.
        overrides: configuration fields that differ from the preset.
        head_settings: ``dropout_ratio``, ``ignore_index``, ``align_corners``.

    Raises:
        UnknownNameError: no such classifier or preset.
        ConfigurationError: no such setting or field, or an invalid combination.
    """
    fields = config_class(name).model_fields
    for setting in head_settings:
        if setting not in HEAD_SETTINGS:
            near = difflib.get_close_matches(setting, fields, n=1, cutoff=0.8)
            if near:
                raise ConfigurationError(
                    f"The classifier '{name}' takes its switches as overrides, not '{setting}'; "
                    f"did you mean overrides={{'{near[0]}': …}}?"
                )
            known = (*HEAD_SETTINGS, "preset", "overrides")
            raise ConfigurationError(
                str(UnknownNameError(f"setting of the classifier '{name}'", setting, known))
            )
    for field in overrides or {}:
        if field not in fields:
            raise ConfigurationError(
                str(UnknownNameError(f"override of the classifier '{name}'", field, fields))
            )
    return base.build_classifier(
        name, channels, num_classes, preset=preset, overrides=overrides, **head_settings
    )
