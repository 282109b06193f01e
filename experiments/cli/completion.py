"""What the Tab key proposes after ``./run_all.sh``, and how a shell is told to ask.

typer answers the question "what fits here". Its own installer takes the program's name for a word
on the search path and for part of a variable's name, which ``./run_all.sh`` is not.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from experiments.declare.metrics import METRICS
from experiments.errors import SsaError

if TYPE_CHECKING:
    from experiments.declare.registry import ExperimentRegistry

#: set by the shell when it asks for proposals
VARIABLE = "_RUN_ALL_SH_COMPLETE"
DOOR = "run_all.sh"

BASH = f"""\
_run_all_sh_completion() {{
    local IFS=$'\\n'
    COMPREPLY=($(env {VARIABLE}=complete_bash COMP_CWORD="$COMP_CWORD" \\
        COMP_WORDS="${{COMP_WORDS[*]}}" "$1" 2>/dev/null))
}}
complete -o default -F _run_all_sh_completion {DOOR}
"""
ZSH = f"""\
#compdef {DOOR}
_run_all_sh_completion() {{
    eval "$(env {VARIABLE}=complete_zsh _TYPER_COMPLETE_ARGS="${{words[1,$CURRENT]}}" \\
        "${{words[1]}}" 2>/dev/null)"
}}
compdef _run_all_sh_completion {DOOR}
"""
FISH = f"""\
function _run_all_sh_completion
    set -l words (commandline -opc)
    env {VARIABLE}=complete_fish _TYPER_COMPLETE_FISH_ACTION=get-args \\
        _TYPER_COMPLETE_ARGS=(commandline -cp) $words[1] 2>/dev/null
end
complete --command {DOOR} --no-files --arguments '(_run_all_sh_completion)'
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


class NoCompletionError(SsaError):
    """A shell that we have no script for."""


class Door(TyperGroup):
    """The verbs, and items as if they were verbs."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """``table8 …`` is ``run table8 …`` also while a line is being completed."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = ["run", *args]
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Verbs and items."""
        found = super().shell_complete(ctx, incomplete)
        if incomplete.startswith("-"):
            return found
        proposal = _proposal_class()
        return found + [proposal(name, help=text) for name, text in items(ctx, incomplete)]


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


def _fitting(pairs: Iterable[tuple[str, str]], incomplete: str) -> Iterator[tuple[str, str]]:
    return ((name, text) for name, text in pairs if name.startswith(incomplete))


def items(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Tables, studies and figures with their titles, and ``all``."""
    registry = _registry(ctx)
    pairs = [(name, table.title) for name, table in registry.tables.items()]
    pairs += [(name, figure.title) for name, figure in registry.figures.items()]
    return list(_fitting([*pairs, ("all", "every table and study")], incomplete))


def tables(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Tables and studies with their titles."""
    pairs = ((name, table.title) for name, table in _registry(ctx).tables.items())
    return list(_fitting(pairs, incomplete))


def rows(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """The rows of the table that stands before on the line."""
    table = _registry(ctx).tables.get((ctx.params or {}).get("table") or "")
    if table is None:
        return []
    return list(_fitting(((row.id, row.label) for row in table.rows), incomplete))


def metrics(incomplete: str) -> list[str]:
    """What a printed cell can be about."""
    return [name for name in METRICS if name.startswith(incomplete)]


def profiles(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Profiles with their titles."""
    pairs = ((name, profile.title) for name, profile in _registry(ctx).profiles.items())
    return list(_fitting(pairs, incomplete))


def models(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Networks with their backbones."""
    pairs = ((n, f"{card.title}, {card.backbone}") for n, card in _registry(ctx).models.items())
    return list(_fitting(pairs, incomplete))


def answer_shells() -> None:
    """Let typer know the shells' ways of asking, if one asks now."""
    if VARIABLE in os.environ:
        from typer.completion import completion_init

        completion_init()


def shell_name() -> str:
    """The shell that this process was called from.

    Raises:
        NoCompletionError: none that we have a script for.
    """
    import shellingham  # of typer

    try:
        name = str(shellingham.detect_shell()[0])
    except shellingham.ShellDetectionFailure:
        name = Path(os.environ.get("SHELL", "unknown")).name
    if name not in SCRIPTS:
        known = ", ".join(SCRIPTS)
        raise NoCompletionError(
            f"There is completion for {known}, but this shell is {name}; start one of them and "
            "give the command again."
        )
    return name


def install(shell: str) -> Path:
    """Write the script of a shell where it is read at its start; returns the script's path."""
    home = Path.home()
    if shell == "fish":
        return _write(home / ".config" / "fish" / "completions" / f"{DOOR}.fish", FISH)
    if shell == "zsh":
        script = _write(home / ".zfunc" / f"_{DOOR}", ZSH)
        _append(home / ".zshrc", "fpath+=~/.zfunc; autoload -Uz compinit; compinit")
        return script
    script = _write(home / ".bash_completions" / f"{DOOR}.bash", BASH)
    _append(home / ".bashrc", f"source '{script}'")
    return script


def _write(path: Path, text: str) -> Path:
    from experiments.files import writing

    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return path


def _append(path: Path, line: str) -> None:
    """Add a line to a start file, once."""
    from experiments.files import writing

    with writing(path):
        text = path.read_text() if path.exists() else ""
        if line not in text.splitlines():
            gap = "\n" if text and not text.endswith("\n") else ""
            path.write_text(f"{text}{gap}{line}\n")
