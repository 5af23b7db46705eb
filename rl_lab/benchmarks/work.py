"""A piece of work that both sides do, and how it is timed and reported."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Work:
    """One piece of work, done by the lab and by a peer."""

    work: str
    """What is done, for the row of results."""
    peer: str
    """Name of the peer."""
    ours: Callable[[], float]
    """Does the lab's side once and returns the seconds it took."""
    theirs: Callable[[], float]
    """Does the peer's side once and returns the seconds it took."""
    moved_bytes: float = 0.0
    """Bytes that our side has to read and write at least; 0 if memory isn't the bottleneck."""
    more: Callable[[], dict[str, Any]] = dict
    """Returns further entries of the row; called after all turns."""


def timed(work: Callable[[], Any]) -> float:
    """Do a piece of work and return the seconds it took."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def row(work: str, peer: str, unit: str, ours: float, theirs: float, **more: Any) -> dict[str, Any]:
    """Print and return a row of results; a ratio above 1 means that ours is better."""
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
