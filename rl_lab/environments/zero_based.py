"""Shows discrete spaces as beginning at 0 to libraries that ignore `start`, such as SB3."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


def zero_based(space: spaces.Space) -> spaces.Space:
    """Return a space whose discrete entries begin at 0; the space itself if they already do.

    Parts of Dict and Tuple spaces are changed alike.
    """
    if isinstance(space, spaces.Dict):
        parts = {key: zero_based(part) for key, part in space.spaces.items()}
        return space if all(parts[key] is space[key] for key in parts) else spaces.Dict(parts)
    if isinstance(space, spaces.Tuple):
        items = [zero_based(part) for part in space.spaces]
        same = all(a is b for a, b in zip(items, space.spaces, strict=True))
        return space if same else spaces.Tuple(items)
    if isinstance(space, spaces.Discrete) and space.start != 0:
        return spaces.Discrete(int(space.n))
    if isinstance(space, spaces.MultiDiscrete) and np.any(space.start):
        return spaces.MultiDiscrete(space.nvec)
    return space


def to_zero_based(space: spaces.Space, values: Any) -> Any:
    """Return values of the space, one or a batch of them, as values of `zero_based(space)`."""
    return _moved(space, values, -1)


def from_zero_based(space: spaces.Space, values: Any) -> Any:
    """Return values of `zero_based(space)`, one or a batch of them, as values of the space."""
    return _moved(space, values, 1)


def _moved(space: spaces.Space, values: Any, sign: int) -> Any:
    if isinstance(space, spaces.Dict):
        return {key: _moved(part, values[key], sign) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(_moved(part, x, sign) for part, x in zip(space.spaces, values, strict=True))
    return values if zero_based(space) is space else values + sign * np.asarray(space.start)  # type: ignore[attr-defined]


class ZeroBased(gymnasium.Wrapper):
    """Shows an environment whose discrete observations and actions begin at 0."""

    def __init__(self, env: gymnasium.Env):
        super().__init__(env)
        self.observation_space = zero_based(env.observation_space)
        self.action_space = zero_based(env.action_space)

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """Reset the environment."""
        obs, info = self.env.reset(**kwargs)
        return to_zero_based(self.env.observation_space, obs), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Take a step with an action of the shown space."""
        action = from_zero_based(self.env.action_space, action)
        obs, reward, terminated, truncated, info = self.env.step(action)
        return to_zero_based(self.env.observation_space, obs), reward, terminated, truncated, info
