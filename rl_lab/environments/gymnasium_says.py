"""What Gymnasium says while it makes an environment, in the lines that the lab shows of it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
SAID_ANYWAY = (
    "not in the possible render_modes"  # of Gymnasium's; whoever asks for pictures says that there are none
)

_shown: dict[Any, Any] = {}


@contextmanager
def held_warnings() -> Iterator[None]:
    """Show the warnings of a `with` block at its end, without colours; none if it fails, since the error says why."""
    with warnings.catch_warnings(record=True) as said:
        yield
    for one in said:
        text = COLOUR.sub("", str(one.message))
        if SAID_ANYWAY not in text:
            message: Any = text if text != str(one.message) else one.message
            warnings.warn_explicit(message, one.category, one.filename, one.lineno, registry=_shown)


def first_line(error: Exception) -> str:
    """Return the first line of an error, with the name of its class where it says nothing or only a missing key.

    What Gymnasium adds to a TypeError is left out: the id and the arguments.
    """
    said, name = str(error).partition(" was raised from the environment creator")[0], type(error).__name__
    lines = said.strip().splitlines()
    return name if not lines else f"{name}: {lines[0]}" if isinstance(error, LookupError) else lines[0]
