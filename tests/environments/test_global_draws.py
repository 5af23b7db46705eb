"""Environments that draw from global generators: they are found, and their episodes are functions of their seeds."""

from __future__ import annotations

import json
import random

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import rl_lab
from rl_lab.environments.global_draws import OwnGlobals, draws_globally
from rl_lab.environments.make import make_env, make_envs
from runs import learn


class Careless(gymnasium.Env):
    """Walks at random, drawn from a global generator, for ten steps."""

    observation_space, action_space = spaces.Discrete(12), spaces.Discrete(2)

    def __init__(self, source: str = "numpy"):
        self._draw = {"numpy": np.random.randint, "random": lambda n: random.randrange(n), "own": self._own}[
            source
        ]

    def _own(self, n):
        return int(self.np_random.integers(n))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._steps = 0
        return int(self._draw(12)), {}

    def step(self, action):
        self._steps += 1
        seen = int(self._draw(12))
        return seen, float(seen), self._steps == 10, False, {}


class Late(Careless):
    """Draws from a global generator only when an episode ends."""

    def reset(self, *, seed=None, options=None):
        self._steps = 0
        return 0, {}

    def step(self, action):
        self._steps += 1
        return 0, float(np.random.random()) if self._steps == 10 else 0.0, self._steps == 10, False, {}  # noqa: NPY002


gymnasium.register("careless/Numpy-v0", Careless)
gymnasium.register("careless/Random-v0", Careless, kwargs={"source": "random"})
gymnasium.register("careless/Own-v0", Careless, kwargs={"source": "own"})
gymnasium.register("careless/Late-v0", Late)
IDS = ["careless/Numpy-v0", "careless/Random-v0", "careless/Late-v0"]


def outside():
    return random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002


def is_wrapped(env):
    while isinstance(env, gymnasium.Wrapper):
        if isinstance(env, OwnGlobals):
            return True
        env = env.env
    return False


@pytest.mark.parametrize("env_id", [*IDS, "careless/Own-v0", "CartPole-v1"])
def test_those_that_draw_globally_are_wrapped_and_no_others(env_id):
    before = outside()
    env = make_env(env_id)
    assert is_wrapped(env) == (env_id in IDS)
    env.reset(seed=1)
    env.step(0)
    assert outside() == before


def test_one_that_fails_is_left_to_whoever_plays_it():
    class Broken(Careless):
        def step(self, action):
            raise RuntimeError("no connection")

    assert draws_globally(Broken())
    assert not draws_globally(Broken("own"))


@pytest.mark.parametrize("env_id", IDS)
def test_an_episode_is_a_function_of_its_seed_in_any_company(env_id):
    def episodes(envs, noise):
        obs, _ = envs.reset(seed=list(range(5, 5 + envs.num_envs)))
        seen = [obs]
        for _ in range(10):
            np.random.random(noise)  # noqa: NPY002
            random.random()
            obs, reward, *_ = envs.step(np.zeros(envs.num_envs, np.int64))
            seen.append((obs, reward))
        envs.close()
        return [[(float(o[i]), float(r[i])) for o, r in seen[1:]] for i in range(envs.num_envs)]

    together = episodes(make_envs(env_id, 3), noise=3)
    assert episodes(make_envs(env_id, 3, vector="async"), noise=1) == together
    assert episodes(make_envs(env_id, 1), noise=5) == together[:1]
    assert len({json.dumps(x) for x in together}) == 3


@pytest.mark.parametrize("env_id", IDS[:2])
def test_runs_of_one_seed_are_equal_and_resume_exactly(env_id, tmp_path):
    fields = {"total_steps": 200, "num_envs": 2, "checkpoint_every_steps": 50}
    runs = []
    for name in "ab":
        np.random.seed(len(runs))  # noqa: NPY002
        runs.append(learn(tmp_path / name, "q-learning", env_id, **fields).summary)
    learn(tmp_path / "c", "q-learning", env_id, stop_at=110, **fields)
    runs.append(rl_lab.resume(tmp_path / "c").summary)
    found = [(run["weights_sha256"], run["eval_returns"]) for run in runs]
    assert found[0] == found[1] == found[2]
    assert "truncated_at_resume" not in (tmp_path / "c" / "metrics.jsonl").read_text()
