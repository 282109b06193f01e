"""The console that everything is printed on; costs a call of the command line nothing but rich."""

from __future__ import annotations

import sys

from rich.console import Console

WIDTH_WITHOUT_TERMINAL = 180


def make_console(*, stderr: bool = False) -> Console:
    """A console that does not fold tables where there is no terminal to fold them for."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else WIDTH_WITHOUT_TERMINAL
    return Console(stderr=stderr, width=width, highlight=False)
