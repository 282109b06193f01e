"""Numbers in Markdown and where their sources are named: in HTML comments (docs/prose.md)."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from experiments.ask.quoted import Quote, is_decimal, is_result, quotes
from experiments.ask.sources import expand

Kind = Literal["from", "if", "elsewhere"]
KINDS: dict[str, Kind] = {"from": "from", "if": "if", "elsewhere": "elsewhere"}

_COMMENT = re.compile(r"<!--\s*(?:(from|if|elsewhere):\s*)?(.*?)\s*-->", re.DOTALL)
#: what holds no prose: fenced and inline code, targets of links, tags, addresses
_NO_PROSE = re.compile(
    r"^ *(?P<fence>```|~~~)[^\n]*\n.*?^ *(?P=fence)[^\n]*$|(?P<ticks>`+)[^`].*?(?P=ticks)"
    r"|(?<=\])\([^()\s]*(?:\s+\"[^\"]*\")?\)|https?://\S+",
    re.DOTALL | re.MULTILINE,
)
_TAG = re.compile(r"<(?!!--)[^<>\n]*>")
_ITEM = re.compile(r"\s*(?:[-*+]|\d+[.)])\s")
_LINE = re.compile(r"[^\n]*\n|[^\n]+$")
_OF_MIOU = re.compile(r"mIoU|\bgains?\b|\bpoints?\b|\bp\b", re.IGNORECASE)
HIDDEN = "\0"  # stands for each character of a comment
ROW = "row"  # heads the column of a table that names its rows


@dataclass(frozen=True)
class Comment:
    """A comment that says where numbers come from."""

    kind: Kind
    text: str
    start: int
    end: int


@dataclass(frozen=True)
class Sourced:
    """A number and the name of its source."""

    reference: str
    place: int  # in the text, for the line
    quote: Quote | None  # None: a cell of a table that is empty or a dash
    start: int  # what a new text takes the place of
    end: int


@dataclass(frozen=True)
class Wrong:
    """Something that names no source as it should."""

    place: int
    text: str
    sentence: str


@dataclass(frozen=True)
class Condition:
    """A word or number that must be as written for the prose around it to be true."""

    reference: str
    wanted: str
    place: int


@dataclass(frozen=True)
class Reading:
    """All that a text says about numbers."""

    sourced: tuple[Sourced, ...]
    conditions: tuple[Condition, ...]
    unsourced: tuple[Quote, ...]
    elsewhere: int  # numbers whose source is named and cannot be looked up
    wrong: tuple[Wrong, ...]


def read_markdown(text: str) -> Reading:
    """Find the numbers of a text and their sources."""
    prose = blanked(blanked(text, _NO_PROSE), _TAG)
    comments = list(_comments(prose))
    bare = blanked(prose, _COMMENT, HIDDEN)  # a number does not go on behind a comment
    asked = [_condition(comment) for comment in comments if comment.kind == "if"]
    wrong = [each for each in asked if isinstance(each, Wrong)]
    sourced: list[Sourced] = []
    unsourced: list[Quote] = []
    elsewhere = 0
    columns: Comment | None = None  # names the sources of the table that follows
    excused = False  # so does a comment alone that says "elsewhere"
    for start, end in _blocks(bare):
        own = [c for c in comments if start <= c.start < end]
        if _is_blank(bare[start:end]):
            columns = next((c for c in own if c.kind == "from"), columns)
            excused = excused or any(c.kind == "elsewhere" for c in own)
            continue
        block = _read_block(bare, start, end, own, columns)
        sourced += block.sourced
        wrong += block.wrong
        if excused or any(c.kind == "elsewhere" for c in own):
            elsewhere += len(block.unsourced)
        else:
            unsourced += block.unsourced
        columns, excused = None, False
    if columns is not None:
        wrong.append(_lonely(columns))
    conditions = tuple(each for each in asked if isinstance(each, Condition))
    return Reading(tuple(sourced), conditions, tuple(unsourced), elsewhere, tuple(wrong))


def _read_block(
    bare: str, start: int, end: int, own: Sequence[Comment], columns: Comment | None
) -> Reading:
    """A paragraph, an item of a list or a table, with its comments and those of its columns."""
    is_table = bare[start:end].lstrip().startswith("|")
    cells = list(_cells(bare, start, end)) if is_table else [_Cell(start, end, "", "")]
    sourced: list[Sourced] = []
    wrong: list[Wrong] = []
    if columns is not None and is_table:
        sourced, wrong = _by_column(columns, cells, bare, own)
    elif columns is not None:
        wrong = [_lonely(columns)]
    unsourced: list[Quote] = []
    for cell in cells:
        inside = [c for c in own if cell.start <= c.start < cell.end and c.kind == "from"]
        before, bad = _before(inside, bare, cell)
        sourced, wrong = sourced + before, wrong + bad
        claimed = {each.start for each in sourced}
        unsourced += [
            quote
            for quote in quotes(bare, cell.start, cell.end)
            if quote.start not in claimed and _counts(quote, bare, cell)
        ]
    return Reading(tuple(sourced), (), tuple(unsourced), 0, tuple(wrong))


def blanked(text: str, pattern: re.Pattern[str], filler: str = " ") -> str:
    """The text with every match filled up, so that places and lines stay."""
    return pattern.sub(lambda match: re.sub(r"[^\n]", filler, match.group()), text)


def _is_blank(text: str) -> bool:
    return not text.replace(HIDDEN, " ").strip()


def _comments(prose: str) -> Iterator[Comment]:
    for match in _COMMENT.finditer(prose):
        if match.group(1) is not None:
            kind = KINDS[match.group(1)]
            yield Comment(kind, " ".join(match.group(2).split()), match.start(), match.end())


def _condition(comment: Comment) -> Condition | Wrong:
    reference, word, wanted = comment.text.partition(" is ")
    if not word:
        sentence = "write <!-- if: TABLE/ROW/QUANTITY is WORD -->"
        return Wrong(comment.start, comment.text, sentence)
    return Condition(reference.strip(), wanted.strip(), comment.start)


def _lonely(comment: Comment) -> Wrong:
    return Wrong(comment.start, comment.text, "stands alone and no table follows it")


def _blocks(bare: str) -> Iterator[tuple[int, int]]:
    """Paragraphs, items of lists, tables, and comments that stand alone."""
    start, current = 0, ""
    for match in _LINE.finditer(bare):
        kind = _kind_of(match.group())
        if kind == "comment" and current in ("text", "item"):
            kind = "text"  # a comment on a line of its own within a paragraph
        joins = kind == current != "item" or (kind == "text" and current == "item")
        if not joins:
            if match.start() > start:
                yield start, match.start()
            start, current = match.start(), kind
    if start < len(bare):
        yield start, len(bare)


def _kind_of(line: str) -> str:
    if not line.strip():
        return "blank"
    if _is_blank(line):
        return "comment"
    if line.lstrip().startswith("|"):
        return "table"
    return "item" if _ITEM.match(line) or line.startswith("#") else "text"


@dataclass(frozen=True)
class _Cell:
    start: int
    end: int
    heading: str  # of its column
    label: str  # of its row: the text of the first cell
    column: int = 0


def _cells(bare: str, start: int, end: int) -> Iterator[_Cell]:
    """The cells of a pipe table but for its headings."""
    headings: list[str] = []
    for number, match in enumerate(_LINE.finditer(bare, start, end)):
        bars = [m.start() for m in re.finditer(r"(?<!\\)\|", match.group())]
        places = [(match.start() + a + 1, match.start() + b) for a, b in itertools.pairwise(bars)]
        texts = [bare[a:b].replace(HIDDEN, "").strip() for a, b in places]
        if number == 0:
            headings = texts
        elif not all(re.fullmatch(r":?-+:?", text) for text in texts):
            label = label_of(texts[0]) if texts else ""
            for column, (a, b) in enumerate(places):
                heading = headings[column] if column < len(headings) else ""
                yield _Cell(a, b, heading, label, column)


def label_of(cell: str) -> str:
    """A row's printed label without marks of notes and emphasis."""
    plain = cell.replace(HIDDEN, "").replace("**", "").replace("\\|", "|").strip()
    return re.sub(r"(\[\d+\])+$", "", plain).strip()


