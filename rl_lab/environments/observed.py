"""Checks single observations against their space: what can be cast without loss is cast, the rest is refused.

A check takes what an environment returned and gives back the same in the form that the space declares. Floats
are rounded to the declared precision and may lie a little outside their bounds, as those of several of
Gymnasium's own environments do; see `TOLERANCE` and `UNIT_TOLERANCE`.
"""

from __future__ import annotations

import operator
import traceback
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from gymnasium import spaces

from rl_lab.checks import show_space
from rl_lab.types import Array, Obs, UsageError

TOLERANCE = 100.0
"""How far outside their interval floats may lie, in widths of it. What lies further out has another unit or is broken.

Where only one bound is finite, its magnitude (at least 1) stands for the width."""
UNIT_TOLERANCE = 4.0
"""The same for entries that are declared in [0, 1]: images of 0 to 255 are often taken for such."""

MOST_KNOWN = 1024  # observations of a Discrete space that are made beforehand

LITTLE_FLOAT32 = np.dtype("<f4")
FEW = 16  # floats whose bytes are looked at in less time than a product takes

Check = Callable[[Any], Obs]


RAISED = (Exception, SystemExit)
"""What an environment may raise: `sys.exit()` in it is no reason for the program that plays it to end."""

MOST_REWARD = float(np.finfo(np.float32).max)
"""The largest reward: networks learn in float32, and the sum of a few larger ones is infinite in float64 too."""


class Refused(ValueError):
    """A value that an environment may not give. The message says what came and what is allowed."""


def observation_check(space: spaces.Space) -> Check:
    """Return a function that checks and casts one observation of a space; it raises `Refused`.

    Raises:
        UsageError: the space has no fixed shape, or keys of several types.
    """
    for kind, make in _CHECKS.items():
        if isinstance(space, kind):
            return make(space)
    raise UsageError(
        f"observation space {show_space(space)} has no fixed shape (allowed: Box, Discrete, MultiDiscrete, "
        "MultiBinary, Dict, Tuple)"
    )


# Numbers ---------------------------------------------------------------------------------------------


def _discrete(space: spaces.Discrete) -> Check:
    first, beyond, dtype = int(space.start), int(space.start + space.n), space.dtype.type
    known = [dtype(index) for index in range(first, beyond)] if space.n <= MOST_KNOWN else []
    many = len(known)

    def check(value: Any) -> Any:
        if type(value) is int and 0 <= value - first < many:
            return known[value - first]
        index = _as_index(value)
        if index is None or not first <= index < beyond:
            raise Refused(f"{show(value)} (allowed: an integer from {first} to {beyond - 1})")
        return dtype(index)

    return check


def _as_index(value: Any) -> int | None:
    """Return an integer, or None for what isn't one; floats and arrays of shape () without a fraction are."""
    try:
        return operator.index(value)
    except Exception:  # a TypeError, unless an object has an odd `__index__`
        pass
    if not isinstance(value, (float, np.generic, np.ndarray)) or np.shape(value) != ():
        return None
    whole = np.asarray(value).dtype.kind in "bf" and np.isfinite(value) and value == np.floor(value)
    return int(value) if whole else None


# Arrays ----------------------------------------------------------------------------------------------


def _array(space: spaces.Space, require_inside: Callable[[Array], None]) -> Check:
    """Return a check of shape and dtype that leaves the values to `require_inside`."""
    dtype, shape = np.dtype(space.dtype), space.shape
    assert shape is not None

    def check(value: Any) -> Array:
        if not (type(value) is np.ndarray and value.dtype == dtype and value.shape == shape):
            value = _cast(value, dtype, shape)
        require_inside(value)
        return value

    return check


def _cast(value: Any, dtype: np.dtype, shape: tuple[int, ...]) -> Array:
    """Return the value as an array of this dtype and shape.

    Raises:
        Refused: the shape differs, it holds no numbers, or the cast would change a value (floats are rounded).
    """
    given = as_array(value)
    if given.dtype.kind not in "biuf" or given.shape != shape:
        raise Refused(f"{show(value)} (allowed: {dtype} of shape {shape})")
    with np.errstate(all="ignore"):
        cast = given.astype(dtype)
        changed = _is_changed(given, cast)
    if changed.any():
        at = np.unravel_index(int(np.argmax(changed)), shape)
        raise Refused(
            f"{given.dtype} with {given[at]}{_place(at)} (allowed: what {dtype} holds without loss)"
        )
    return cast


