"""Gives the lab's seeded episodes to libraries that step environments themselves, such as SB3."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from rl_lab.environments.actions import stored_dtype
from rl_lab.environments.contract import Contract
from rl_lab.environments.episodes import Episode
from rl_lab.seeding import episode_seed
from rl_lab.trees import map_leaves


class SeededEpisodes(gymnasium.Wrapper):
    """Resets episode k of environment i with the lab's seed for it, ignoring any other, and lists finished episodes.

    Args:
        seed: the run's seed.
        env_index: i, the environment's place in the vector.
        finished: the list to which finished episodes are appended, with env_steps 0.
    """

    def __init__(self, env: gymnasium.Env, seed: int, env_index: int, finished: list[Episode]):
        super().__init__(env)
        if isinstance(env, Contract):
            env.env_index = env_index
        self._seed, self._index, self._finished = seed, env_index, finished
        self._dtype = stored_dtype(env.action_space)
        self._episode = -1
        self._actions: list[Any] = []
        self._return = 0.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Open the next episode; the given seed is ignored."""
        self._episode += 1
        self._actions, self._return = [], 0.0
        return self.env.reset(seed=episode_seed(self._seed, self._index, self._episode), options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Take a step, and append the episode to the list if it is finished."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        self._actions.append(action)
        self._return += float(reward)
        if terminated or truncated:
            obs = map_leaves(
                np.copy, obs
            )  # SB3 keeps it beyond the reset, which may write into the same array
            self._finished.append(self._finished_episode(bool(terminated), bool(truncated)))
        return obs, reward, terminated, truncated, info

    def _finished_episode(self, terminated: bool, truncated: bool) -> Episode:
        seed = episode_seed(self._seed, self._index, self._episode)
        actions = np.asarray(self._actions, dtype=self._dtype)
        return Episode(
            0, self._index, self._episode, seed, self._return, len(actions), terminated, truncated, actions
        )
