"""The spaces that the lab can serve, and what helps with the others."""

from __future__ import annotations

from collections.abc import Iterator

from gymnasium import spaces

from rl_lab.checks import show_space
from rl_lab.environments.actions import leaf_spaces
from rl_lab.types import UsageError

KNOWN = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
ALLOWED = "Box, Discrete, MultiDiscrete, MultiBinary, and Dict and Tuple of them"


def require_known(observations: spaces.Space, actions: spaces.Space) -> None:
    """Check that both spaces of an environment are made of numbers in arrays of fixed shapes.

    Raises:
        UsageError: one isn't; the message names a wrapper that helps.
    """
    for kind, space in (("observation", observations), ("action", actions)):
        for path, part in _unknown(space):
            raise UsageError(_refusal(kind, path, part))
    parts = leaf_spaces(actions)
    for part in parts or [actions]:
        if not parts or 0 in (part.shape or ()):
            raise UsageError(f"action space {show_space(part)} holds no numbers (allowed: at least one)")


def _unknown(space: spaces.Space, path: str = "") -> Iterator[tuple[str, spaces.Space]]:
    """Yield the place and the space of each part that can't be served."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts = space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces)
        for key, part in parts:
            yield from _unknown(part, f"{path}[{key!r}]")
    elif not isinstance(space, KNOWN) or space.shape is None:
        yield path, space


def _refusal(kind: str, path: str, space: spaces.Space) -> str:
    return f"{kind} space{path} {show_space(space)} has no fixed shape (allowed: {ALLOWED}; {_hint(kind, path, space)})"


def _hint(kind: str, path: str, space: spaces.Space) -> str:
    """Return which wrapper turns the space into one that can be served, and how to use it."""
    if kind == "action":
        return "or a wrapper that translates, by --wrappers module:Class; gymnasium.wrappers.TransformAction helps"
    if path.endswith("['mission']"):
        return "or --wrappers minigrid.wrappers:FlatObsWrapper, or minigrid.wrappers:ImgObsWrapper"
    if isinstance(space, spaces.Text):
        return "or --wrappers gymnasium.wrappers:FlattenObservation"
    return "or a wrapper that translates, by --wrappers module:Class; gymnasium.wrappers.TransformObservation helps"
