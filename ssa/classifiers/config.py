"""What the switches of all classifiers have in common; importing it needs no torch."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError
from typing_extensions import Self

from ssa.errors import ConfigurationError, UnknownNameError


class ClassifierConfig(BaseModel):
    """What a classifier's switches have in common: frozen, typed, no unknown fields.

    A preset is a set of field values with a name; it differs from another in nothing else.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: name → field values that differ from the defaults
    presets: ClassVar[dict[str, dict[str, Any]]] = {"default": {}}
    #: the preset that the bare class stands for
    default_preset: ClassVar[str] = "default"

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> Self:
        """Return the preset ``name`` with some fields replaced.

        Raises:
            UnknownNameError: no such preset.
            ConfigurationError: an unknown field, a wrong type or an invalid combination.
        """
        if name not in cls.presets:
            raise UnknownNameError(f"preset of {cls.__name__}", name, cls.presets)
        try:
            return cls(**{**cls.presets[name], **overrides})
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            text = first["msg"].removeprefix("Value error, ")
            raise ConfigurationError(
                f"{cls.__name__}{': field ' + where if where else ''}: {text}"
            ) from None
