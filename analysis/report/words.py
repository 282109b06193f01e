"""The words of verdicts and states, each with a shape, so that nothing hangs on colour alone."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Chip:
    """How one word looks."""

    tone: str  # good, fair, bad, plain, faint: a colour of the style sheet
    glyph: str  # stands before the word
    meaning: str  # for the page's key


CHIPS: dict[str, Chip] = {
    "reproduced": Chip("good", "✓", "within the paper’s stated error, or equal to its digits"),
    "agrees": Chip("good", "✓", "with the project’s own shipped run, within noise"),
    "holds": Chip("good", "✓", "the claim’s interval lies on the right side"),
    "within noise": Chip("fair", "≈", "no farther from the paper than seeds differ"),
    "undecided": Chip("fair", "?", "the claim’s interval contains both answers"),
    "above": Chip("bad", "▲", "above the paper by more than noise"),
    "below": Chip("bad", "▼", "below the paper by more than noise"),
    "different": Chip("bad", "≠", "a complexity that is not the printed one"),
    "differs": Chip("bad", "≠", "from the project’s own shipped run, beyond noise"),
    "does not hold": Chip("bad", "✕", "the claim’s interval lies on the wrong side"),
    "failed": Chip("bad", "✕", "the last attempt ended with an error"),
    "not comparable": Chip("plain", "◇", "another size or other data than the paper’s"),
    "not measured": Chip("faint", "○", "nothing has been measured"),
    "missing": Chip("faint", "○", "no run has been made"),
    "blocked": Chip("plain", "■", "cannot be run here; the reason says what mends it"),
    "not reported": Chip("faint", "–", "the paper prints no number"),
    "no reference": Chip("faint", "–", "the project ships no run of this row"),
}

#: states of a row's runs, in the order of the key
STATES: dict[str, Chip] = {
    "measured": Chip("good", "●", "every seed has a record"),
    "partial": Chip("fair", "◐", "some seeds have a record"),
    "stale": Chip("fair", "◍", "made with code that has changed since"),
    "missing": Chip("faint", "○", "not run yet"),
    "failed": Chip("bad", "✕", "the last attempt ended with an error"),
    "blocked": Chip("plain", "■", "cannot be run here as things stand"),
}


def chip_of(word: str) -> Chip:
    """The look of a verdict's word; a plain one for a word that is new."""
    return CHIPS.get(word, Chip("plain", "·", word))
