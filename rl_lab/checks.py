"""Checks of a config's fields. Each raises UsageError with one line that names the value and what is allowed."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from numbers import Integral, Real
from typing import Any

import numpy as np

from rl_lab.types import UsageError

MOST_DIGITS = 18  # of whole numbers written as floats: beyond any count, and within 64 bits


def whole_number(text: str) -> int:
    """Return the whole number that a text stands for, such as 100000, 100_000 or 1e5.

    Raises:
        ValueError: it isn't one.
    """
    try:
        return int(text)
    except ValueError:
        pass
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise ValueError(f"{text!r} is not a whole number") from None
    if not number.is_finite() or number.adjusted() > MOST_DIGITS or number != int(number):
        raise ValueError(f"{text!r} is not a whole number")
    return int(number)


def plain_fields(kind: type, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields for a config as it holds them, and as config.json can: in Python's own numbers and tuples.

    Lists and arrays become tuples, numpy's numbers Python's, and whole floats ints where an int is declared.

    Args:
        kind: the config's class, a dataclass.
    """
    whole = _whole_fields(kind)
    return {name: _plain(value, name in whole) for name, value in fields.items()}


def _lists(value: Any) -> Any:
    """Return a value without numpy's numbers and arrays, at any depth; arrays become lists."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, dict):
        return {k: _lists(v) for k, v in value.items()}
    return [_lists(v) for v in value] if isinstance(value, list) else value


def _plain(value: Any, whole: bool = False) -> Any:
    if isinstance(value, np.ndarray | list | tuple):
        parts = value.tolist() if isinstance(value, np.ndarray) else value
        return tuple(map(_plain, parts)) if isinstance(parts, list | tuple) else _plain(parts, whole)
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, dict):  # arguments of an environment, which may want lists
        return {k: _lists(v) for k, v in value.items()}
    if whole and isinstance(value, float) and value.is_integer() and abs(value) <= 10**MOST_DIGITS:
        return int(value)
    return value


def _whole_fields(kind: type) -> set[str]:
    """Return the names of the fields that are declared as int, or as int or None."""
    return {f.name for f in dataclasses.fields(kind) if str(f.type).startswith("int")}


def _numbers(config: Any, names: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """Yield (name, value) of the fields that aren't None.

    Raises:
        UsageError: a value isn't a number, or the field is an int and the value isn't whole.
    """
    whole = _whole_fields(type(config))
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


def show_space(space: Any, most: int = 160) -> str:
    """Return a space in one line of up to `most` characters; a Box of many bounds by its least and greatest."""
    low = getattr(space, "low", None)
    if low is not None and low.size > 2:
        return f"Box({low.min()}, {space.high.max()}, {space.shape}, {space.dtype})"
    text = " ".join(str(space).split())
    return text if len(text) <= most else f"{text[: most - 3]}..."


def unknown_name(kind: str, name: str, allowed: list[str]) -> str:
    """Return the message for an unknown name, with the names that are close to it or all that are allowed."""
    close = difflib.get_close_matches(name, allowed, n=3)
    hint = f"close: {', '.join(close)}" if close else f"allowed: {', '.join(allowed)}"
    return f"unknown {kind} {name!r} ({hint})"
