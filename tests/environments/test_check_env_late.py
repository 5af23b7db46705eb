"""What a check over many steps finds beyond those that come before a run: late draws from global generators, leaks."""

from __future__ import annotations

import sys
from functools import partial

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from rl_lab.environments.check_env import check_env
from rl_lab.environments.make import make_env

AT = 31  # one step more than are played to find draws from global generators


class Sound(gymnasium.Env):
    """Observes nothing, for `length` steps."""

    observation_space, action_space = spaces.Box(-1.0, 1.0, (1,), np.float32), spaces.Discrete(2)

    def __init__(self, length=40):
        self.length, self.steps = length, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.steps += 1
        return np.zeros(1, np.float32), 0.0, self.steps == self.length, False, {}


class DrawsLate(Sound):
    """Draws from a global generator at step AT of each episode, which changes nothing that is seen."""

    def step(self, action):
        if self.steps + 1 == AT:
            np.random.random()  # noqa: NPY002
        return super().step(action)


class AlsoDrawsLate(gymnasium.Wrapper):
    """Draws as `DrawsLate` does."""

    def step(self, action):
        if self.unwrapped.steps + 1 == AT:
            np.random.random()  # noqa: NPY002
        return super().step(action)


class RewardsLate(Sound):
    """Draws its reward from a global generator at step AT of each episode."""

    def step(self, action):
        obs, _, *rest = super().step(action)
        return obs, np.random.random() if self.steps == AT else 0.0, *rest  # noqa: NPY002


gymnasium.register("late/Sound-v0", Sound)
gymnasium.register("late/DrawsLate-v0", DrawsLate)
gymnasium.register("late/RewardsLate-v0", RewardsLate)
WRAPPER = "test_check_env_late:AlsoDrawsLate"


@pytest.fixture(autouse=True)
def module(monkeypatch):
    monkeypatch.setitem(sys.modules, "test_check_env_late", sys.modules[__name__])


def replay_of(env_id, length, wrappers=()):
    make = partial(make_env, env_id, {"length": length}, wrappers=wrappers)
    found = [(f.verdict, f.text) for f in check_env(make) if f.check == "replay"]
    assert len(found) == 1
    return found[0]


LENGTHS = pytest.mark.parametrize("length", [40, 10_000])  # the longer one never ends within the steps played


@LENGTHS
def test_a_sound_one_replays(length):
    assert replay_of("late/Sound-v0", length)[0] == "ok"


@LENGTHS
@pytest.mark.parametrize(
    ("env_id", "wrappers"),
    [("late/DrawsLate-v0", ()), ("late/RewardsLate-v0", ()), ("late/Sound-v0", (WRAPPER,))],
)
def test_late_draws_from_a_global_generator_are_named(env_id, wrappers, length):
    verdict, text = replay_of(env_id, length, wrappers)
    assert verdict == "note"
    assert f"environment {env_id} draws from a global generator (np.random), later than in the 30" in text
