"""A piece of work and its clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Work:
    """One piece of work, done by us and by a peer; a side returns the seconds it took."""

    work: str
    peer: str
    ours: Callable[[], float]
    theirs: Callable[[], float]
    moved_bytes: float = 0.0
    """That our side reads and writes at the least; 0 where memory is not what bounds it."""
    more: Callable[[], dict[str, Any]] = dict
    """What else the row tells, asked for at the end."""


def timed(work: Callable[[], Any]) -> float:
    """Return the seconds that a piece of work takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def row(work: str, peer: str, unit: str, ours: float, theirs: float, **more: Any) -> dict[str, Any]:
    """Return a row of results; a ratio above 1 says that ours is better."""
    print(
        f"{work}: ours {ours:.4g} {unit}, {peer} {theirs:.4g} {unit}; ratio {theirs / ours:.2f}", flush=True
    )
    return {
        "work": work,
        "peer": peer,
        "unit": unit,
        "ours": ours,
        "theirs": theirs,
        "ratio": theirs / ours,
    } | more
