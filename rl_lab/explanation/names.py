"""Names of actions and of the numbers in observations, where an environment tells them or is known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import gymnasium
import numpy as np
from gymnasium import spaces

from rl_lab.environments.actions import counts_of, first_of, leaf_spaces, parts_of
from rl_lab.environments.layout import layout_of

ACTIONS: dict[str, Sequence[str]] = {
    "CartPole": ("push left", "push right"),
    "MountainCar": ("push left", "no push", "push right"),
    "MountainCarContinuous": ("push",),
    "Acrobot": ("torque -1", "torque 0", "torque +1"),
    "Pendulum": ("torque",),
    "LunarLander": ("nothing", "left engine", "main engine", "right engine"),
    "LunarLanderContinuous": ("main engine", "side engines"),
    "BipedalWalker": ("hip 1", "knee 1", "hip 2", "knee 2"),
    "CarRacing": ("nothing", "steer right", "steer left", "accelerate", "brake"),
    "FrozenLake": ("left", "down", "right", "up"),
    "FrozenLake8x8": ("left", "down", "right", "up"),
    "CliffWalking": ("up", "right", "down", "left"),
    "Taxi": ("south", "north", "east", "west", "pick up", "drop off"),
    "Blackjack": ("stick", "hit"),
}
"""By the id without its version, in the order of the actions; they count where the number fits the space."""

OBSERVATIONS: dict[str, Sequence[str]] = {
    "CartPole": ("cart position", "cart velocity", "pole angle", "pole angular velocity"),
    "CartPolePositions": ("cart position", "pole angle"),
    "MountainCar": ("position", "velocity"),
    "MountainCarContinuous": ("position", "velocity"),
    "Acrobot": (
        "cos of angle 1", "sin of angle 1", "cos of angle 2", "sin of angle 2", "angular velocity 1",
        "angular velocity 2",
    ),
    "Pendulum": ("cos of angle", "sin of angle", "angular velocity"),
    "LunarLander": (
        "x", "y", "x velocity", "y velocity", "angle", "angular velocity", "left leg contact", "right leg contact"
    ),
    "Blackjack": ("player's sum", "dealer's card", "usable ace"),
}  # fmt: skip
OBSERVATIONS["LunarLanderContinuous"] = OBSERVATIONS["LunarLander"]
DIRECTIONS = {(-1, 0): "up", (1, 0): "down", (0, -1): "left", (0, 1): "right", (0, 0): "stay"}


def action_names(env: gymnasium.Env) -> list[str]:
    """Return a name for each value of each discrete entry of an action, or for each continuous entry, side by side.

    The environment's own names are taken (`get_action_meanings()`, or the directions in which its actions move), then
    those of known environments. The others are numbers: the action's, or `entry = value` if there are several entries.
    """
    plain = _plain_names(env.action_space)
    told = _told(env) or _by_moves(env) or ACTIONS.get(_kind(env), ())
    return [str(name) for name in told] if len(told) == len(plain) else plain


def observation_names(env: gymnasium.Env) -> list[str]:
    """Return a name for each number of an observation, flattened, the parts of Dict and Tuple spaces side by side.

    Numbers are named by what is known of the environment (if its observations are vectors of that length), otherwise
    by part and index, as in `goal[1]`.
    """
    space = env.observation_space
    known = OBSERVATIONS.get(_kind(env), ())
    return list(known) if _size(space) == len(known) else list(part_names(space))


def part_names(space: spaces.Space, path: str = "") -> Iterator[str]:
    """Yield a name for each number of observations of a space: `[k]`, or below a key `key[k]`; `key` if it is one."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        for key, part in parts_of(space):
            yield from part_names(part, f"{path}.{key}" if path else str(key))
        return
    shape = space.shape or ()
    for index in np.ndindex(*shape):
        yield f"{path}[{', '.join(map(str, index))}]" if index else path or "observation"


def _kind(env: gymnasium.Env) -> str:
    return "" if env.spec is None else env.spec.name


def _size(space: spaces.Space) -> int:
    leaves = leaf_spaces(space)
    return sum(int(np.prod(leaf.shape or ())) for leaf in leaves)


def _told(env: gymnasium.Env) -> Sequence[str]:
    tell = getattr(env.unwrapped, "get_action_meanings", None)
    try:
        found = tell() if callable(tell) else ()
        return [str(name).lower() for name in found]
    except Exception:  # whatever a stranger's code raises: numbers will do
        return ()


def _by_moves(env: gymnasium.Env) -> Sequence[str]:
    """Return where the actions of a grid move; () if that isn't known or depends on the state."""
    layout = layout_of(env)
    if layout is None or layout.moves is None or layout.moves.ndim != 2:
        return ()
    names = [DIRECTIONS.get((row, column)) for row, column in np.sign(layout.moves).tolist()]
    return [name for name in names if name is not None] if len(set(names)) == len(names) else ()


def _plain_names(space: spaces.Space) -> list[str]:
    leaves = leaf_spaces(space)
    several = len(leaves) > 1 or not isinstance(space, spaces.Discrete)
    names, entry = [], 0
    for leaf in leaves:
        counts = counts_of(leaf)
        if counts is None:
            size = int(np.prod(leaf.shape or ()))
            names += [str(entry + k) for k in range(size)]
            entry += size
            continue
        for count, first in zip(counts, first_of(leaf).ravel().tolist(), strict=True):
            values = [int(first) + k for k in range(count)]
            names += [f"{entry} = {value}" if several else str(value) for value in values]
            entry += 1
    return names
