"""Wrappers by name, module:Class, as command lines and configs give them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium

from rl_lab.environments.modules import import_here
from rl_lab.types import UsageError


def wrapped(env: gymnasium.Env, names: Sequence[str]) -> gymnasium.Env:
    """Return the environment in these wrappers, from the inside out.

    Args:
        names: each "module:Class"; called with the environment alone. A function that returns an environment
            serves too.

    Raises:
        UsageError: no such module or class, or it refuses the environment.
    """
    for name in names:
        make = _find(name)
        try:
            env = make(env)
        except (TypeError, ValueError, LookupError, AttributeError, AssertionError) as error:
            cause = " ".join(str(error).split()) or type(error).__name__
            raise UsageError(f"wrapper {name!r} doesn't take {env}: {cause}") from error
        if not isinstance(env, gymnasium.Env):
            raise UsageError(f"wrapper {name!r} returned {type(env).__name__} (allowed: an environment)")
    return env


def _find(name: str) -> Callable[[Any], Any]:
    """Return what a name denotes.

    Raises:
        UsageError: another form, a module that can't be imported, or nothing callable of that name in it.
    """
    module, colon, attribute = name.partition(":")
    if not (module and colon and attribute):
        raise UsageError(
            f"wrapper {name!r} must be module:Class, such as gymnasium.wrappers:FlattenObservation"
        )
    found = getattr(import_here(module, f"wrapper {name!r}"), attribute, None)
    if not callable(found):
        raise UsageError(f"wrapper {name!r}: module {module!r} has no class {attribute!r}")
    return found
