"""The colours and line styles of agents, the same in every figure of a page."""

from __future__ import annotations

from collections.abc import Sequence

# Okabe and Ito's colours, which are distinct for any colour vision; darkened for white, lightened for black pages.
LIGHT = ("#0072b2", "#d55e00", "#009e73", "#b5508f", "#2a9fd8", "#b07d00")
DARK = ("#4aa8e8", "#ff8a42", "#2fcb9d", "#e89bc8", "#92d6ff", "#ecb92f")
# Lengths of strokes and gaps in line widths; the next one is taken when colours repeat.
DASHES: tuple[tuple[float, ...], ...] = ((), (5, 2), (1, 1.5), (6, 2, 1, 2))


def colour_index(agents: Sequence[str], agent: str) -> int:
    """Return which colour an agent has."""
    return agents.index(agent) % len(LIGHT)


def dash_of(agents: Sequence[str], agent: str) -> tuple[float, ...]:
    """Return an agent's line style, which differs where colours repeat."""
    return DASHES[agents.index(agent) // len(LIGHT) % len(DASHES)]
