"""Checks of a config's fields. Each raises UsageError with one line that names the value and what is allowed."""

from __future__ import annotations

import dataclasses
import difflib
import math
import os
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from functools import cache
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

    Lists and arrays become tuples, numpy's numbers Python's, paths text, and whole floats ints where an int is
    declared.

    Args:
        kind: the config's class, a dataclass.

    Raises:
        UsageError: a list or dict that holds itself.
    """
    whole = _whole_fields(kind)
    plain = {}
    for name, value in fields.items():
        try:
            plain[name] = plain_value(value, name in whole)
        except RecursionError:
            raise UsageError(f"{name} is nested too deeply, or holds itself") from None
    return plain


def require_kinds(kind: type, fields: Mapping[str, Any]) -> None:
    """Check that each field has the type that the config declares for it; ranges and names are the config's to check.

    Args:
        kind: the config's class, a dataclass.
        fields: as `plain_fields` returns them. Those that the config doesn't have are left to others.

    Raises:
        UsageError: one hasn't.
    """
    hints = _hints(kind)
    for name, value in fields.items():
        if name in hints and not _is_of(hints[name], value):
            alone = isinstance(value, int | float) and _is_of(hints[name], (value,))
            listed = f" (allowed: a list, such as [{value}])" if alone else ""
            raise UsageError(f"{name} must be {_named(hints[name])}, got {shown(value)}{listed}")


def count(name: str, value: Any, least: int = 1) -> int:
    """Return a whole number from `least` as an int.

    Raises:
        UsageError: it isn't one.
    """
    number = plain_value(value, whole=True)
    if not _is_of(int, number):
        raise UsageError(f"{name} must be a whole number, got {shown(value)}")
    if number < least:
        raise UsageError(f"{name} must be at least {least}, got {number}")
    return number


def shown(value: Any, most: int = 160) -> str:
    """Return a value's repr in one line of up to `most` characters."""
    text = " ".join(repr(value).split())
    return text if len(text) <= most else f"{text[: most - 3]}..."


def storable(name: str, value: Any) -> None:
    """Check that a value comes back from JSON: None, flags, numbers, text, lists, and dicts with text for keys.

    Args:
        name: of the field, for the message.

    Raises:
        UsageError: it doesn't.
    """
    if isinstance(value, dict):
        for key, part in value.items():
            if not isinstance(key, str):
                raise UsageError(f"{name} must have text for names, got {shown(key)}")
            storable(f"{name} {key!r}", part)
    elif isinstance(value, list | tuple):
        for part in value:
            storable(name, part)
    elif not (value is None or isinstance(value, bool | int | float | str)):
        raise UsageError(f"{name} must be text, numbers, lists or dicts of them, got {shown(value)}")


KINDS: dict[Any, str] = {
    bool: "true or false", int: "a whole number", float: "a number", str: "text", dict: "names with values",
    type(None): "None",
}  # fmt: skip
SEVERAL: dict[Any, str] = {int: "whole numbers", float: "numbers", str: "names"}


@cache
def _hints(kind: type) -> dict[str, Any]:
    """Return the types of a dataclass's fields; {} if they can't be told, as within a function."""
    try:
        return typing.get_type_hints(kind)
    except (NameError, TypeError):
        return {}


def _is_of(hint: Any, value: Any) -> bool:
    """Return whether a value has a type, as far as it is one of those that configs have."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_is_of(part, value) for part in arguments)
    if origin is tuple and len(arguments) == 2 and arguments[1] is ...:
        is_one_name = arguments[0] is str and isinstance(value, str)
        return is_one_name or (isinstance(value, tuple) and all(_is_of(arguments[0], v) for v in value))
    if hint in (int, float):
        kinds = (int, np.integer) if hint is int else (int, float, np.integer, np.floating)
        return isinstance(value, kinds) and not isinstance(value, bool) and _fits(hint, value)
    if (origin or hint) in KINDS:
        return isinstance(value, origin or hint)
    return True


def _fits(hint: Any, value: Any) -> bool:
    """Return whether a number is within the range of floats, where a float is declared."""
    try:
        return hint is int or float(value) is not None
    except OverflowError:
        return False


def _named(hint: Any) -> str:
    """Return a type in words."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _named(next(part for part in arguments if part is not type(None)))
    if origin is tuple:
        return SEVERAL.get(arguments[0], "a list")
    return KINDS.get(origin or hint, "another kind of value")


