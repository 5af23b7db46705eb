"""What environments ask of their parameters."""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from typing import Any


def require_whole(name: str, value: Any, low: int, high: int | None = None) -> int:
    """Return a parameter as an integer. Raises ValueError unless it is a whole number in low..high."""
    above = "" if high is None else f" and at most {high}"
    whole = isinstance(value, numbers.Integral)
    if not whole or int(value) < low or (high is not None and int(value) > high):
        raise ValueError(f"{name} {value!r} must be a whole number of at least {low}{above}")
    return int(value)


def require_action(action: Any, count: int) -> int:
    """Return an action as an integer. Raises ValueError unless it is in 0..count - 1."""
    chosen = int(action)
    if not 0 <= chosen < count or chosen != action:
        raise ValueError(f"action {action} must be in 0..{count - 1}")
    return chosen


def require_render_mode(render_mode: str | None, metadata: Mapping[str, Any]) -> str | None:
    """Return a render mode. Raises ValueError for one that isn't among the metadata's."""
    if render_mode is not None and render_mode not in metadata["render_modes"]:
        raise ValueError(f"render_mode {render_mode!r} must be None, 'rgb_array' or 'human'")
    return render_mode
