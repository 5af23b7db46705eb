"""How numbers and values are written for people, and where a path of a study leads."""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from typing import Any

LONGEST_TEXT = 44  # characters of a value in the table of hyperparameters; longer ones are shortened
HASH = re.compile(r"[0-9a-f]{32,}")
HASH_SHOWN = 12  # characters of a hash


def number(value: float | None) -> str:
    """Format a number for people: counts and thousands without decimals, a dash for None, nan and infinities."""
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0 or isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    if 0 < abs(value) < 1e-3:
        return f"{value:.0e}"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def interval(value: float | None, low: float | None, high: float | None) -> str:
    """Format a number and its interval; the number alone where there is none."""
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return number(value)
    return f"{number(value)} [{number(low)}, {number(high)}]"


def p_text(value: float) -> str:
    """Format a p-value."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.2g}"


def listed(names: list[str]) -> str:
    """Join names to "a", "a and b", or "a, b and c"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def counted(count: int, word: str) -> str:
    """Return "1 seed", "2 seeds"."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def span(numbers: Collection[int], word: str) -> str:
    """Return "2 seeds", or "2 to 5 seeds" where numbers differ."""
    low, high = min(numbers), max(numbers)
    return counted(high, word) if low == high else f"{low:,} to {counted(high, word)}"


def shortened(text: str) -> str:
    """Return a value as its column shows it: the beginning of a hash or of a long text, and an ellipsis."""
    if HASH.fullmatch(text):
        return f"{text[:HASH_SHOWN]}…"
    return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 1].rstrip()}…"


def value_text(value: Any) -> str:
    """Return a hyperparameter as text."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def slug(text: str) -> str:
    """Return a text as a part of a file name or an id: small letters, digits and single hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "x"


def finite(value: Any) -> Any:
    """Return plain numbers with None for nan and infinities, through lists and mappings: what JSON can hold."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return value
