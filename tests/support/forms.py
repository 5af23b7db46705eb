"""An environment whose vectorised form draws other episodes than single ones, and forms that break the contract."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from toys import Counting

OWN = "test/OwnVector-v0"


class OwnVector(VectorEnv):
    """Counts as `Counting` does, from numbers that it draws in its own way; episodes have 6 steps.

    It returns the same array at every step, as a vector of Gymnasium's may.
    """

    metadata = {"autoreset_mode": AutoresetMode.DISABLED}  # noqa: RUF012
    single_observation_space = Counting.observation_space
    single_action_space = Counting.action_space

    def __init__(self, num_envs=1, max_episode_steps=None):
        self.num_envs = num_envs
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._count = np.zeros((num_envs, 1), np.float32)
        self._steps = np.zeros(num_envs, np.int64)

    def reset(self, *, seed=None, options=None):
        mask = options["reset_mask"] if options else np.ones(self.num_envs, np.bool_)
        for i in np.flatnonzero(mask):
            self._count[i] = 7 * (seed[i] % 1000)
            self._steps[i] = 0
        return self._count, {}

    def step(self, actions):
        self._count += 1 + actions[:, None]
        self._steps += 1
        over = self._steps >= 6
        return self._count, np.ones(self.num_envs, np.float32), over, np.zeros_like(over), {}


@contextmanager
def registered(vector=OwnVector, env_id: str = OWN) -> Iterator[str]:
    """Register `Counting` with a vectorised form under an id."""
    gymnasium.register(env_id, entry_point=Counting, vector_entry_point=vector)
    try:
        yield env_id
    finally:
        del gymnasium.registry[env_id]
