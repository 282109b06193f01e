"""Numbers as they stand in a text: finding, comparing with a value, writing anew."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from experiments.show.quantities import Quantity

_NUMBER = r"[+−-]?\d+(?:\.\d+)?"
_END = r"(?![\w]|\.\d)"
_BEGIN = r"(?<![\w.+−-])"
_BOUND = rf"(?:{_NUMBER}|[+−-]?∞)"
_INTERVAL = rf"\[\s*(?P<low>{_BOUND}),\s*(?P<high>{_BOUND})\s*\]"
_RANGE = rf"\((?P<least>{_NUMBER})\s*–\s*(?P<most>{_NUMBER})\)"
_UNIT = r"(?:\s*(?:%|percent\b|points?\b)(?:\s+a\s+unit)?|\s+share\s+of\s+the\s+\w+)?"
#: a number, one with its interval or its range, or an interval alone
_QUOTE = re.compile(
    rf"{_BEGIN}(?P<value>{_NUMBER}){_END}(?:{_UNIT}\s*(?:{_INTERVAL}|{_RANGE}))?"
    rf"|{_INTERVAL.replace('?P<', '?P<own_')}"
)
#: names of the groups that hold an interval's or a range's ends
_ENDS = (("low", "high"), ("least", "most"), ("own_low", "own_high"))
#: after, or before, a number that is about segmentation
_UNIT_AFTER = re.compile(r"\s*(?:percent\s+|%\s*)?(?:points?\b|mIoU\b)")
_UNIT_BEFORE = re.compile(
    r"(?:\bmIoU(?:\s+(?:of|is|was|at|to|=))?[\s:=]*|\bp\s*[=<>]\s*)$", re.IGNORECASE
)
_ERROR_AFTER = re.compile(r"\s*(?:±|\\pm\b)\s*\d")

#: half of the last printed digit is forgiven, and what a binary fraction loses
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Quote:
    """One number of a text, with its interval or range where one follows it."""

    text: str  # all of it, as it stands
    start: int  # of it in the text
    value: str = ""  # "": an interval alone
    low: str = ""
    high: str = ""
    low_at: int = 0  # where the ends begin, from ``start``; the value begins there
    high_at: int = 0
    is_interval: bool = False  # in brackets; else a range, or a number alone

    @property
    def end(self) -> int:
        """Behind it in the text."""
        return self.start + len(self.text)

    @property
    def words(self) -> str:
        """The text in one line."""
        return " ".join(self.text.split())


def quotes(text: str, start: int = 0, end: int | None = None) -> Iterator[Quote]:
    """The numbers between two places of a text, in order."""
    for match in _QUOTE.finditer(text, start, len(text) if end is None else end):
        ends = next((pair for pair in _ENDS if match[pair[0]]), None)
        begin = match.start()
        yield Quote(
            text=match.group(),
            start=begin,
            value=match["value"] or "",
            low=match[ends[0]] if ends else "",
            high=match[ends[1]] if ends else "",
            low_at=match.start(ends[0]) - begin if ends else 0,
            high_at=match.start(ends[1]) - begin if ends else 0,
            is_interval=ends is not None and ends != _ENDS[1],
        )


def is_result(quote: Quote, text: str) -> bool:
    """Whether a number without a named source looks like one of ours (docs/prose.md).

    That is: it has a sign and a decimal point, or an interval with one, or stands beside mIoU,
    points, ``p =`` or ``±``. Versions, dates, sizes and counts do not.
    """
    if quote.is_interval:
        return "." in quote.low + quote.high
    signed = quote.value[:1] in "+−-" and "." in quote.value
    after = text[quote.end : quote.end + 24]
    before = text[max(0, quote.start - 16) : quote.start]
    return signed or bool(
        _UNIT_AFTER.match(after) or _ERROR_AFTER.match(after) or _UNIT_BEFORE.search(before)
    )


def is_decimal(quote: Quote) -> bool:
    """Whether it has a decimal point: enough in a column of mIoU."""
    return "." in quote.text


def agrees(quote: Quote, quantity: Quantity) -> bool:
    """Whether what is printed is the stored number, rounded to the digits that are printed."""
    parts = [(quote.value, quantity.value), (quote.low, quantity.low), (quote.high, quantity.high)]
    return all(_is_rounded(text, value) for text, value in parts if text)


def _is_rounded(text: str, value: float | int | str | None) -> bool:
    if value is None or isinstance(value, str):
        return False
    if math.isinf(value):
        return number_of(text) == value
    return abs(number_of(text) - value) <= 0.5 * 10.0 ** -_decimals(text) + _ROUNDING


def number_of(text: str) -> float:
    """``−2.19`` → -2.19, ``+∞`` → inf."""
    return float(text.replace("−", "-").replace("∞", "inf"))


def _decimals(text: str) -> int:
    return len(text.partition(".")[2])


def rewritten(quote: Quote, quantity: Quantity) -> str:
    """The quote with the stored numbers, in the quote's own digits, signs and words."""
    if quote.value and isinstance(quantity.value, str):
        return quote.text
    text, dash = quote.text, "-" if re.search(r"-\d", quote.text) else "−"
    signed = _is_signed([quote.value], quantity.signed)
    ends_signed = _is_signed([quote.low, quote.high], signed)
    parts = [
        (quote.high_at, quote.high, quantity.high, ends_signed),
        (quote.low_at, quote.low, quantity.low, ends_signed),
        (0, quote.value, quantity.value, signed),
    ]
    for place, old, value, sign in parts:  # from the last, so that places stay
        if old and isinstance(value, int | float):
            digits = _decimals(old if "∞" not in old else quote.value)
            new = in_figures(value, f"{'+' if sign else ''}.{digits}f").replace("-", dash)
            text = text[:place] + new + text[place + len(old) :]
    return text


def in_figures(value: float, form: str) -> str:
    """A number in a format; an endless one as ``+∞``."""
    return f"{value:{form}}".replace("inf", "∞")


def _is_signed(parts: list[str], otherwise: bool) -> bool:
    """Whether positive numbers carry a sign; with negative ones alone one cannot tell."""
    if any(part.startswith("+") for part in parts):
        return True
    return otherwise and not any(part[:1].isdigit() for part in parts)


def printed(quantity: Quantity) -> str:
    """A quantity as tables print it: ``+7.58 [+3.39, +11.76]``, ``49.38 (48.52–49.81)``, ``–``."""
    if quantity.value is None or isinstance(quantity.value, str):
        return quantity.value or "–"
    form = f"{'+' if quantity.signed else ''}.{quantity.digits}f"
    text = in_figures(quantity.value, form)
    if quantity.low is not None and quantity.high is not None:
        low, high = in_figures(quantity.low, form), in_figures(quantity.high, form)
        text += f" [{low}, {high}]" if quantity.span == "interval" else f" ({low}–{high})"
    return text.replace("-", "−")
