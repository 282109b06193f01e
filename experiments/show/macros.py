"""One LaTeX command a number of a table, so that a paper quotes what is stored."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from experiments.declare.figure import DEFAULT_PROFILE
from experiments.declare.paper import Paper
from experiments.errors import RegistryError
from experiments.judge.assemble import TableResult
from experiments.show.quantities import Quantity, quantities
from experiments.show.text import escape_latex
from experiments.store.exports import stem_of

MACROS = "-macros"  # end of the file's name

_SMALL = (
    *("Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine"),
    *("Ten", "Eleven", "Twelve", "Thirteen", "Fourteen"),
    *("Fifteen", "Sixteen", "Seventeen", "Eighteen", "Nineteen"),
)
_TENS = ("Twenty", "Thirty", "Forty", "Fifty", "Sixty", "Seventy", "Eighty", "Ninety")


def to_macros(result: TableResult) -> str:
    r"""``\newcommand{\SsaTableEightFullGain}{\ensuremath{+7.58}}``, a line a number.

    A number that is not stored has no command, so LaTeX stops where a paper uses it.

    Raises:
        RegistryError: two rows whose numbers would have one command.
    """
    stem = stem_of(result.table.name, result.profile)
    option = "" if result.profile == DEFAULT_PROFILE else f" --profile {result.profile}"
    lines = [
        f"% Numbers of {result.table.name}, profile {result.profile}. "
        f"In a paper's preamble: \\input{{tables/{stem}{MACROS}}}",
        f"% Written by ./run_all.sh export {result.table.name}{option} --macros; "
        "./run_all.sh check paper.tex compares a text with what is stored.",
        "% A number that is not stored has no command.",
    ]
    for row in result.rows:
        lines += [f"% stale, {row.row.id}: {' '.join(why.split())}" for why in row.stale]
    lines += [rf"\newcommand{{\{name}}}{{{one.text}}}" for name, one in commands(result).items()]
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Command:
    """What a command prints and which number it is."""

    text: str  # LaTeX
    place: str  # full/gain; see :func:`experiments.show.quantities.quantities`
    stale: tuple[str, ...]  # why the runs behind it are older than the code


def commands(result: TableResult) -> dict[str, Command]:
    """The commands of a table by their names, without backslash.

    Raises:
        RegistryError: two rows whose numbers would have one command.
    """
    named: dict[str, Command] = {}
    prefix = macro_prefix(result.table.paper, result.table.name, result.profile)
    for place, quantity in quantities(result).items():
        for end, text in _texts(quantity):
            name = prefix + letters(place) + end
            if name in named:
                raise RegistryError(
                    f"{named[name].place} and {place} of {result.table.name} would both be "
                    f"\\{name} in LaTeX; rename one of the rows."
                )
            named[name] = Command(text, place, quantity.stale)
    return named


def macro_prefix(paper: Paper, table: str, profile: str) -> str:
    """How a table's commands begin: ``SsaTableEight``, ``SsaTableEightCamvid``."""
    return paper.macros + letters(table) + ("" if profile == DEFAULT_PROFILE else letters(profile))


def letters(name: str) -> str:
    """A name in letters alone, as LaTeX takes them: ``ssa-shift-0.3`` → ``SsaShiftZeroPointThree``.

    Numbers up to 99 are words, longer ones are spelled digit by digit.
    """
    parts = re.findall(r"[A-Za-z]+|\d+|\.", name)
    return "".join(_part(part) for part in parts)


def _part(part: str) -> str:
    if part == ".":
        return "Point"
    if not part.isdigit():
        return part[0].upper() + part[1:]
    if len(part) > 2 or (len(part) == 2 and part[0] == "0"):
        return "".join(_SMALL[int(digit)] for digit in part)
    number = int(part)
    if number < len(_SMALL):
        return _SMALL[number]
    return _TENS[number // 10 - 2] + (_SMALL[number % 10] if number % 10 else "")


def _texts(quantity: Quantity) -> Iterator[tuple[str, str]]:
    """The end of a command's name and what it prints: of the number, then of its span."""
    if quantity.value is None:
        return
    if isinstance(quantity.value, str):
        yield "", escape_latex(quantity.value)
        return
    sign = "+" if quantity.signed else ""
    value = f"{quantity.value:{sign}.{quantity.digits}f}"
    yield "", value if value[0].isdigit() else rf"\ensuremath{{{value}}}"
    if quantity.low is None or quantity.high is None:
        return
    low, high = (f"{n:{sign}.{quantity.digits}f}" for n in (quantity.low, quantity.high))
    if quantity.span == "interval":
        yield "Interval", rf"\ensuremath{{[{low}, {high}]}}"
    else:
        yield "Range", f"{low}--{high}"