def _by_column(
    above: Comment, cells: Sequence[_Cell], bare: str, own: Sequence[Comment]
) -> tuple[list[Sourced], list[Wrong]]:
    """``from: row | table8/miou | table8/gain``: a cell is its column's quantity of its row."""
    specs = [spec.strip() for spec in above.text.split("|")]
    sourced, wrong = [], []
    if specs[0] != ROW:
        sentence = f"names a table's columns, the first of which is '{ROW}'"
        return [], [Wrong(above.start, above.text, sentence)]
    for cell in cells:
        spec = specs[cell.column] if cell.column < len(specs) else ""
        itself = any(cell.start <= c.start < cell.end for c in own)
        if cell.column == 0 or not spec or itself or not cell.label:
            continue
        references = [_with_row(each.strip(), cell.label) for each in spec.split(";")]
        inside = list(quotes(bare, cell.start, cell.end))
        text = bare[cell.start : cell.end]
        if not inside and len(references) == 1:
            blank = len(text) - len(text.lstrip())
            begin = cell.start + min(blank, 1)
            stop = max(begin, cell.end - (1 if text.endswith(" ") else 0))
            sourced.append(Sourced(references[0], cell.start, None, begin, stop))
        elif len(inside) != len(references):
            sentence = f"its column names {len(references)} numbers, it has {len(inside)}"
            wrong.append(Wrong(cell.start, text.strip(), sentence))
        else:
            sourced += [
                Sourced(reference, quote.start, quote, quote.start, quote.end)
                for reference, quote in zip(references, inside)
            ]
    return sourced, wrong


def _with_row(spec: str, label: str) -> str:
    table, _, quantity = spec.rpartition("/")
    return f"{table}/{label}/{quantity}"


def _before(
    comments: Sequence[Comment], bare: str, cell: _Cell
) -> tuple[list[Sourced], list[Wrong]]:
    """A comment with N names is about the last N numbers before it, back to the one before."""
    sourced, wrong = [], []
    since = cell.start
    for comment in comments:
        references = [name for part in comment.text.split(";") for name in expand(part)]
        numbers = list(quotes(bare, since, comment.start))
        if len(numbers) < len(references):
            sentence = f"names {len(references)} numbers, before it stand {len(numbers)}"
            wrong.append(Wrong(comment.start, comment.text, sentence))
        else:
            sourced += [
                Sourced(reference, quote.start, quote, quote.start, quote.end)
                for reference, quote in zip(references, numbers[-len(references) :])
            ]
        since = comment.end
    return sourced, wrong


def _counts(quote: Quote, bare: str, cell: _Cell) -> bool:
    """Whether a number without a source is one of ours."""
    if cell.heading and cell.column and _OF_MIOU.search(cell.heading) and is_decimal(quote):
        return True
    return is_result(quote, bare)
