"""Claims and their verdicts as text."""

from __future__ import annotations

import math
from typing import Any

from experiments.judge.claims import ClaimResult
from experiments.judge.hurdles import MOST_SEEDS

#: units of numbers that are printed with their sign
SIGNED = ("points", "points a unit", "rank correlation")


def claims_heading(profile: str, *, sequential: bool = False) -> str:
    """Above a list of claims: what the verdicts are about."""
    added = "; sequential: at whatever number of seeds one stops" if sequential else ""
    return (
        f"Claims, at the size and on the data of profile {profile}; the verdicts hold together, "
        f"5 % for all (Holm{added}; docs/claims.md):"
    )


def show_claim(result: ClaimResult, *, strong: str = "") -> str:
    """``SEPA helps (Table 8): holds, +1.23 points [+0.10, +2.30]; why.``

    Args:
        strong: set around the verdict.
    """
    claim = result.claim
    added = " (sequential)" if result.sequential else ""
    text = f"{claim.text} ({claim.where}): {strong}{result.word}{strong}{added}"
    if result.unit is not None:
        text += f", {show_numbers(result)}"
    reason = result.reason.replace(" -", " −")
    hint = show_outlook(result)
    return f"{text}; {reason}{f'; {hint}' if hint else ''}."


def show_outlook(result: ClaimResult) -> str:
    """About how many more seeds would decide a claim; "" where nobody can say."""
    ahead = result.outlook
    if ahead is None or ahead.more == 0:
        return ""
    if ahead.more:
        seeds = "one more seed" if ahead.more == 1 else f"about {ahead.more} more seeds"
        return f"{seeds} of its rows would decide it if numbers and spread stay"
    if ahead.images is not None:
        wide = f"±{ahead.images:.2f}"
        return f"more seeds would not: the choice of images alone leaves {wide}"
    return f"it would take more than {MOST_SEEDS} seeds if numbers and spread stay"


def show_numbers(result: ClaimResult) -> str:
    """Value, unit and interval."""
    signed = "+" if result.unit in SIGNED else ""
    endless = "never" if result.unit == "share of the iterations" else "∞"
    value, low, high = (
        "never"
        if number is None
        else f"{'-' if number < 0 else ''}{endless}"
        if math.isinf(number)
        else f"{number:{signed}.2f}"
        for number in (result.value, result.low, result.high)
    )
    unit = "" if value == "never" else f" {result.unit}"
    return f"{value}{unit} [{low}, {high}]".replace("-", "−")


def claim_document(result: ClaimResult) -> dict[str, Any]:
    """For JSON; a level that is never reached is null."""
    numbers = {"value": result.value, "low": result.low, "high": result.high}
    return {
        "id": result.claim.id,
        "kind": getattr(result.claim, "kind", None),
        "text": result.claim.text,
        "where": result.claim.where,
        "verdict": result.word,
        "reason": result.reason,
        "unit": result.unit,
        **{name: None if n is None or math.isinf(n) else n for name, n in numbers.items()},
        "seeds": result.num_seeds,
        "p_value": result.p_value,
        **({"sequential": True} if result.sequential else {}),
        "more_seeds_to_decide": result.outlook.more if result.outlook else None,
    }
