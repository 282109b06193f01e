"""What all declared things share: frozen, and no field that nobody knows."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict


class Declared(BaseModel):
    """Base of all declared things: frozen, no unknown fields."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=()
    )


def plain_name(value: str) -> str:
    """``value`` if it can stand in the name of a file; ValueError if not."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", value):
        raise ValueError(f"the name '{value}' must be letters, digits, _ . - only")
    return value


PlainName = Annotated[str, AfterValidator(plain_name)]


def unless_none(name: str, fields: dict[str, Any]) -> dict[str, Any]:
    """``fields`` without the field ``name`` where it is None.

    For a field that came later than the first runs: their identities must not know of it.
    """
    return {key: value for key, value in fields.items() if key != name or value is not None}