def _is_changed(given: Array, cast: Array) -> Array:
    """Return where a cast has changed a value, bool [...] as both arrays; floats may be rounded."""
    if given.dtype.kind == cast.dtype.kind == "f":
        return np.isinf(cast) & ~np.isinf(given)
    # -1 becomes 255 as uint8, and comes back as -1; an infinite float comes back from the largest integer
    changed = (cast.astype(given.dtype) != given) | ((cast < 0) != (given < 0))
    return changed | ~np.isfinite(given) if given.dtype.kind == "f" else changed


def as_array(value: Any) -> Array:
    """Return a value as an array; where it can't be one, an array of None."""
    try:
        return np.asarray(value)
    except Exception:  # rows of unequal length; whatever an object's own `__array__` raises
        return np.asarray(None)


def _box(space: spaces.Box) -> Check:
    if np.issubdtype(space.dtype, np.floating):
        return _floats(space)
    dtype: Any = space.dtype
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        if (space.low <= limits.min).all() and (space.high >= limits.max).all():
            return _array(space, lambda value: None)
    return _array(space, _inside(space.low, space.high))


def _multi_discrete(space: spaces.MultiDiscrete) -> Check:
    return _array(space, _inside(space.start, space.start + space.nvec - 1))


def _multi_binary(space: spaces.MultiBinary) -> Check:
    return _array(space, _inside(np.zeros(space.shape), np.ones(space.shape)))


def _inside(low: Array, high: Array) -> Callable[[Array], None]:
    """Return a function that refuses values outside [low, high], which also refuses nan."""

    def require(value: Array) -> None:
        if not ((value >= low) & (value <= high)).all():
            _refuse_first(value, low, high)

    if np.asarray(low).dtype.kind == "u" and not np.any(low) and np.ptp(high) == 0:  # planes of 0 and 1
        greatest = high.flat[0]
        return lambda value: None if value.max() <= greatest else _refuse_first(value, low, high)
    return require


def _floats(space: spaces.Box) -> Check:
    """Return a check that also refuses nan, infinite values and those too far outside the bounds.

    In almost all cases one look at an array shows that every entry is near 0, and so inside: at the exponents of a few
    floats of 32 bits, at the product of others with themselves.
    """
    dtype: Any = space.dtype
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    widest, largest = _widened(low, high), float(np.finfo(dtype).max)
    bounds = np.minimum(widest[1], -widest[0]).clip(max=largest)
    radius = float(bounds.min(initial=largest))
    near = min(radius * radius * 0.999, 0.5 * largest) if radius > 0 else -1.0
    every = _inside(np.maximum(widest[0], -largest), np.minimum(widest[1], largest))

    careful, shape = _array(space, every), space.shape
    if np.dtype(dtype).itemsize < 4:  # products of halves overflow
        return careful
    if np.dtype(dtype) == LITTLE_FLOAT32 and 0 < prod(shape) <= FEW:
        return _few_floats(shape, _tops_below(radius), careful)
    dtype, product = np.dtype(dtype), np.ndarray.dot if len(shape) == 1 else np.vdot

    def check(value: Any) -> Array:
        usual = type(value) is np.ndarray and value.dtype is dtype and value.shape == shape
        return value if usual and product(value, value) <= near else careful(value)

    return check


def _few_floats(shape: tuple[int, ...], near: bytes, careful: Check) -> Check:
    """Return a check of a few float32 whose bytes of sign and exponent are usually among those `near`."""
    array, float32 = np.ndarray, LITTLE_FLOAT32

    def check(value: Any) -> Array:
        usual = type(value) is array and value.dtype is float32 and value.shape == shape
        return value if usual and not value.tobytes()[3::4].strip(near) else careful(value)

    return check


def _tops_below(radius: float) -> bytes:
    """Return the highest bytes of the float32 of either sign whose magnitudes all lie below `radius`.

    Such a byte has the sign and all but the last bit of the exponent, so that two powers of 2 share it.
    """
    tops = [top for top in range(127) if 2.0 ** (2 * top - 125) <= radius]  # 127 has infinity and nan
    return bytes(tops + [top + 128 for top in tops])


