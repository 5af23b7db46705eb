"""What hypothesis draws for the tests that feed the lab odd things, and how an error must look."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from rl_lab.cli.parsing import main


def fuzzed(examples: int) -> settings:
    """Return settings by which the same examples are drawn every time."""
    return settings(max_examples=examples, derandomize=True, deadline=None, database=None)


HUGE = 10**400  # beyond all floats
TEXT = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(["", "a\nb", "ü☃", "1e5", "null"])
NUMBERS = st.one_of(
    st.integers(-3, 300), st.integers(), st.floats(), st.sampled_from([HUGE, -HUGE, 1e5, 0.5, -0.0, 2**63]),
)  # fmt: skip
OF_NUMPY = st.one_of(
    st.integers(-100, 100).map(np.int8), st.floats(width=32).map(np.float32), st.floats().map(np.float64),
    st.booleans().map(np.bool_), st.sampled_from([
        np.uint64(2**64 - 1), np.longdouble("0.1"), np.complex64(1j), np.str_("adam"), np.bytes_(b"x"),
        np.datetime64("2020-01-01"), np.array(3), np.array([8, 4]), np.array([[1, 2]]), np.array([None, "x"], object),
        np.zeros(0), np.array("text"), np.float16(np.inf),
    ]),
)  # fmt: skip
OTHERS = st.sampled_from([
    object(), print, int, b"bytes", {1, 2}, 1j, Decimal(1), Fraction(1, 2), Path("a/b"), range(3), ..., iter([1]),
    bytearray(b"x"), memoryview(b"x"),
])  # fmt: skip
LEAVES = st.one_of(st.none(), st.booleans(), NUMBERS, TEXT, OF_NUMPY)
VALUES = st.recursive(
    LEAVES | OTHERS,
    lambda parts: st.one_of(
        st.lists(parts, max_size=3), st.lists(parts, max_size=3).map(tuple),
        st.dictionaries(TEXT | st.integers() | st.none(), parts, max_size=3),
    ),
    max_leaves=4,
)  # fmt: skip
"""Anything that a program may give instead of a value."""


JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.sampled_from([HUGE, -1, 0, 2**63]), st.floats(), TEXT
    ),
    lambda parts: st.lists(parts, max_size=2) | st.dictionaries(TEXT, parts, max_size=2),
    max_leaves=3,
)
"""Anything that JSON as Python reads it may hold, nan and infinity included."""


@st.composite
def mutations(draw: st.DrawFn, body: Any) -> Any:
    """Draw a JSON body that differs from `body` in one place: another value, a key too few, too many or renamed."""
    parts = (
        list(body.items())
        if isinstance(body, dict)
        else list(enumerate(body))
        if isinstance(body, list)
        else []
    )
    if not parts or draw(st.integers(0, 5)) == 0:
        return draw(st.one_of(JSON, st.just([body]), st.just({"a": body}), st.just(str(body))))
    key, value = draw(st.sampled_from(parts))
    changed = dict(body) if isinstance(body, dict) else list(body)
    how = draw(st.sampled_from(["deeper", "deeper", "deeper", "deeper", "drop", "add", "rename"]))
    if how == "deeper":
        changed[key] = draw(mutations(value))
    elif how == "drop":
        del changed[key]
    elif isinstance(changed, list):
        changed.append(draw(JSON))
    elif how == "add":
        changed[draw(TEXT)] = draw(JSON)
    else:
        changed[draw(TEXT)] = changed.pop(key)
    return changed


def require_one_line(error: Exception) -> None:
    """Require that the message is one line that says something."""
    text = str(error)
    assert text.strip(), "the message is empty"
    assert len(text.splitlines()) == 1, text


def outcome(parse: Callable[[Sequence[str]], Any], argv: Sequence[str]) -> int:
    """Parse a command line as a command does; return the exit code, and require one line of error if it is 2."""
    out, err = io.StringIO(), io.StringIO()

    def command(words: Sequence[str]) -> int:
        parse(words)
        return 0

    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(command, argv)
        except SystemExit as ended:
            code = ended.code or 0
    told = err.getvalue()
    assert code in (0, 2), f"{argv}: ended with {code}\n{told}"
    if code == 2:
        assert out.getvalue() == "", f"{argv} printed {out.getvalue()}"
        assert told.startswith("error: "), f"{argv}: {told}"
        assert len(told.splitlines()) == 1, f"{argv}: {told}"
        assert len(told) > len("error: \n") + 3, f"{argv}: {told}"
    return int(code)
