"""What is said of the numbers of some texts: as stored, or why not."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.markup import escape

from experiments.errors import UnclearNameError
from experiments.files import write_if_changed

Fault = Literal["differs", "nothing stored", "no source", "unclear", "stale"]

MARKDOWN, LATEX = (".md", ".markdown"), (".tex",)
LONGEST_REASON = 160  # characters of why a run is stale


@dataclass(frozen=True)
class Finding:
    """One thing that a text says and the store does not."""

    path: Path
    line: int
    fault: Fault
    text: str  # as it stands
    sentence: str


@dataclass
class Checked:
    """What has been seen of some texts."""

    findings: list[Finding] = field(default_factory=list)
    agreeing: int = 0  # numbers that are as stored
    elsewhere: int = 0  # numbers whose named source cannot be looked up
    rewritten: int = 0  # by fix
    notices: list[str] = field(default_factory=list)  # what could not be compared, and why

    @property
    def exit_code(self) -> int:
        """0: as stored; 3: as stored, some of it stale; 1: anything else."""
        faults = {finding.fault for finding in self.findings}
        return 1 if faults - {"stale"} else 3 if faults else 0


def read_text(path: Path) -> str:
    """A text that can be checked.

    Raises:
        UnclearNameError: it is not there, or neither Markdown nor LaTeX, or not UTF-8.
    """
    if path.suffix not in (*MARKDOWN, *LATEX):
        raise UnclearNameError(f"{path} is neither .md nor .tex; `check` reads these.")
    try:
        return path.read_bytes().decode()
    except OSError as error:
        raise UnclearNameError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UnclearNameError(f"{path} is not UTF-8; save it as that first.") from error


Edit = tuple[int, int, str]  # begin, end, new text


def write_edits(path: Path, text: str, edits: Sequence[Edit]) -> None:
    """Write a text with its edits, which do not overlap.

    Raises:
        StoreError: the disk is full or may not be written.
    """
    for start, end, new in sorted(edits, reverse=True):  # from the last, so that places stay
        text = text[:start] + new + text[end:]
    write_if_changed(path.resolve(), text)


def line_of(text: str, place: int) -> int:
    """The number of the line that holds a place."""
    return text.count("\n", 0, place) + 1


def shortened(reasons: Sequence[str]) -> str:
    """Why runs are stale, in a line."""
    return textwrap.shorten("; ".join(reasons), LONGEST_REASON, placeholder=" …")


def show_checked(console: Console, checked: Checked) -> None:
    """Print what was seen, a line a finding."""

    def line(text: str) -> None:
        console.print(escape(text), soft_wrap=True, emoji=False)  # line :100: is none

    for one in sorted(checked.findings, key=lambda f: (str(f.path), f.line)):
        words = f" {one.text}:" if one.text else ""
        line(f"{one.path}:{one.line}: {one.fault}:{words} {one.sentence}")
    for notice in checked.notices:
        line(notice)
    counts = [f"{checked.agreeing} as stored"]
    for fault in ("differs", "nothing stored", "no source", "unclear", "stale"):
        number = sum(one.fault == fault for one in checked.findings)
        counts += [f"{number} {fault}"] if number else []
    counts += [f"{checked.elsewhere} from elsewhere, not looked up"] if checked.elsewhere else []
    counts += [f"{checked.rewritten} rewritten"] if checked.rewritten else []
    line(", ".join(counts) + ".")
