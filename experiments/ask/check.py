"""Whether the numbers of texts are those that are stored (docs/prose.md)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from experiments.ask.check_latex import Document
from experiments.ask.findings import (
    LATEX,
    Checked,
    Edit,
    Fault,
    Finding,
    line_of,
    read_text,
    shortened,
    write_edits,
)
from experiments.ask.markdown_text import Condition, Sourced, read_markdown
from experiments.ask.quoted import agrees, printed, quotes, rewritten
from experiments.ask.sources import SourceError, Sources
from experiments.plan.request import Request
from experiments.show.quantities import Quantity


def check(request: Request, paths: Sequence[Path], *, fix: bool = False) -> Checked:
    """Hold texts against what is stored; nothing is trained and no network is counted.

    Args:
        request: folders, registry, and the profile of names that give none.
        paths: Markdown and LaTeX files; what a LaTeX file reads by \\input is looked at as well.
        fix: write the stored numbers into the texts first.

    Raises:
        UnclearNameError: a file that is not there or is no text of these kinds.
        RegistryError: two rows whose numbers would have one LaTeX command.
        StoreError: a text cannot be written.
    """
    sources, checked = Sources(request), Checked()
    for path in paths:
        text = read_text(path)
        if path.suffix in LATEX:
            Document(path, sources, checked, fix).check()
        else:
            _check_markdown(path, text, sources, checked, fix)
    return checked


def _check_markdown(path: Path, text: str, sources: Sources, checked: Checked, fix: bool) -> None:
    reading = read_markdown(text)
    edits: list[Edit] = []
    stale: dict[tuple[str, ...], int] = {}

    def add(place: int, fault: Fault, words: str, sentence: str) -> None:
        checked.findings.append(Finding(path, line_of(text, place), fault, words, sentence))

    for one in reading.sourced:
        try:
            quantity = sources.quantity(one.reference)
        except SourceError as error:
            add(one.place, "unclear", _words(one), str(error))
            continue
        if quantity.stale:
            stale.setdefault(quantity.stale, one.place)
        problem = _problem(one, quantity)
        if problem is None:
            checked.agreeing += 1
        elif fix and problem[0] == "differs":
            new = rewritten(one.quote, quantity) if one.quote else _filled(text, one, quantity)
            edits.append((one.start, one.end, new))
            checked.agreeing += 1
        else:
            add(one.place, problem[0], _words(one), f"{problem[1]} ({one.reference})")
    for condition in reading.conditions:
        _check_condition(condition, sources, checked, add)
    for wrong in reading.wrong:
        add(wrong.place, "unclear", wrong.text, wrong.sentence)
    for quote in reading.unsourced:
        sentence = "name where it comes from: <!-- from: TABLE/ROW/QUANTITY --> behind it"
        add(quote.start, "no source", quote.words, sentence)
    for reasons, place in stale.items():
        add(place, "stale", "", f"here and further down: {shortened(reasons)}")
    checked.elsewhere += reading.elsewhere
    checked.rewritten += len(edits)
    if edits:
        write_edits(path, text, edits)


def _filled(text: str, one: Sourced, quantity: Quantity) -> str:
    """What goes into an empty cell, a space apart from the bars around it."""
    before = " " if text[one.start - 1] == "|" else ""
    after = " " if text[one.end : one.end + 1] == "|" else ""
    return f"{before}{printed(quantity)}{after}"


def _words(one: Sourced) -> str:
    return one.quote.words if one.quote else "an empty cell"


def _problem(one: Sourced, quantity: Quantity) -> tuple[Fault, str] | None:
    """What is wrong with a number whose source is known; None: nothing."""
    if isinstance(quantity.value, str):
        return "unclear", "a word: write <!-- if: … is WORD -->"
    if quantity.value is None:
        return None if one.quote is None else ("nothing stored", "there is no such number")
    if one.quote is None:
        return "differs", f"stored: {printed(quantity)}"
    if one.quote.low and quantity.low is None:
        return "unclear", "the number has no interval and no range"
    if agrees(one.quote, quantity):
        return None
    return "differs", f"stored: {' '.join(rewritten(one.quote, quantity).split())}"


def _check_condition(
    condition: Condition,
    sources: Sources,
    checked: Checked,
    add: Callable[[int, Fault, str, str], None],
) -> None:
    try:
        quantity = sources.quantity(condition.reference)
    except SourceError as error:
        add(condition.place, "unclear", condition.reference, str(error))
        return
    wanted = next(quotes(condition.wanted), None)
    if isinstance(quantity.value, str):
        as_written = quantity.value == condition.wanted
    else:
        as_written = wanted is not None and agrees(wanted, quantity)
    if as_written:
        checked.agreeing += 1
        return
    sentence = f"the text is written for '{condition.wanted}'; stored: {printed(quantity)}"
    add(condition.place, "differs", condition.reference, f"{sentence}. Write it anew.")
