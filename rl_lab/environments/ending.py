"""Closes environments where nothing more is wanted of them: what they raise then is said, and nothing is lost by it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium

from rl_lab.environments.observed import RAISED, show_error
from rl_lab.types import EnvironmentWarning

_said: set[str] = set()  # in this process
_is_tried = False  # this process only tries environments, and the main one closes some itself


class CloseRaised(EnvironmentWarning):
    """An environment raised an error when it was closed."""


def name_of(env: gymnasium.Env) -> str:
    """Return an environment's id, or its class where it has none."""
    return env.spec.id if env.spec is not None else type(env.unwrapped).__name__


def close_env(env: Any, name: str) -> str | None:
    """Close an environment or a vector; return in a line what it raises, which is said once in a process, or None."""
    try:
        env.close()
    except RAISED as error:
        line = f"environment {name}: close raised {show_error(error)}"
        if line not in _said and not _is_tried:
            _said.add(line)
            warnings.warn(line, CloseRaised, stacklevel=2)
        return line
    return None


def leave_unsaid() -> None:
    """Say nothing in this process from now on: the one that began it plays the same environments, and says it."""
    global _is_tried
    _is_tried = True


@contextmanager
def ending(env: gymnasium.Env) -> Iterator[gymnasium.Env]:
    """Close an environment at the end of a `with` block, see `close_env`."""
    try:
        yield env
    finally:
        close_env(env, name_of(env))
