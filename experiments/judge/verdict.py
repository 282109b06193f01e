"""What a measured number says about a reported one, in one word with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from experiments.declare.metrics import Judged

Word = Literal[
    "reproduced",
    "within noise",
    "above",
    "below",
    "different",
    "agrees",
    "differs",
    "not comparable",
    "not reported",
    "no reference",
    "missing",
    "blocked",
    "failed",
    "not measured",
]

#: how often two correct installations are said to differ, at most 1 %: a little less, since a
#: row that deviates otherwise than those that lend may be said to more often
FALSE_ALARMS = 0.008

#: how a metric is judged → what is forgiven, in words; ``{error}``: what the paper states
_TOLERANCES: dict[Judged, str] = {
    "points": "{error}compared in the profile paper only",
    "interval": "a gain is sure where its interval leaves out 0",
    "digits": "the printed digit, or 2 %",
    "ratio": "the printed digit, or 2 %; latency as a ratio only",
    "never": "none: the paper prints no such number",
}


def tolerance_of(judged: Judged, stated_error: float | None) -> str:
    """What is forgiven, in words.

    Args:
        judged: how the metric is.
        stated_error: percent points that the paper says two runs may differ by; None: it does not.
    """
    error = "the noise between seeds; "
    if stated_error is not None:
        error = (
            f"{stated_error:g} points, the paper's stated error, or the noise between seeds where "
            "that is larger; "
        )
    return _TOLERANCES[judged].replace("{error}", error)


@dataclass(frozen=True)
class Verdict:
    """One word and why."""

    word: Word
    reason: str

    def __str__(self) -> str:
        return f"{self.word} ({self.reason})" if self.word in ("not comparable",) else self.word


def against_paper(
    measured: float | None,
    reported: float | None,
    *,
    profile: str,
    comparable: bool,
    noise: float,
    stated_error: float | None = None,
) -> Verdict:
    """Verdict on an mIoU against the paper's.

    Args:
        measured: median over seeds, percent.
        reported: the paper's number, percent.
        profile: its name, for the reason.
        comparable: whether the profile is the paper's own protocol.
        noise: what chance alone explains, percent points.
        stated_error: percent points that the paper says two runs may differ by; None: it does not.
    """
    if reported is None:
        return Verdict("not reported", "the paper prints no number here")
    if measured is None:
        return Verdict("missing", "no run has been made")
    if not comparable:
        return Verdict("not comparable", profile)
    difference = measured - reported
    if stated_error is not None and abs(difference) <= stated_error:
        return Verdict(
            "reproduced", f"|{difference:+.2f}| ≤ {stated_error:g}, the paper's stated error"
        )
    if abs(difference) <= noise:
        return Verdict("within noise", f"|{difference:+.2f}| ≤ {noise:.2f}, noise between seeds")
    word: Word = "above" if difference > 0 else "below"
    return Verdict(word, f"{difference:+.2f} beyond {max(stated_error or 0.0, noise):.2f}")


def against_reference(
    measured: float | None,
    reference: float | None,
    *,
    noise: float | None,
    stated_error: float | None = None,
) -> Verdict:
    """Verdict on an mIoU against the project's own shipped runs of the same profile.

    Args:
        measured: mean over seeds, percent.
        reference: mean of the shipped ones, percent.
        noise: what chance alone explains, percent points; None: nobody knows.
        stated_error: forgiven in any case, as :func:`against_paper`.
    """
    if reference is None:
        return Verdict("no reference", "the project ships no run of this row in this profile")
    if measured is None:
        return Verdict("missing", "no run has been made")
    difference = measured - reference
    tolerance = max(stated_error or 0.0, noise or 0.0)
    means = "means over the seeds"
    if abs(difference) <= tolerance:
        reason = f"|{difference:+.2f}| ≤ {tolerance:.2f}, noise between seeds; {means}"
        return Verdict("agrees", reason)
    if noise is None:
        reason = f"{difference:+.2f}, and one seed each tells nothing of the noise between seeds"
        return Verdict("not comparable", reason)
    return Verdict(
        "differs", f"{difference:+.2f} beyond {tolerance:.2f}, noise between seeds; {means}"
    )


def of_complexity(measured: float | None, reported: float | None, *, digits: int) -> Verdict:
    """Verdict on a parameter or MAC count, printed in the paper with ``digits`` decimals."""
    if reported is None:
        return Verdict("not reported", "the paper prints no number here")
    if measured is None:
        return Verdict("not measured", "no count has been made")
    difference = measured - reported
    if round(measured, digits) == round(reported, digits):
        return Verdict("reproduced", "equal to the printed digit")
    if reported == 0:
        return Verdict("different", f"{difference:+.1f} where the paper prints 0")
    share = abs(difference) / abs(reported)
    if share <= 0.02:
        return Verdict("reproduced", f"{share:.1%} off the printed number")
    return Verdict("different", f"{difference:+.1f}, {share:.0%} off the printed number")
