"""Checks of a config's fields. Each raises UsageError with one line that names the value and what is allowed."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any

from rl_lab.types import UsageError


def _numbers(config: Any, names: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """Yield (name, value) of the fields that aren't None.

    Raises:
        UsageError: a value isn't a number, or the field is an int and the value isn't whole.
    """
    whole = {f.name for f in dataclasses.fields(config) if str(f.type).startswith("int")}
    for name in names:
        value = getattr(config, name)
        if value is not None and not isinstance(value, Integral if name in whole else Real):
            raise UsageError(f"{name} must be a {'whole ' * (name in whole)}number, got {value!r}")
        if value is not None:
            yield name, value


def at_least(config: Any, least: float, *names: str) -> None:
    """Raise UsageError where a field is below `least`; None passes."""
    for name, value in _numbers(config, names):
        if not value >= least:
            raise UsageError(f"{name} must be at least {least}, got {value}")


def above(config: Any, bound: float, *names: str) -> None:
    """Raise UsageError where a field isn't greater than `bound` (so for nan too); None passes."""
    for name, value in _numbers(config, names):
        if not value > bound:
            raise UsageError(f"{name} must be greater than {bound}, got {value}")


def within(config: Any, low: float, high: float, *names: str) -> None:
    """Raise UsageError where a field is outside [low, high]; None passes."""
    for name, value in _numbers(config, names):
        if not low <= value <= high:
            raise UsageError(f"{name} must be between {low} and {high}, got {value}")


def finite(config: Any, *names: str) -> None:
    """Raise UsageError where a field is nan or infinite; None passes."""
    for name, value in _numbers(config, names):
        if not math.isfinite(value):
            raise UsageError(f"{name} must be a finite number, got {value}")


def widths(config: Any, *names: str) -> None:
    """Raise UsageError where a field isn't a tuple of whole numbers from 1."""
    for name in names:
        value = getattr(config, name)
        if not isinstance(value, tuple) or not all(isinstance(w, int) and w >= 1 for w in value):
            raise UsageError(f"{name} must be whole numbers from 1, got {value!r}")


def flags(config: Any, *names: str) -> None:
    """Raise UsageError where a field isn't true or false."""
    for name in names:
        value = getattr(config, name)
        if not isinstance(value, bool):
            raise UsageError(f"{name} must be true or false, got {value!r}")


def one_of(config: Any, name: str, allowed: tuple[str, ...]) -> None:
    """Raise UsageError where a field isn't one of the allowed names; None passes."""
    value = getattr(config, name)
    if value is not None and value not in allowed:
        raise UsageError(f"{name} {value!r} is unknown (allowed: {', '.join(allowed)})")


def show_space(space: Any) -> str:
    """Return a space in one line; a Box of many bounds by its least and greatest."""
    low = getattr(space, "low", None)
    if low is not None and low.size > 2:
        return f"Box({low.min()}, {space.high.max()}, {space.shape}, {space.dtype})"
    return " ".join(str(space).split())


def unknown_name(kind: str, name: str, allowed: list[str]) -> str:
    """Return the message for an unknown name, with the names that are close to it or all that are allowed."""
    close = difflib.get_close_matches(name, allowed, n=3)
    hint = f"close: {', '.join(close)}" if close else f"allowed: {', '.join(allowed)}"
    return f"unknown {kind} {name!r} ({hint})"
