"""Failures that a user meets when planning, running or reading results."""

from __future__ import annotations

from ssa.errors import SsaError, UnknownNameError

__all__ = [
    "CorruptRecordError",
    "NotYetError",
    "RegistryError",
    "SsaError",
    "StoreError",
    "UnclearNameError",
    "UnknownNameError",
]


class RegistryError(SsaError):
    """A declarative file that cannot be read, or two that take the same name."""


class StoreError(SsaError):
    """Results that cannot be written (disk full, no permission)."""


class UnclearNameError(SsaError):
    """A name on the command line that means nothing, or several things; the sentence says which."""


class NotYetError(SsaError):
    """An item of the paper that the registry does not have yet."""


class CorruptRecordError(SsaError):
    """A record that is there but not whole; it is named and made again, never half-read."""
