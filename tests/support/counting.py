"""Environments whose observations say where in which episode they were made; importable by workers too."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

EPISODE = 1000  # an observation is EPISODE * (a digest of the episode's seed) + steps since the reset


class Counting(gymnasium.Env):
    """Observation: 1000 * (seed % 1000) + steps since the reset. Action 1 ends where `ends_at` is reached.

    The reward is the observation before the step, so that a shifted row can't go unnoticed.
    """

    observation_space = spaces.Box(0.0, np.inf, (1,), np.float64)
    action_space = spaces.Discrete(2)
    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(self, ends_at: int = 5, lives: int = 0):
        self._ends_at, self._max_lives = ends_at, lives
        self._base = self._steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        assert seed is not None, "an episode without a seed"
        self._base, self._steps = EPISODE * (seed % 1000), 0
        return self._seen(), self._info()

    def step(self, action):
        before = float(self._seen()[0])
        self._steps += 1
        terminated = bool(action == 1 and self._steps >= self._ends_at)
        return self._seen(), before, terminated, False, self._info()

    def _seen(self):
        return np.array([self._base + self._steps], np.float64)

    def _info(self) -> dict[str, Any]:
        """A life is lost at every third step."""
        return {"lives": self._max_lives - self._steps // 3} if self._max_lives else {}


class Wayward(Counting):
    """Differs from world to world, from the third step of an episode on: no replay can be exact."""

    world = 0

    def _seen(self):
        return np.array([self._base + self._steps + 0.5 * Wayward.world * (self._steps >= 3)], np.float64)


class Early(Counting):
    """In world 1 episodes end at their second step, and nothing else gives it away."""

    def step(self, action):
        obs, reward, terminated, truncated, info = super().step(action)
        return obs, reward, terminated or (Wayward.world == 1 and self._steps >= 2), truncated, info


def register() -> None:
    """Register test/Counting-v0 (7 steps at most), test/Endless-v0, test/Wayward-v0 and test/Early-v0."""
    if "test/Counting-v0" not in gymnasium.registry:
        gymnasium.register("test/Counting-v0", Counting, max_episode_steps=7)
        gymnasium.register("test/Endless-v0", Counting, kwargs={"ends_at": 10**9})
        gymnasium.register("test/Wayward-v0", Wayward, max_episode_steps=40, kwargs={"ends_at": 10**9})
        gymnasium.register("test/Early-v0", Early, max_episode_steps=40, kwargs={"ends_at": 10**9})


register()
