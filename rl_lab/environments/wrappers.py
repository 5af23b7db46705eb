"""Wrappers around single environments, and what they say in `info`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium

LIFE_LOST = "rl_lab/life_lost"
"""The entry of `info` that zeroes the bootstrap; an environment's own "life_lost" is not it."""


class LifeLoss(gymnasium.Wrapper):
    """Reports in info[LIFE_LOST] whether a life was lost; the episode goes on.

    It compares the numbers in info["lives"]; of an environment without them it takes info["life_lost"].
    """

    def __init__(self, env: gymnasium.Env):
        super().__init__(env)
        self._lives = 0
        self.is_told = False  # whether the environment has said anything of lives

    def reset(self, **kwargs):
        """Reset the game and the count of lives."""
        obs, info = self.env.reset(**kwargs)
        self._lives = info.get("lives", 0)
        self.is_told |= "lives" in info
        return obs, {**info, LIFE_LOST: False}

    def step(self, action):
        """Take a step, and compare the lives with those before it."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        return obs, reward, terminated, truncated, {**info, LIFE_LOST: self._lost(info)}

    def _lost(self, info: Mapping[str, Any]) -> Any:
        self.is_told |= "lives" in info or "life_lost" in info
        if "lives" not in info:
            return info.get("life_lost", False)
        lost, self._lives = info["lives"] < self._lives, info["lives"]
        return lost
