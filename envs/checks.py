"""Checks of parameters and actions, which raise an error of one line."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np


def require_whole(name: str, value: Any, low: int, high: int | None = None) -> int:
    """Return a parameter as an int. Raises ValueError unless it is a whole number in low..high."""
    allowed = f"at least {low}" if high is None else f"at least {low} and at most {high}"
    is_whole = isinstance(value, numbers.Integral)
    if not is_whole or int(value) < low or (high is not None and int(value) > high):
        raise ValueError(f"{name} {value!r} must be a whole number of {allowed}")
    return int(value)


def require_number(name: str, value: Any, allowed: str) -> float:
    """Return a parameter as it is. Raises ValueError, which says what is allowed, unless it is a number."""
    if not isinstance(value, numbers.Real):
        raise ValueError(f"{name} {value!r} must be {allowed}")
    return value  # type: ignore[return-value]


def require_flag(name: str, value: Any) -> bool:
    """Return a parameter as a bool. Raises ValueError unless it is True or False, or one of their numbers."""
    if not isinstance(value, bool | numbers.Integral | np.bool_) or value not in (0, 1):
        raise ValueError(f"{name} {value!r} must be True or False")
    return bool(value)


def require_finite(name: str, value: Any) -> float:
    """Return a parameter as a float. Raises ValueError unless it is a finite number."""
    try:
        number = float(value) if isinstance(value, numbers.Real) else math.nan
    except OverflowError:  # an integer beyond what a float holds
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{name} is {value!r} and must be finite")
    return number


def require_action(action: Any, count: int) -> int:
    """Return an action as an int. Raises ValueError unless it is a whole number in 0..count - 1."""
    chosen = int(action)
    if not 0 <= chosen < count or chosen != action:
        raise ValueError(f"action {action} must be in 0..{count - 1}")
    return chosen


def require_render_mode(render_mode: str | None, metadata: Mapping[str, Any]) -> str | None:
    """Return a render mode. Raises ValueError unless it is None or one of the metadata's "render_modes"."""
    modes = metadata["render_modes"]
    if render_mode is not None and render_mode not in modes:
        allowed = f"{', '.join(['None', *(repr(mode) for mode in modes[:-1])])} or {modes[-1]!r}"
        raise ValueError(f"render_mode {render_mode!r} must be {allowed}")
    return render_mode
