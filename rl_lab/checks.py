"""Checks of a config's fields, each of which refuses a value in one line that names it and what is allowed."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any

from rl_lab.types import UsageError


def _numbers(config: Any, names: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """Yield the fields that aren't None; a text, or a fraction for an int, is refused."""
    whole = {f.name for f in dataclasses.fields(config) if str(f.type).startswith("int")}
    for name in names:
        value = getattr(config, name)
        if value is not None and not isinstance(value, Integral if name in whole else Real):
            raise UsageError(f"{name} must be a {'whole ' * (name in whole)}number, got {value!r}")
        if value is not None:
            yield name, value


def at_least(config: Any, least: float, *names: str) -> None:
    """Refuse a field below `least`; None passes."""
    for name, value in _numbers(config, names):
        if not value >= least:
            raise UsageError(f"{name} must be at least {least}, got {value}")


def above(config: Any, bound: float, *names: str) -> None:
    """Refuse a field that isn't greater than `bound` (nan included); None passes."""
    for name, value in _numbers(config, names):
        if not value > bound:
            raise UsageError(f"{name} must be greater than {bound}, got {value}")


def within(config: Any, low: float, high: float, *names: str) -> None:
    """Refuse a field outside [low, high]; None passes."""
    for name, value in _numbers(config, names):
        if not low <= value <= high:
            raise UsageError(f"{name} must be between {low} and {high}, got {value}")


def finite(config: Any, *names: str) -> None:
    """Refuse nan and infinities; None passes."""
    for name, value in _numbers(config, names):
        if not math.isfinite(value):
            raise UsageError(f"{name} must be a finite number, got {value}")


def widths(config: Any, *names: str) -> None:
    """Refuse a field that isn't a tuple of whole numbers from 1."""
    for name in names:
        value = getattr(config, name)
        if not isinstance(value, tuple) or not all(isinstance(w, int) and w >= 1 for w in value):
            raise UsageError(f"{name} must be whole numbers from 1, got {value!r}")


def flags(config: Any, *names: str) -> None:
    """Refuse a field that isn't true or false."""
    for name in names:
        value = getattr(config, name)
        if not isinstance(value, bool):
            raise UsageError(f"{name} must be true or false, got {value!r}")


def one_of(config: Any, name: str, allowed: tuple[str, ...]) -> None:
    """Refuse a field that isn't one of the names allowed; None passes."""
    value = getattr(config, name)
    if value is not None and value not in allowed:
        raise UsageError(f"{name} {value!r} is unknown (allowed: {', '.join(allowed)})")


def unknown_name(kind: str, name: str, allowed: list[str]) -> str:
    """Return the one line that says a name is unknown, and which are allowed or close."""
    close = difflib.get_close_matches(name, allowed, n=3)
    hint = f"close: {', '.join(close)}" if close else f"allowed: {', '.join(allowed)}"
    return f"unknown {kind} {name!r} ({hint})"
