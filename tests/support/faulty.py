"""An environment that breaks in a chosen way at a chosen step. Importing this module registers lab-test/Faulty-v0."""

from __future__ import annotations

import os
import signal
import sys
import time

import gymnasium
import numpy as np
from gymnasium import spaces

GOOD = np.array([0.5, -0.5], np.float32)

OBSERVATIONS = {
    "nan": np.array([np.nan, 0.0], np.float32),
    "infinite": np.array([0.0, np.inf], np.float32),
    "shape": np.zeros((1, 2), np.float32),
    "longer": np.zeros(3, np.float32),
    "words": np.array(["a", "b"]),
    "far out": np.array([1e6, 0.0], np.float32),
    "none": None,
    "ragged": [[0.0], [0.0, 1.0]],
}
REWARDS = {
    "nan reward": float("nan"),
    "infinite reward": float("-inf"),
    "list reward": [1.0],
    "no reward": None,
    "complex reward": 1j,
    "two rewards": np.ones(2),
    "word reward": "1",
    "huge reward": 1e308,
}
PICTURES = {
    "no picture": None,
    "float picture": np.full((4, 6, 3), 0.5),
    "listed picture": [np.zeros((4, 6, 3), np.uint8)],
    "flat picture": np.zeros(4, np.uint8),
    "text picture": "S.G",
}


class Faulty(gymnasium.Env):
    """Episodes of 100 steps whose observations are in [-1, 1]; `fault` happens at step `at` of each, 0 being reset.

    Args:
        fault: a name of `OBSERVATIONS`, `REWARDS` or `PICTURES`, or raise, quit (`sys.exit`), hang, kill, exit, flag,
            short, info; or one of these before "made", "drawn" or "closed", such as "hang made", which happens in the
            constructor, in `render` at step `at`, or in `close` once an episode has got there. With "growing" each
            picture is larger than the one before.
        first_episode: the first episode in which it happens.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, fault: str = "", at: int = 60, first_episode: int = 0, render_mode: str | None = None):
        self.fault, self.at, self.first_episode = fault, at, first_episode
        self.render_mode = render_mode
        self.episode = self.steps = -1
        self.is_late = False
        if fault.endswith(" made"):
            self._break(fault.removesuffix(" made"))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode += 1
        self.steps = 0
        return self._observation(), {}

    def step(self, action):
        self.steps += 1
        obs = self._observation()
        reward, terminated, info = 1.0, False, {}
        if self._now:
            reward = REWARDS.get(self.fault, reward)
            terminated = {"flag": "no"}.get(self.fault, terminated)
            info = {"info": None}.get(self.fault, info)
            if self.fault == "short":
                return obs, reward, terminated, info
        return obs, reward, terminated, self.steps >= 100, info

    def render(self):
        if self._now and self.fault.endswith(" drawn"):
            self._break(self.fault.removesuffix(" drawn"))
        if self._now and self.fault in PICTURES:
            return PICTURES[self.fault]
        return np.full((4 + self.steps if self.fault == "growing" else 4, 6, 3), 100 + self.steps, np.uint8)

    def close(self):
        if self.is_late and self.fault.endswith(" closed"):
            self._break(self.fault.removesuffix(" closed"))

    @property
    def _now(self) -> bool:
        return self.steps == self.at and self.episode >= self.first_episode

    def _observation(self):
        self.is_late |= self._now
        if self._now:
            self._break(self.fault)
        return OBSERVATIONS.get(self.fault, GOOD) if self._now else GOOD.copy()

    def _break(self, fault):
        if fault == "raise":
            raise RuntimeError("the arm\nis stuck")
        if fault == "quit":
            sys.exit()
        if fault == "hang":
            time.sleep(3600)
        if fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "exit":
            os._exit(7)


gymnasium.register("lab-test/Faulty-v0", Faulty, disable_env_checker=True)
