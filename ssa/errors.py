"""The errors a user can cause. Each message says what is wrong, where, and what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

#: what a user can do about an error, where a program around this library has a command for it
Action = Literal[
    "prepare", "verify", "other_results", "from_scratch", "install_weights", "list_models"
]


@dataclass(frozen=True)
class Remedy:
    """What mends an error, as a fact: each program around this library has its own words for it."""

    action: Action
    #: the data set that it is about, or nothing
    subject: str = ""


class SsaError(Exception):
    """Base of every error that a user can cause; its text is one plain sentence or two.

    Args:
        remedy: what a program around this library may add to the text in terms of its commands.
    """

    def __init__(self, *arguments: object, remedy: Remedy | None = None) -> None:
        super().__init__(*arguments)
        self.remedy = remedy


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
