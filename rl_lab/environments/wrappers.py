"""Wrappers around single environments."""

from __future__ import annotations

import gymnasium


class LifeLoss(gymnasium.Wrapper):
    """Reports in info["life_lost"] whether a life was lost; the episode goes on."""

    def __init__(self, env: gymnasium.Env):
        super().__init__(env)
        self._lives = 0

    def reset(self, **kwargs):
        """Reset the game and the count of lives."""
        obs, info = self.env.reset(**kwargs)
        self._lives = info.get("lives", 0)
        return obs, {**info, "life_lost": False}

    def step(self, action):
        """Take a step, and compare the lives with those before it."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        lives = info.get("lives", 0)
        lost, self._lives = lives < self._lives, lives
        return obs, reward, terminated, truncated, {**info, "life_lost": lost}
