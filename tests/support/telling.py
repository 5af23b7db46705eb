"""An environment that returns what a test tells it to, and how it is played."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from rl_lab.environments.make import vector_of

WIDTHS = pytest.mark.parametrize(("num_envs", "vector"), [(1, "sync"), (2, "sync"), (2, "async")])


class Told(gymnasium.Env):
    """Four actions, one of which is illegal; masks, infos and rewards are as told. Steps without end."""

    observation_space, action_space = spaces.Discrete(4), spaces.Discrete(4)

    def __init__(self, mask=None, at=("reset", "step"), info=None, reward=1.0, terminated=False):
        self.mask, self.at, self.info, self.reward, self.terminated = mask, at, info, reward, terminated
        self.count, self.number = 0, 0

    def _info(self, place):
        info = dict(self.info(self.count + self.number)) if self.info else {}
        return info | ({"action_mask": self.mask} if place in self.at and self.mask is not None else {})

    def reset(self, *, seed=None, options=None):
        self.count, self.number = 0, seed or 0  # environments beside one another tell different things
        return 0, self._info("reset")

    def step(self, action):
        self.count += 1
        if np.any(action == 3):
            raise RuntimeError("illegal")
        return 0, self.reward, self.terminated, False, self._info("step")


def play(make, num_envs, vector, steps=3, actions=None):
    """Return the last result of a few steps with action 0 in each environment."""
    envs = vector_of(make, num_envs, vector=vector, env_timeout_seconds=120)
    try:
        result = envs.reset(seed=list(range(num_envs)))
        zero = envs.single_action_space.sample() * 0
        for _ in range(steps):
            result = envs.step(np.array([zero] * num_envs) if actions is None else actions)
        return result
    finally:
        envs.close()
