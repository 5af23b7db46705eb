"""Environments in which the right action repeats the observation, whatever their common space."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from rl_lab.environments.actions import counts_of, leaf_spaces
from rl_lab.trees import leaves_of

SPACES: dict[str, spaces.Space] = {
    "Discrete": spaces.Discrete(3),
    "Discrete from 1": spaces.Discrete(3, start=1),
    "Discrete from -2": spaces.Discrete(3, start=-2),
    "MultiDiscrete": spaces.MultiDiscrete([2, 3]),
    "MultiDiscrete 2 x 2 from -1": spaces.MultiDiscrete([[2, 3], [2, 2]], start=[[-1, 4], [0, 1]]),
    "MultiBinary": spaces.MultiBinary(3),
    "MultiBinary 2 x 2": spaces.MultiBinary((2, 2)),
    "Box": spaces.Box(-1, 1, (2,), np.float32),
    "Box of one number": spaces.Box(-1, 1, (), np.float32),
    "Box 2 x 2 of float64": spaces.Box(-1, 1, (2, 2), np.float64),
    "Box of few integers": spaces.Box(-1, 2, (2,), np.int32),
    "Box of many integers": spaces.Box(-1000, 1000, (2,), np.int64),
    "Dict": spaces.Dict({"turn": spaces.Discrete(2, start=1), "push": spaces.Box(-1, 1, (1,), np.float32)}),
    "Tuple of a Dict": spaces.Tuple(
        (
            spaces.Dict({"bits": spaces.MultiBinary(2), "wheel": spaces.MultiDiscrete([2, 2], start=[1, -1])}),
            spaces.Discrete(2),
        )
    ),
}  # fmt: skip


class Mirror(gymnasium.Env):
    """Shows a draw from a space and rewards the share of its entries that the action repeats; 10 steps.

    Entries of real numbers, and of integers of which there are many, cost their distance.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(self, space: str | spaces.Space, render_mode: str | None = None):
        space = SPACES[space] if isinstance(space, str) else space
        self.observation_space = self.action_space = space
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self._draw(), self._info()

    def step(self, action):
        assert self.action_space.contains(action), action
        reward = self.worth(action)
        self.steps += 1
        for leaf in leaves_of(action):  # an environment may do what it likes with the action it is given
            if isinstance(leaf, np.ndarray):
                leaf[...] = 0
        return self._draw(), reward, False, self.steps == 10, self._info()

    def worth(self, action) -> float:
        """Return the mean worth of an action's parts: at most 1 for a discrete part, and 0 for a continuous one."""
        trees = (leaves_of(tree, sort_keys=True) for tree in (action, self.shown))
        return float(
            np.mean(
                [_worth(s, *pair) for s, *pair in zip(leaf_spaces(self.action_space), *trees, strict=True)]
            )
        )

    def render(self):
        return np.full((16, 16, 3), 20 * self.steps, np.uint8)

    def _draw(self):
        self.action_space.seed(int(self.np_random.integers(2**31)))
        self.shown = self.action_space.sample()
        return self.shown

    def _info(self) -> dict[str, Any]:
        return {}


def _worth(space: spaces.Space, action, shown) -> float:
    if counts_of(space) is not None or (
        np.dtype(space.dtype).itemsize == 4 and np.dtype(space.dtype).kind == "i"
    ):
        return float(np.mean(np.asarray(action) == np.asarray(shown)))
    scale = np.asarray(space.high, np.float64)
    return -float(np.mean(np.abs(np.asarray(action, np.float64) - np.asarray(shown, np.float64)) / scale))


class MaskedMirror(Mirror):
    """Forbids one value of every entry of a MultiDiscrete or MultiBinary space, never the right one."""

    def step(self, action):
        assert self.mask[_positions(self.action_space, action)].all(), (action, self.mask)
        return super().step(action)

    def _info(self):
        self.mask = np.ones(sum(counts_of(self.action_space)), np.int8)
        counts = np.array(counts_of(self.action_space))
        right = _positions(self.action_space, self.shown)
        begins = np.cumsum([0, *counts[:-1]])
        self.mask[begins + (right - begins + 1) % counts] = 0
        return {"action_mask": self.mask}


def _positions(space: spaces.Space, action) -> np.ndarray:
    """Return where the values of an action are in a mask."""
    counts = np.array(counts_of(space))
    values = np.asarray(action).ravel() - np.ravel(getattr(space, "start", 0))
    return np.cumsum([0, *counts[:-1]]) + values