def _widened(low: Array, high: Array) -> tuple[Array, Array]:
    """Return the bounds [...] with the tolerance added; infinite ones stay infinite."""
    with np.errstate(invalid="ignore"):
        width = high - low
    one_sided = np.maximum(1.0, np.minimum(np.abs(low), np.abs(high)))
    widths = np.where((low == 0) & (high == 1), UNIT_TOLERANCE, TOLERANCE)
    slack = widths * np.where(np.isfinite(width), width, one_sided)
    return low - slack, high + slack


def outside(space: spaces.Space, value: Any) -> str | None:
    """Return where floats that passed the check lie outside their bounds all the same, or None; for a note."""
    if isinstance(space, spaces.Dict):
        found = ((key, outside(part, value[key])) for key, part in space.spaces.items())
        return next((f"part {key!r}: {text}" for key, text in found if text), None)
    if isinstance(space, spaces.Tuple):
        pairs = enumerate(zip(space.spaces, value, strict=True))
        return next((f"part {i}: {text}" for i, (part, x) in pairs if (text := outside(part, x))), None)
    if not isinstance(space, spaces.Box) or not np.issubdtype(space.dtype, np.floating):
        return None
    try:
        _inside(space.low, space.high)(value)
    except Refused as refused:
        return str(refused)
    return None


def _refuse_first(value: Array, low: Array, high: Array) -> NoReturn:
    """Refuse the first entry that isn't inside [low, high] (both of the value's shape)."""
    wrong = ~((value >= low) & (value <= high))
    at = np.unravel_index(int(np.argmax(wrong)), value.shape)
    raise Refused(f"{value[at]}{_place(at)} (allowed: from {low[at]:g} to {high[at]:g})")


def _place(at: tuple[Any, ...]) -> str:
    return f" at index {', '.join(str(int(i)) for i in at)}" if at else ""


def show(value: Any) -> str:
    """Return a value as it fits into one line: large arrays by dtype and shape."""
    if isinstance(value, np.ndarray) and value.size > 8:
        return f"{value.dtype} of shape {value.shape}"
    try:
        text = " ".join(repr(value).split())
    except Exception:  # an integer of thousands of digits, or whatever an object's own `__repr__` raises
        text = f"a value of type {type(value).__name__}"
    text = text if len(text) <= 80 else f"{text[:77]}..."
    return f"{text} of shape {np.shape(value)}" if isinstance(value, np.ndarray) else text


def show_error(error: BaseException) -> str:
    """Return an error with its type and place, in one line."""
    *_, last = traceback.extract_tb(error.__traceback__)
    try:
        text = " ".join(str(error).split())
    except Exception:  # whatever its own `__str__` raises
        text = ""
    named = ": ".join(filter(None, (type(error).__name__, text)))
    return f"{named} ({Path(last.filename).name}, line {last.lineno})"


# Parts -----------------------------------------------------------------------------------------------


def _dict(space: spaces.Dict) -> Check:
    if len({type(key) for key in space.spaces}) > 1:  # they are sorted wherever parts lie side by side
        raise UsageError(
            f"observation space {show_space(space)} has keys of several types (allowed: keys of one type)"
        )
    parts = {key: _named(f"part {key!r}", observation_check(part)) for key, part in space.spaces.items()}

    def check(value: Any) -> dict[Any, Any]:
        if not isinstance(value, dict) or value.keys() != parts.keys():
            came = sorted(map(str, value)) if isinstance(value, dict) else show(value)
            raise Refused(f"{came} (allowed: a dict with the keys {sorted(map(str, parts))})")
        return {key: check_part(value[key]) for key, check_part in parts.items()}

    return check


def _tuple(space: spaces.Tuple) -> Check:
    parts = [_named(f"part {i}", observation_check(part)) for i, part in enumerate(space.spaces)]

    def check(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, (tuple, list)) or len(value) != len(parts):
            raise Refused(f"{show(value)} (allowed: a tuple of {len(parts)} parts)")
        return tuple(check_part(x) for check_part, x in zip(parts, value, strict=True))

    return check


def _named(name: str, check: Check) -> Check:
    """Return the same check with the part's name in front of its messages."""

    def named(value: Any) -> Obs:
        try:
            return check(value)
        except Refused as refused:
            raise Refused(f"{name}: {refused}") from None

    return named


_CHECKS: dict[type[spaces.Space], Callable[[Any], Check]] = {
    spaces.Discrete: _discrete,
    spaces.Box: _box,
    spaces.MultiDiscrete: _multi_discrete,
    spaces.MultiBinary: _multi_binary,
    spaces.Dict: _dict,
    spaces.Tuple: _tuple,
}
