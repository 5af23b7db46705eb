"""Seeded episodes for libraries that step environments themselves."""

from __future__ import annotations

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit

from counting import EPISODE, Counting
from rl_lab.environments.seeded import SeededEpisodes
from rl_lab.seeding import episode_seed


def test_every_reset_opens_the_next_episode_with_its_own_seed():
    finished = []
    env = SeededEpisodes(TimeLimit(Counting(), 7), 3, 1, finished)
    bases = [EPISODE * (episode_seed(3, 1, k) % 1000) for k in range(3)]
    assert env.reset(seed=99)[0][0] == bases[0]  # what others ask for doesn't count
    for _ in range(6):
        env.step(0)
    assert finished == []
    env.step(0)
    assert env.reset()[0][0] == bases[1]
    for action in (0, 0, 0, 0, 1):
        env.step(action)
    assert env.reset()[0][0] == bases[2]
    told = [
        (e.env_steps, e.env_index, e.episode, e.seed, e.length, e.terminated, e.truncated) for e in finished
    ]
    assert told == [
        (0, 1, 0, episode_seed(3, 1, 0), 7, False, True),
        (0, 1, 1, episode_seed(3, 1, 1), 5, True, False),
    ]
    assert [e.actions.tolist() for e in finished] == [[0] * 7, [0, 0, 0, 0, 1]]
    assert [e.return_ for e in finished] == [7 * bases[0] + 21, 5 * bases[1] + 10]


def test_the_last_observation_of_an_episode_outlives_the_reset():
    class Reusing(gymnasium.Env):
        observation_space, action_space = spaces.Box(0, 9, (1,), np.float32), spaces.Discrete(2)
        shown = np.zeros(1, np.float32)

        def reset(self, *, seed=None, options=None):
            self.shown[:] = 0.0
            return self.shown, {}

        def step(self, action):
            self.shown[:] = 5.0
            return self.shown, 0.0, True, False, {}

    env = SeededEpisodes(Reusing(), 0, 0, [])
    env.reset()
    last = env.step(0)[0]
    env.reset()
    assert last.tolist() == [5.0]
