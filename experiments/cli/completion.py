"""What the Tab key proposes after ``./run_all.sh``, and how a shell is told to ask.

typer answers the question "what fits here". Its own scripts for zsh and fish look the program up on
the search path, where ``./run_all.sh`` is not.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from experiments.declare.metrics import METRICS

if TYPE_CHECKING:
    from experiments.declare.registry import ExperimentRegistry

#: set by the shell when it asks for proposals
VARIABLE = "_RUN_ALL_SH_COMPLETE"
DOOR = "run_all.sh"

#: where each shell reads its start-up commands; the scripts completion.<shell> lie beside this file
START_FILES = {"bash": "~/.bashrc", "zsh": "~/.zshrc", "fish": "~/.config/fish/config.fish"}


def how_to_install() -> str:
    """The line that each shell's start file needs; nobody's start files are written to."""
    lines = (
        f"  in {start:<27} source {shlex.quote(str(Path(__file__).with_suffix('.' + shell)))}"
        for shell, start in START_FILES.items()
    )
    return "\n".join(["Add one line to the start file of your shell:", *lines])


class Door(TyperGroup):
    """The verbs, and items as if they were verbs."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """``table8 …`` is ``run table8 …`` also while a line is being completed."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = ["run", *args]
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Verbs and items."""
        verbs = super().shell_complete(ctx, incomplete)
        if incomplete.startswith("-"):
            return verbs
        proposal = _proposal_class()
        return verbs + [proposal(name, help=text) for name, text in items(ctx, incomplete)]


def _proposal_class() -> Any:
    import importlib

    try:  # newer typers carry a click of their own
        module = importlib.import_module("typer._click.shell_completion")
    except ImportError:
        module = importlib.import_module("click.shell_completion")
    return module.CompletionItem


def _registry(ctx: Any) -> ExperimentRegistry:
    from experiments.declare.load import load_registry

    own = (ctx.params or {}).get("registry") or []
    return load_registry([Path(folder) for folder in own])


Words = Iterable[tuple[str, str]]


def _fitting(words: Words, incomplete: str) -> list[tuple[str, str]]:
    return [(name, text) for name, text in words if name.startswith(incomplete)]


def _proposing(words: Callable[[ExperimentRegistry], Words]) -> Callable[..., Any]:
    """Proposes ``words`` of the registry that the line names, with a text beside each."""

    def propose(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
        return _fitting(words(_registry(ctx)), incomplete)

    return propose


def _titles(declared: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(name, thing.title) for name, thing in declared.items()]


items = _proposing(
    lambda all_: [*_titles(all_.tables), *_titles(all_.figures), ("all", "every table and study")]
)
exported = _proposing(
    lambda all_: [
        *_titles(all_.tables),
        ("all", "every table and study"),
        ("appendix", "of an artefact evaluation"),
    ]
)
tables = _proposing(lambda all_: _titles(all_.tables))
profiles = _proposing(lambda all_: _titles(all_.profiles))
models = _proposing(
    lambda all_: [(n, f"{card.title}, {card.backbone}") for n, card in all_.models.items()]
)


def rows(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """The rows of the table that stands before on the line."""
    table = _registry(ctx).tables.get((ctx.params or {}).get("table") or "")
    if table is None:
        return []
    return _fitting(((row.id, row.label) for row in table.rows), incomplete)


def metrics(incomplete: str) -> list[str]:
    """What a printed cell can be about."""
    return [name for name in METRICS if name.startswith(incomplete)]


def answer_shells() -> None:
    """Let typer know the shells' ways of asking, if one asks now."""
    if VARIABLE in os.environ:
        from typer.completion import completion_init

        completion_init()
