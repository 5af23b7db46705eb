"""Environments whose observations say where in which episode they were made, and what the loop hands out there.

Importable by workers too.
"""

from __future__ import annotations

import hashlib
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from rl_lab.seeding import EpisodeSeeds
from rl_lab.training.loop import start, train
from rl_lab.types import Cursor, Decision, Step

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


SEED = 6


class Scripted:
    """Takes, in each environment, actions that are a function of its own observation: the same at any width."""

    def __init__(self, choose):
        self._choose = choose

    def initial_state(self, num_envs):
        return ()

    def act(self, obs, state, is_first, mask=None):
        legal = [None] * len(is_first) if mask is None else mask
        return Decision(np.array([self._choose(o, m) for o, m in zip(obs, legal, strict=True)]))

    def inspect(self, obs, state, is_first, mask=None):
        return {}


class Collector:
    """An agent that keeps every step; `collect_env_steps` is what a test says."""

    gradient_steps, collect_env_steps = 0, 1

    def __init__(self):
        self.steps: list[Step] = []

    def observe(self, step):
        self.steps.append(step)

    def update(self):
        return None


def sometimes_end(obs, mask) -> int:
    """End some episodes at step 5, 6 or never (the limit of 7 cuts those), by their own number."""
    number, step = divmod(int(obs[0]), EPISODE)
    return int(step >= 4 + number % 4)


def hashed_legal(obs, mask) -> int:
    """A legal action that is a function of observation and mask."""
    digest = hashlib.sha256(np.asarray(obs).tobytes()).digest()[0]
    legal = np.flatnonzero(mask) if mask is not None else np.arange(4)
    return int(legal[digest % len(legal)])


def collect(envs, policy, vector_steps: int, seed: int = SEED) -> tuple[list[Step], list[Cursor]]:
    agent, seeds = Collector(), EpisodeSeeds(seed, envs.num_envs)
    total = vector_steps * envs.num_envs
    cursors = [at for _, _, at in train(agent, policy, envs, seeds, total, start(policy, envs, seeds))]
    envs.close()
    return agent.steps, cursors


CASES = {
    "test/Counting-v0": sometimes_end,
    "FrozenLake-v1": hashed_legal,
    "Taxi-v4": hashed_legal,
    "CartPole-v1": lambda obs, mask: int(obs[2] > 0),
}
