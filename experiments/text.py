"""Cells as text: pipe tables, booktabs tables, escaping, names of files."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pandas as pd

MISSING = "–"

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "–": "--",
    "−": "$-$",
    "≤": r"$\le$",
    "≠": r"$\neq$",
    "×": r"$\times$",
    "τ": r"$\tau$",
    "λ": r"$\lambda$",
    "φ": r"$\varphi$",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",
    "]": "{]}",
}


def escape_latex(text: str) -> str:
    """Text that LaTeX prints as it stands."""
    return "".join(_LATEX.get(character, character) for character in text)


def table_stem(name: str) -> str:
    """``table8`` → ``table08``; other names stay."""
    match = re.fullmatch(r"table(\d{1,2})", name)
    return f"table{int(match.group(1)):02d}" if match else name


def markdown_table(
    source: str,
    caption: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
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
    lines += ["| " + " | ".join(c.replace("|", "\\|") for c in row) + " |" for row in rows]
    if notes:
        lines += ["", *(f"[{number}] {text}  " for number, text in notes)]
    return "\n".join(lines) + "\n"


def latex_table(
    label: str,
    caption: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    alignment: str,
    notes: Sequence[tuple[int, str]],
) -> str:
    """A ``table`` environment with booktabs rules, every text escaped.

    Args:
        label: of ``\\ref{tab:…}``.
        alignment: ``l`` or ``r`` a column.
    """
    frame = pd.DataFrame([[escape_latex(cell) for cell in row] for row in rows])
    frame.columns = pd.Index([escape_latex(name) for name in columns])
    body = frame.style.hide(axis="index").to_latex(hrules=True, column_format=alignment)
    lines = [
        "% needs \\usepackage{booktabs,graphicx}",
        "\\begin{table}",
        "\\centering",
        f"\\caption{{{escape_latex(caption)}}}",
        f"\\label{{tab:{label}}}",
        "\\resizebox{\\linewidth}{!}{%",
        body.rstrip().replace("\\end{tabular}", "\\end{tabular}}"),
        *(["\\par\\smallskip\\raggedright\\footnotesize"] if notes else []),
        *(f"[{n}] {escape_latex(text)}\\par" for n, text in notes),
        "\\end{table}",
    ]
    return "\n".join(lines) + "\n"
