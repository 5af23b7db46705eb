"""The keys with which a human takes an agent's place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
from gymnasium import spaces

ARROWS = {
    "left": "ArrowLeft", "right": "ArrowRight", "up": "ArrowUp", "down": "ArrowDown",
    "west": "ArrowLeft", "east": "ArrowRight", "north": "ArrowUp", "south": "ArrowDown",
}  # fmt: skip
BY_COUNT = {2: ("ArrowLeft", "ArrowRight"), 3: ("ArrowLeft", "ArrowDown", "ArrowRight")}
IDLE = ("noop", "no-op", "nothing", "none", "idle")
DIGITS = 9


def keys_of(env: gymnasium.Env, names: Sequence[str]) -> dict[int, list[str]]:
    """Return for each action of a Discrete space the keys that stand for it, as KeyboardEvent.key has them.

    The environment's own `get_keys_to_action` goes first, then the arrows that the actions are named after, then
    arrows by the number of actions; the digits from 1 stand for the first nine actions in any case. Keys that would
    have to be held together are left out.

    Args:
        names: of the actions, in their order.
    """
    space = env.action_space
    if not isinstance(space, spaces.Discrete):
        return {}
    count, first = int(space.n), int(space.start)
    keys: dict[int, list[str]] = {first + i: [] for i in range(count)}
    taken: set[str] = set()
    guesses = [
        _own(env),
        _by_name(names, first),
        {k: first + i for i, k in enumerate(BY_COUNT.get(count, ()))},
    ]
    for guess in guesses:
        if guess and not taken:
            for key, action in guess.items():
                if action in keys:
                    keys[action].append(key)
                    taken.add(key)
    for i in range(min(count, DIGITS)):
        if str(i + 1) not in taken:
            keys[first + i].append(str(i + 1))
    return keys


def idle_action(env: gymnasium.Env, names: Sequence[str]) -> int | None:
    """Return the action that does nothing, which is taken while no key is held; None if the game waits instead."""
    space = env.action_space
    if not isinstance(space, spaces.Discrete):
        return None
    for i, name in enumerate(names):
        if name.lower().strip() in IDLE:
            return int(space.start) + i
    return None


def _own(env: gymnasium.Env) -> Mapping[str, int]:
    """Return what the environment says of its keys, where each stands alone for an action."""
    if not env.has_wrapper_attr("get_keys_to_action"):
        return {}
    try:
        given = env.get_wrapper_attr("get_keys_to_action")()
        found = {_key(k): int(action) for k, action in given.items()}
    except Exception:  # an environment may compute anything there, and nothing depends on it
        return {}
    return {key: action for key, action in found.items() if key}


def _key(combination: Any) -> str:
    """Return the name of a key, given as text, as its code, or as a tuple of one of them; "" for several or none."""
    parts = combination if isinstance(combination, tuple | list) else (combination,)
    if len(parts) != 1:
        return ""
    part = parts[0]
    if isinstance(part, int):
        return chr(part) if 32 <= part < 127 else ""
    return part if isinstance(part, str) and len(part) == 1 else ""


def _by_name(names: Sequence[str], first: int) -> dict[str, int]:
    """Return an arrow for each action whose name has one direction in it."""
    found: dict[str, int] = {}
    for i, name in enumerate(names):
        said = {arrow for word, arrow in ARROWS.items() if word in name.lower().split()}
        if len(said) == 1:
            found.setdefault(said.pop(), first + i)
    return found
