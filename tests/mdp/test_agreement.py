"""Models that aren't what is played are found by playing, and the true ones pass."""

from __future__ import annotations

import random
import re

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.toy_text import CliffWalkingEnv, FrozenLakeEnv, TaxiEnv
from gymnasium.wrappers import TimeLimit

import rl_lab.envs  # noqa: F401  registers lab/*
from odd_models import Bleeding, Leaking, Lingering, Straight, Wandering
from rl_lab.mdp.agreement import find_disagreement
from rl_lab.mdp.model import TabularModel, extract_model

LAB = sorted(env_id for env_id in gymnasium.registry if env_id.startswith("lab/"))
TOY_TEXT = ["FrozenLake-v1", "FrozenLake8x8-v1", "CliffWalking-v1", "CliffWalkingSlippery-v1", "Taxi-v4"]
VARIANTS = [
    ("lab/GridWorld-v0", {"slip": 0.2}), ("lab/GridWorldPixels-v0", {"map": "four_rooms", "slip": 0.1}),
    ("lab/WindyGrid-v0", {"stochastic": True}), ("lab/Blackjack-v0", {"natural": True}),
    ("lab/DynaMaze-v0", {"maze": "shortcut"}), ("Taxi-v4", {"is_rainy": True}),
    ("FrozenLake-v1", {"desc": ["SFFS", "FHFG"]}), ("FrozenLake8x8-v1", {"is_slippery": False}),
    ("FrozenLake-v1", {"success_rate": 0.8}), ("CliffWalking-v1", {"is_slippery": True}),
    ("Taxi-v4", {"fickle_passenger": True}), ("Taxi-v4", {"is_rainy": True, "fickle_passenger": True}),
]  # fmt: skip


class TestTrueModels:
    @pytest.mark.parametrize(("env_id", "kwargs"), [*((x, {}) for x in LAB + TOY_TEXT), *VARIANTS])
    def test_raise_no_alarm(self, env_id, kwargs):
        env = gymnasium.make(env_id, **kwargs)
        model = extract_model(env)
        if model is not None:
            assert [find_disagreement(env, model, seed=seed) for seed in range(3)] == [None] * 3

    def test_end_where_a_time_limit_cuts(self):
        env = TimeLimit(gymnasium.make("CliffWalking-v1"), 3)
        assert find_disagreement(env, extract_model(env)) is None

    def test_may_hide_their_state(self):
        """Two states that look alike, and lead to different rewards."""
        outcomes = [(0, 0, 0.5, 1, 0.0, False), (0, 0, 0.5, 2, 0.0, False), (1, 0, 1.0, 0, 1.0, True)]
        outcomes += [(2, 0, 1.0, 0, 2.0, True)]

        def observe(states):
            return np.minimum(states, 1)

        model = TabularModel.from_outcomes(outcomes, 3, 1, [1.0, 0.0, 0.0], observe=observe)
        assert find_disagreement(Shown(model, rewards=(1.0, 2.0)), model) is None
        assert "reward 3" in find_disagreement(Shown(model, rewards=(1.0, 3.0)), model)


def test_no_episode_is_played_twice():
    """Outcomes are counted over all plays: the same seeds again and again would make a true model look wrong."""
    seeds = []

    class Noted(gymnasium.Wrapper):
        def reset(self, *, seed=None, options=None):
            seeds.append(seed)
            return self.env.reset(seed=seed, options=options)

    env = gymnasium.make("FrozenLake-v1")
    model = extract_model(env)
    assert find_disagreement(Noted(env), model, placed_steps=0, seed=5) is None
    episodes = seeds[:-2]  # but for the reset before states are set, and the one at the end
    assert len(episodes) > 30
    assert len(set(episodes)) == len(episodes)


class Shown(gymnasium.Env):
    """Goes from 0 to 1 and ends with one of two rewards."""

    observation_space, action_space = spaces.Discrete(2), spaces.Discrete(1)

    def __init__(self, model, rewards):
        self._rewards = rewards

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._at = 0
        return 0, {}

    def step(self, action):
        self._at += 1
        ends = self._at == 2
        return int(not ends), self._rewards[self.np_random.integers(2)] if ends else 0.0, ends, False, {}


class TestOtherModels:
    @pytest.mark.parametrize(
        ("env", "says"),
        [
            (Leaking(), r"state \d+, action \d: step gives state \d+, reward -0.01; the model allows state"),
            (Bleeding(), "reward 0, the end; the model allows state"),
            (Lingering(), r"reward 0; the model allows .*the end"),
            (Wandering(), "step gives state 15, reward 0; the model allows state"),
        ],
        ids=lambda value: type(value).__name__,
    )  # fmt: skip
    def test_are_named_with_the_first_transition_that_they_do_not_allow(self, env, says):
        found = find_disagreement(env, extract_model(env))
        assert re.search(says, found), found
        assert "\n" not in found

    def test_are_found_by_where_an_episode_starts(self):
        class Elsewhere(FrozenLakeEnv):
            def reset(self, *, seed=None, options=None):
                _, info = super().reset(seed=seed)
                self.s = 1
                return 1, info

        env = Elsewhere()
        assert find_disagreement(env, extract_model(env)).startswith(
            "reset shows state 1, in which the model"
        )

    @pytest.mark.parametrize("base", [CliffWalkingEnv, TaxiEnv])
    def test_are_found_in_subclasses_of_all_toy_text(self, base):
        class Doubled(base):
            def step(self, action):
                obs, reward, *rest = super().step(action)
                return obs, 2 * reward, *rest

        env = Doubled()
        assert "the model allows" in find_disagreement(env, extract_model(env))


def test_no_generator_but_the_environments_own_is_drawn_from():
    def drawn():
        return np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002  that of other libraries

    before = drawn()
    env = gymnasium.make("FrozenLake-v1")
    find_disagreement(env, extract_model(env))
    assert drawn() == before


def test_a_model_with_another_number_of_actions_is_named():
    env = gymnasium.make("FrozenLake-v1")
    other = extract_model(gymnasium.make("Taxi-v4"))
    assert find_disagreement(env, other) == "the model has 6 actions, the environment 4"


@pytest.mark.parametrize("seed", range(5))
def test_outcomes_of_other_probabilities_are_named(seed):
    env = Straight()
    found = find_disagreement(env, extract_model(env), seed=seed)
    assert re.match(
        r"outcomes don't come as often as the model says: state \d+, action \d: .*times with probability 0\.333",
        found,
    )


@pytest.mark.parametrize("env_id", ["FrozenLake-v1", "FrozenLake8x8-v1"])
def test_true_probabilities_are_never_called_wrong(env_id):
    env = gymnasium.make(env_id)
    model = extract_model(env)
    assert [find_disagreement(env, model, seed=seed) for seed in range(15)] == [None] * 15
