"""Failures that a user meets when planning, running or reading results."""

from __future__ import annotations

from ssa.errors import Action, SsaError, UnknownNameError

__all__ = [
    "CorruptRecordError",
    "NotYetError",
    "RegistryError",
    "SsaError",
    "StoreError",
    "UnclearNameError",
    "UnknownNameError",
    "sentence_of",
]

#: the library's remedies in the words of this command line; {} is the remedy's subject
COMMANDS: dict[Action, str] = {
    "prepare": "`./run_all.sh data prepare {} --source DIR` puts it into --data-root.",
    "verify": "`./run_all.sh data verify {}` lists every problem.",
    "other_results": "--results chooses another place.",
    "from_scratch": "--from-scratch starts without them, which is recorded as a deviation.",
    "install_weights": (
        "`.venv/bin/pip install -e '.[{}]'` installs them; --from-scratch starts without them, "
        "which is recorded as a deviation."
    ),
    "list_models": "`./run_all.sh list models` shows those there are.",
}


def sentence_of(error: Exception) -> str:
    """What an error says, and the command that mends it where the library names a remedy."""
    remedy = error.remedy if isinstance(error, SsaError) else None
    command = COMMANDS[remedy.action].format(remedy.subject) if remedy else ""
    return f"{error} {command}".rstrip()


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