def _lists(value: Any) -> Any:
    """Return a value without numpy's numbers and arrays, at any depth; arrays become lists."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, dict):
        return {k: _lists(v) for k, v in value.items()}
    return [_lists(v) for v in value] if isinstance(value, list) else value


def plain_value(value: Any, whole: bool = False) -> Any:
    """Return a value in Python's own numbers, with tuples for lists and arrays and text for paths.

    Args:
        whole: return a whole float as an int.
    """
    if isinstance(value, np.ndarray | list | tuple):
        parts = value.tolist() if isinstance(value, np.ndarray) else value
        return (
            tuple(map(plain_value, parts)) if isinstance(parts, list | tuple) else plain_value(parts, whole)
        )
    value = value.item() if isinstance(value, np.generic) else value
    value = float(value) if isinstance(value, np.longdouble) else value  # its item() is itself
    if isinstance(value, os.PathLike):
        return os.fspath(value)
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
        if value is not None and not _is_of(int if name in whole else float, value):
            raise UsageError(f"{name} must be a {'whole ' * (name in whole)}number, got {shown(value)}")
        if value is not None:
            yield name, value


def at_least(config: Any, least: float, *names: str) -> None:
    """Raise UsageError where a field is below `least`; None passes."""
    for name, value in _numbers(config, names):
        if not value >= least:
            raise UsageError(f"{name} must be at least {least}, got {value}")


def at_most(config: Any, most: float, *names: str) -> None:
    """Raise UsageError where a field is above `most`; None passes."""
    for name, value in _numbers(config, names):
        if not value <= most:
            raise UsageError(f"{name} must be at most {most}, got {value}")


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
        if not isinstance(value, tuple) or not all(_is_of(int, w) and w >= 1 for w in value):
            raise UsageError(f"{name} must be whole numbers from 1, got {shown(value)}")


def flags(config: Any, *names: str) -> None:
    """Raise UsageError where a field isn't true or false."""
    for name in names:
        value = getattr(config, name)
        if not isinstance(value, bool):
            raise UsageError(f"{name} must be true or false, got {shown(value)}")


def one_of(config: Any, name: str, allowed: tuple[str, ...]) -> None:
    """Raise UsageError where a field isn't one of the allowed names; None passes."""
    value = getattr(config, name)
    if value is not None and value not in allowed:
        raise UsageError(f"{name} {shown(value)} is unknown (allowed: {', '.join(allowed)})")


def show_space(space: Any, most: int = 160) -> str:
    """Return a space in one line of up to `most` characters; a Box of many bounds by its least and greatest."""
    low = getattr(space, "low", None)
    if low is not None and low.size > 2:
        return f"Box({low.min()}, {space.high.max()}, {space.shape}, {space.dtype})"
    text = " ".join(str(space).split())
    return text if len(text) <= most else f"{text[: most - 3]}..."


MOST_NAMES = 20  # that a message lists
CLOSE_NAMES = 3


def close_names(name: str, allowed: Sequence[str]) -> list[str]:
    """Return the allowed names that are nearest to one that isn't, or else those that contain it."""
    found = difflib.get_close_matches(name, allowed, n=CLOSE_NAMES)
    return found or [known for known in allowed if len(name) > 1 and name in known][:CLOSE_NAMES]


def with_allowed(line: str, also: str) -> str:
    """Return a refusal with something else that is allowed, in the bracket that it ends with or in one of its own."""
    if line.endswith(")") and " (allowed: " in line:
        return f"{line[:-1]}; or {also})"
    return f"{line} (allowed: {also})"


def without_allowed(line: str) -> str:
    """Return a refusal without the bracket that it may end with, for a line that says itself what is allowed."""
    head, bracket, _ = line.rpartition(" (allowed: ")
    return head if bracket and line.endswith(")") else line


def unknown_name(kind: str, name: str, allowed: Sequence[str], listing: str = "") -> str:
    """Return the message for an unknown name, with the names that are close to it or all that are allowed.

    Args:
        kind: what is named.
        listing: what lists all names, for when they are more than MOST_NAMES; without it the message lists them.
    """
    hints = [f"close: {', '.join(close)}"] if (close := close_names(name, allowed)) else []
    if listing and len(allowed) > MOST_NAMES:
        hints.append(f"{listing} lists all {len(allowed)}")
    elif not close:
        hints.append(f"allowed: {', '.join(allowed)}")
    return f"unknown {kind} {name!r} ({'; '.join(hints)})"
