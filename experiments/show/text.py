"""Cells as text: pipe tables, booktabs tables, escaping, names of files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

MISSING = "–"

#: where we set a character otherwise than pylatexenc does; without [, ] and | a cell goes wrong
_OUR_LATEX = {
    "–": "--",
    "≤": r"$\le$",
    "×": r"$\times$",
    "→": r"$\rightarrow$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",
    "]": "{]}",
}

#: beside the exports: what their LaTeX needs, and a document around one of them
PREAMBLE = r"""% What the tables in this folder need; in a paper: \input{tables/preamble}
\usepackage{booktabs}
\usepackage{graphicx}
"""
STANDALONE = r"""% One table as a document of its own, in this folder:
%   pdflatex -jobname table08 '\def\tablefile{table08}\input{standalone}'
\documentclass{article}
\input{preamble}
\pagestyle{empty}
\begin{document}
\input{\tablefile}
\end{document}
"""


@dataclass(frozen=True)
class Cell:
    """The text of one cell and how it stands out."""

    text: str
    rest: str = ""  # printed after it, never emphasised
    mark: Literal["", "best", "second"] = ""
    italic: bool = False  # a number that is reported, not ours
    notes: tuple[int, ...] = ()
    arrow: bool = False  # a signed number whose sign LaTeX shows as an arrow

    def __str__(self) -> str:
        return self.text + self.rest + "".join(f"[{number}]" for number in self.notes)


@dataclass(frozen=True)
class Section:
    """A rule between rows, with a heading or without."""

    title: str = ""


def escape_latex(text: str) -> str:
    """Text that LaTeX prints as it stands; ``λ_r`` becomes a symbol with an index."""
    escaped = _encoder().unicode_to_latex(text)
    escaped = re.sub(r"\\ensuremath\{([^{}]*)\}", r"$\1$", escaped)
    return re.sub(r"(\$\\(?:tau|lambda|varphi))\$\\_([a-z])", r"\1_\2$", escaped)


@lru_cache(maxsize=1)
def _encoder() -> Any:
    from pylatexenc.latexencode import (
        RULE_DICT,
        RULE_REGEX,
        UnicodeToLatexConversionRule,
        UnicodeToLatexEncoder,
    )

    ours = {ord(character): latex for character, latex in _OUR_LATEX.items()}
    readable = [(re.compile("[À-ž“”·]"), lambda match: match.group())]  # LaTeX reads them in UTF-8
    return UnicodeToLatexEncoder(
        conversion_rules=[
            UnicodeToLatexConversionRule(RULE_DICT, ours, replacement_latex_protection="none"),
            UnicodeToLatexConversionRule(RULE_REGEX, readable, replacement_latex_protection="none"),
            "defaults",
        ],
        replacement_latex_protection="braces-after-macro",
        unknown_char_policy="keep",
        unknown_char_warning=False,
    )


def with_arrow(signed: str) -> str:
    """``+1.20`` → ``↑1.20``, ``−0.30`` → ``↓0.30``; nothing at 0."""
    if re.fullmatch(r"[+−]0\.?0*", signed.split(" ")[0]):
        return signed[1:]
    arrows = {"+": "↑", "−": "↓"}
    return arrows[signed[0]] + signed[1:] if signed[:1] in arrows else signed


def latex_cell(cell: str | Cell) -> str:
    """A cell as LaTeX: bold best, underlined second, italics for what is reported."""
    if isinstance(cell, str):
        return escape_latex(cell)
    text = escape_latex(with_arrow(cell.text) if cell.arrow else cell.text)
    if cell.mark:
        text = rf"\{'textbf' if cell.mark == 'best' else 'underline'}{{{text}}}"
    text += escape_latex(cell.rest)
    if cell.italic and (cell.text or cell.rest):
        text = rf"\textit{{{text}}}"
    return text + (rf"\textsuperscript{{{','.join(map(str, cell.notes))}}}" if cell.notes else "")


def markdown_cell(cell: str | Cell) -> str:
    """A cell of a pipe table; only italics stand out, so that numbers stay easy to copy."""
    text = str(cell).replace("|", "\\|")
    return f"*{text}*" if isinstance(cell, Cell) and cell.italic and text else text


def markdown_table(
    source: str,
    caption: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str | Cell] | Section],
    alignment: str,
    notes: Sequence[tuple[int, str]],
) -> str:
    """A pipe table with its caption above and its numbered notes below.

    Args:
        alignment: ``l`` or ``r`` a column.
    """
    lines = [f"**{source}.** {caption}", ""]
    lines.append("| " + " | ".join(columns) + " |")
    lines.append("|" + "|".join(" ---: " if side == "r" else " --- " for side in alignment) + "|")
    for row in rows:
        if isinstance(row, Section):
            if row.title:
                lines.append(
                    "| " + " | ".join([f"**{row.title}**"] + [""] * (len(columns) - 1)) + " |"
                )
        else:
            lines.append("| " + " | ".join(map(markdown_cell, row)) + " |")
    if notes:
        lines += ["", *(f"[{number}] {text}  " for number, text in notes)]
    return "\n".join(lines) + "\n"


def latex_table(
    label: str,
    caption: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str | Cell] | Section],
    alignment: str,
    notes: Sequence[tuple[int, str]],
    spans: Sequence[tuple[str, int]] = (),
) -> str:
    """A ``table`` environment with booktabs rules, every text escaped.

    Args:
        label: of ``\\ref{tab:…}``.
        alignment: ``l`` or ``r`` a column.
        spans: headings above the columns, each with the number of columns that it spans.
    """
    lines = [
        "% needs the packages of preamble.tex; standalone.tex prints it alone",
        "\\begin{table}",
        "\\centering",
        f"\\caption{{{escape_latex(caption)}}}",
        f"\\label{{tab:{label}}}",
        "\\resizebox{\\linewidth}{!}{%",
        f"\\begin{{tabular}}{{{alignment}}}",
        "\\toprule",
        *_span_lines(spans),
        _line(columns),
        "\\midrule",
    ]
    for index, row in enumerate(rows):
        if not isinstance(row, Section):
            lines.append(_line(row))
            continue
        if index:
            lines.append("\\midrule")
        if row.title:
            title = escape_latex(row.title)
            lines.append(f"\\multicolumn{{{len(columns)}}}{{l}}{{\\textit{{{title}}}}} \\\\")
    lines += ["\\bottomrule", "\\end{tabular}}"]
    if notes:
        lines.append("\\par\\smallskip\\raggedright\\footnotesize")
    lines += [f"\\textsuperscript{{{n}}} {escape_latex(text)}\\par" for n, text in notes]
    return "\n".join([*lines, "\\end{table}"]) + "\n"


def _line(cells: Sequence[str | Cell]) -> str:
    return " & ".join(map(latex_cell, cells)) + " \\\\"


def _span_lines(spans: Sequence[tuple[str, int]]) -> list[str]:
    if not any(title for title, _ in spans):
        return []
    cells, rules, column = [], [], 1
    for title, width in spans:
        text = escape_latex(title)
        cells.append(f"\\multicolumn{{{width}}}{{c}}{{{text}}}" if title else " & " * (width - 1))
        if title:
            rules.append(f"\\cmidrule(lr){{{column}-{column + width - 1}}}")
        column += width
    return [" & ".join(cells) + " \\\\", " ".join(rules)]
