"""Nested documents as flat ones, and how two of them differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

#: stands for a field that only the other document has
ABSENT = "(none)"
#: levels that are taken apart; what lies deeper is no document of ours
DEEPEST = 64
_DEEPER = "(nested deeper)"


@dataclass(frozen=True)
class Difference:
    """One field that two documents do not share."""

    field: str  # nested path: ``training.optimizer.lr``, ``segmentor.decode_head.in_index.0``
    first: Any  # ABSENT where the first has no such field
    second: Any


def flatten(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every leaf of a document of mappings and lists by its path, joined by dots.

    An empty mapping or list is a leaf, and whatever lies deeper than :data:`DEEPEST`.
    """
    return dict(_leaves(document, prefix, 0))


def _leaves(value: Any, path: str, depth: int) -> Iterator[tuple[str, Any]]:
    if depth > DEEPEST:
        yield path, _DEEPER
        return
    items: list[tuple[str, Any]] = []
    if isinstance(value, Mapping):
        items = [(str(key), part) for key, part in value.items()]
    elif isinstance(value, (list, tuple)):
        items = [(str(index), part) for index, part in enumerate(value)]
    if not items:
        yield path, list(value) if isinstance(value, tuple) else value
    for key, part in items:
        yield from _leaves(part, f"{path}.{key}" if path else key, depth + 1)


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> tuple[Difference, ...]:
    """The fields in which two documents differ, sorted by path."""
    return flat_differences(flatten(first), flatten(second))


def flat_differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> tuple[Difference, ...]:
    """:func:`differences` of documents that are flat already."""
    return tuple(
        Difference(field, first.get(field, ABSENT), second.get(field, ABSENT))
        for field in sorted(first.keys() | second.keys())
        if first.get(field, ABSENT) != second.get(field, ABSENT)
    )
