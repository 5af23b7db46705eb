"""Environments that draw from global generators: they are found, and their episodes are functions of their seeds."""

from __future__ import annotations

import json
import random
import sys

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.registration import WrapperSpec

import rl_lab
from rl_lab.environments import global_draws
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


class VeryLate(Careless):
    """Draws from a global generator at step 20 of its fifth episode and of all later ones."""

    episode = -1

    def reset(self, *, seed=None, options=None):
        self._steps, self.episode = 0, self.episode + 1
        return 0, {}

    def step(self, action):
        self._steps += 1
        draws = self._steps == 20 and self.episode >= 4
        return 0, self._draw(12) if draws else 0.0, self._steps == 25, False, {}


class Choosy(Careless):
    """Says by a method which actions are legal, raises at others, and draws globally after some steps."""

    action_space = spaces.Discrete(50)

    def action_masks(self):
        return np.arange(50) == 7

    def step(self, action):
        if action != 7:
            raise RuntimeError("illegal")
        return super().step(action) if self._steps == 8 else self._quietly()

    def reset(self, *, seed=None, options=None):
        self._steps = 0
        return 0, {}

    def _quietly(self):
        self._steps += 1
        return 0, 0.0, False, False, {}


class Noisy(gymnasium.Wrapper):
    """Adds noise from a global generator."""

    def step(self, action):
        obs, reward, *rest = super().step(action)
        return obs, reward + random.random(), *rest


gymnasium.register("careless/Numpy-v0", Careless)
gymnasium.register("careless/Random-v0", Careless, kwargs={"source": "random"})
gymnasium.register("careless/Own-v0", Careless, kwargs={"source": "own"})
gymnasium.register("careless/Late-v0", Late)
gymnasium.register("careless/VeryLate-v0", VeryLate)
gymnasium.register("careless/VeryLateRandom-v0", VeryLate, kwargs={"source": "random"})
gymnasium.register("careless/Choosy-v0", Choosy)
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


class Checked(Careless):
    """Observes in another precision than it declares, and an empty part, which Gymnasium's checker refuses."""

    observation_space = spaces.Dict({"a": spaces.Box(0, 1, (2,), np.float32), "b": spaces.Tuple(())})

    def reset(self, *, seed=None, options=None):
        return {"a": np.zeros(2), "b": ()}, {}

    def step(self, action):
        return {"a": np.full(2, np.random.random()), "b": ()}, 0.0, False, False, {}  # noqa: NPY002


gymnasium.register("careless/Checked-v0", Checked)
gymnasium.register(
    "careless/Layered-v0",
    "gymnasium.envs.toy_text.frozen_lake:FrozenLakeEnv",
    additional_wrappers=(WrapperSpec("Noisy", "test_global_draws:Noisy", {}),),
)


def test_gymnasium_s_checker_neither_speaks_nor_hides_draws(recwarn):
    env = make_env("careless/Checked-v0")
    assert is_wrapped(env)
    env.reset(seed=0)
    assert not recwarn


def test_wrappers_of_the_spec_are_looked_at_like_those_that_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "test_global_draws", sys.modules[__name__])
    env = make_env("careless/Layered-v0")
    assert is_wrapped(env)
    seen = []
    for noise in (1, 2):
        random.seed(noise)
        env.reset(seed=4)
        seen.append([env.step(0)[1] for _ in range(3)])
    assert seen[0] == seen[1]


def test_legal_actions_are_those_that_the_environment_says_by_a_method():
    assert draws_globally(Choosy())


class TestNamedWrappers:
    WRAPPERS = ("test_global_draws:Noisy",)

    @pytest.fixture(autouse=True)
    def module(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "test_global_draws", sys.modules[__name__])

    @pytest.mark.parametrize("env_id", ["FrozenLake-v1", "careless/Own-v0"])
    def test_that_draw_globally_are_protected(self, env_id):
        def rewards(noise):
            env = make_env(env_id, wrappers=self.WRAPPERS)
            assert is_wrapped(env)
            env.reset(seed=4)
            seen = []
            for _ in range(3):
                random.seed(noise)
                seen.append(env.step(0)[1])
            return seen

        assert rewards(1) == rewards(2)
        assert len(set(rewards(1))) == 3

    def test_change_no_numbers_where_only_the_environment_draws_globally(self):
        def rewards(wrappers):
            env = make_env("careless/Numpy-v0", wrappers=wrappers)
            env.reset(seed=4)
            return [env.step(0)[1] for _ in range(10)]

        assert rewards(["gymnasium.wrappers:RecordEpisodeStatistics"]) == rewards([])


class TestLateDraws:
    def play(self, env, episodes, others=lambda: None):
        for episode in range(episodes):
            env.reset(seed=episode)
            over = False
            while not over:
                others()
                over = env.step(0)[2]

    @pytest.mark.parametrize(
        ("env_id", "name"), [("VeryLate-v0", "np.random"), ("VeryLateRandom-v0", "random")]
    )
    def test_are_said_once(self, env_id, name, recwarn):
        self.play(make_env(f"careless/{env_id}"), 20)
        said = [str(w.message) for w in recwarn if "global generator" in str(w.message)]
        assert len(said) == 1
        assert said[0].startswith(
            f"environment careless/{env_id} draws from a global generator ({name}), later"
        )

    @pytest.mark.parametrize("others", [np.random.random, random.random])
    def test_of_others_are_not_blamed_on_the_environment(self, others, recwarn):
        env = make_env("careless/Own-v0")
        self.play(env, 40, others)
        assert not [w for w in recwarn if "global generator" in str(w.message)]

    def test_of_others_are_looked_into_three_times_at_most(self, monkeypatch):
        env = make_env("careless/Own-v0")
        self.play(env, 20, random.random)
        monkeypatch.setattr(global_draws, "_state", None)  # would fail when called
        self.play(env, 80, random.random)

    def test_are_looked_for_in_few_episodes_only(self, monkeypatch):
        taken = []
        monkeypatch.setattr(global_draws, "_state", lambda: taken.append(None) or outside())
        self.play(make_env("careless/Own-v0"), 64)
        assert len(taken) < 64 + 14 + 20  # found out about once, at two moments of seven episodes

    @pytest.mark.parametrize("answer", [None, (0, 0.0), (0, 0.0, np.zeros(2), False, {})])
    def test_leave_what_is_no_answer_to_the_contract(self, answer):
        class Wrong(Careless):
            def step(self, action):
                return answer

        env = global_draws.LateDraws(Wrong("own"))
        env.reset(seed=0)
        assert env.step(0) is answer
