"""The errors a user can cause. Each message says what is wrong, where, and what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SsaError(Exception):
    """Base of every error that a user can cause; its text is one plain sentence or two."""


class UnknownNameError(SsaError, KeyError):
    """A name that is not in a registry; the message proposes the nearest known one."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.kind, self.name, self.known = kind, name, tuple(sorted(known))
        super().__init__(unknown_name_sentence(kind, name, self.known))

    def __str__(self) -> str:  # KeyError would print the repr of its argument
        return str(self.args[0])


class ConfigurationError(SsaError, ValueError):
    """A combination of switches that cannot mean anything."""


def unknown_name_sentence(kind: str, name: str, known: Iterable[str]) -> str:
    """Say that ``name`` is unknown, propose the nearest of ``known`` and list them."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return f"Unknown {kind} '{name}'.{hint} Known: {', '.join(known) or 'none yet'}."
