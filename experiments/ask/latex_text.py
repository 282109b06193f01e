"""Numbers in LaTeX: commands of ``export --macros``, exported tables, numbers typed by hand."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from experiments.ask.markdown_text import blanked
from experiments.ask.quoted import Quote, is_decimal, is_result, quotes

_COMMENT = re.compile(r"(?<!\\)%.*")
_ELSEWHERE = re.compile(r"(?<!\\)%\s*elsewhere:")
_BODY = r"\{((?:[^{}]|\{[^{}]*\})*)\}"
_INPUT = re.compile(r"\\(?:input|include|subfile)\s*\{([^{}]+)\}")
#: what holds no prose
_NO_PROSE = re.compile(
    r"\\begin\{(verbatim\*?|lstlisting|comment)\}.*?\\end\{\1\}"
    r"|\\(?:url|cite[a-z]*|ref|autoref|label|input|include|includegraphics|usepackage"
    r"|documentclass|bibliography|vspace|hspace|setlength|resizebox|fontsize)\*?"
    r"(?:\[[^\]]*\])*(?:\{[^{}]*\})?",
    re.DOTALL,
)
_TABULAR = re.compile(r"\\begin\{(tabular[a-z*]*)\}.*?\\end\{\1\}", re.DOTALL)
_OF_MIOU = re.compile(r"mIoU|\bgains?\b", re.IGNORECASE)
#: LaTeX's writing of what a text has plainly, each as long as what it stands for
_PLAIN = (("\\%", " %"), ("\\,", "  "), ("~", " "), ("$", " "), ("--", "– "), ("\\pm", "±  "))


@dataclass(frozen=True)
class Defined:
    """A command that a file defines."""

    name: str
    body: str
    start: int  # of the body
    end: int


@dataclass(frozen=True)
class Used:
    """A command that a file uses."""

    name: str
    start: int


@dataclass(frozen=True)
class LatexReading:
    """All that one file says about numbers."""

    defined: tuple[Defined, ...]
    used: tuple[Used, ...]
    inputs: tuple[str, ...]
    unsourced: tuple[Quote, ...]
    elsewhere: int


def read_latex(text: str, prefix: str) -> LatexReading:
    """Find the commands, which begin with ``prefix``, and the numbers of a file."""
    name = rf"\\({prefix}[A-Z][A-Za-z]*)"
    definition = re.compile(rf"\\(?:re)?newcommand\*?\s*\{{?{name}\}}?\s*{_BODY}")
    excused = {number for number, line in enumerate(text.split("\n")) if _ELSEWHERE.search(line)}
    code = blanked(text, _COMMENT)
    definitions = [
        Defined(match[1], match[2], match.start(2), match.end(2))
        for match in definition.finditer(code)
    ]
    bare = blanked(code, definition)
    used = tuple(Used(match[1], match.start()) for match in re.finditer(name, bare))
    inputs = tuple(match[1].strip() for match in _INPUT.finditer(bare))
    plain = blanked(bare, _NO_PROSE)
    for latex, text_of in _PLAIN:
        plain = plain.replace(latex, text_of)
    loose = list(_loose(plain, bare))
    unsourced = [q for q in loose if plain.count("\n", 0, q.start) not in excused]
    elsewhere = len(loose) - len(unsourced)
    return LatexReading(tuple(definitions), used, inputs, tuple(unsourced), elsewhere)


def _loose(plain: str, bare: str) -> Iterator[Quote]:
    """Numbers typed by hand that look like results, or stand in a table about mIoU."""
    tables = [
        (match.start(), match.end())
        for match in _TABULAR.finditer(bare)
        if _OF_MIOU.search(match.group())
    ]
    for quote in quotes(plain):
        in_table = any(start <= quote.start < end for start, end in tables)
        if is_result(quote, plain) or (in_table and is_decimal(quote)):
            yield quote


def input_path(folder: Path, name: str) -> Path | None:
    """The file that ``\\input{name}`` reads, from the folder of the document; None: not here."""
    for path in (folder / name, folder / f"{name}.tex"):
        if path.is_file():
            return path
    return None
