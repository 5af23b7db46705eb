"""How much memory least squares takes, predicted before anything is allocated."""

from __future__ import annotations

from rl_lab.replay.footprint import MEMORY_SHARE, free_memory

from .features import Features, Tiles

NUMBER = 8  # bytes of a float64 or int64


def sample_bytes(features: Features, num_actions: int) -> int:
    """Return the bytes that each stored step takes at most: its columns, and what is made of it while solving."""
    entries = features.width * (
        1 if features.width == features.count else 2
    )  # sparse ones have their place, too
    stored = 2 * features.dimensions + num_actions + 3
    places = 3 * features.width * features.dimensions if isinstance(features, Tiles) else 0
    making = places + 3 * features.width  # of one side's features
    solving = (
        4 * entries + 4 * num_actions + 8
    )  # copies for one action, the next policy, and which rows count
    return NUMBER * (stored + 2 * entries + max(making, solving))


def system_bytes(features: Features, num_actions: int) -> int:
    """Return the bytes of the system of equations and of what is made of it while it is solved."""
    return NUMBER * (2 * (features.count * num_actions) ** 2 + 2 * features.count**2)


def refuse_oversize(capacity: int, features: Features, num_actions: int) -> str | None:
    """Return why samples, features and system would take too much memory (one line), or None if they wouldn't."""
    fixed, each = system_bytes(features, num_actions), sample_bytes(features, num_actions)
    allowed = MEMORY_SHARE * free_memory()
    if (needed := fixed + each * capacity) <= allowed:
        return None
    fits = max(0, int((allowed - fixed) // each))
    more = (
        ""
        if fits
        else f"; the system of {features.count * num_actions} weights alone takes {fixed / 1e9:.1f} GB"
    )
    return f"capacity {capacity} would need {needed / 1e9:.1f} GB (allowed: up to {fits}{more})"
