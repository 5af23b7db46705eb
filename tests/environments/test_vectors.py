"""Vectors without autoreset: what they take, check and copy."""

from __future__ import annotations

from functools import partial

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rl_lab.environments.contract import Contract
from rl_lab.environments.make import make_envs, vector_of
from rl_lab.environments.masks import mask_of
from rl_lab.environments.vectors import LocalVector, MaskedVector, ReadInfo, SingleVector
from rl_lab.trees import leaves_of
from rl_lab.types import UsageError


def counting_vector(num_envs: int, mode: AutoresetMode) -> SyncVectorEnv:
    return SyncVectorEnv([partial(gymnasium.make, "CartPole-v1")] * num_envs, autoreset_mode=mode)


class TestVectors:
    @pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
    def test_a_vector_that_resets_by_itself_is_refused_by_name(self, mode):
        with pytest.raises(UsageError, match=rf"SyncVectorEnv has autoreset mode .*{mode.name}.*DISABLED"):
            MaskedVector(counting_vector(2, mode))

    def test_a_vector_that_says_nothing_is_refused(self):
        silent = counting_vector(2, AutoresetMode.DISABLED)
        silent.metadata = {}
        with pytest.raises(UsageError, match="autoreset mode None"):
            MaskedVector(silent)

    @pytest.mark.parametrize("num_envs", [1, 2])
    @pytest.mark.parametrize("action", [-1, 2, 0.5, float("nan")])
    def test_refuses_actions_outside_a_discrete_space(self, num_envs, action):
        envs = make_envs("CartPole-v1", num_envs)
        envs.reset(seed=[0] * num_envs)
        with (
            pytest.raises(ValueError, match=f"action {action} is outside"),
            np.errstate(invalid="ignore"),
        ):
            envs.step(np.array([0] * (num_envs - 1) + [action]))
        envs.close()

    @pytest.mark.parametrize("num_envs", [1, 2])
    def test_refuses_actions_outside_a_box(self, num_envs):
        envs = make_envs("Pendulum-v1", num_envs)
        envs.reset(seed=[0] * num_envs)
        with pytest.raises(ValueError, match="outside the action space Box"):
            envs.step(np.full((num_envs, 1), 2.1, np.float32))
        envs.step(np.full((num_envs, 1), 2.0, np.float32))
        envs.close()

    def test_a_vector_of_one_copies_what_an_environment_reuses(self):
        class Reusing(gymnasium.Env):
            observation_space, action_space = spaces.Box(0, 9, (1,), np.float64), spaces.Discrete(2)
            seen = np.zeros(1)

            def reset(self, *, seed=None, options=None):
                self.seen[:] = 0
                return self.seen, {}

            def step(self, action):
                self.seen += 1
                return self.seen, 0.0, False, False, {}

        envs = SingleVector(Reusing())
        first, _ = envs.reset(seed=[0])
        second = envs.step(np.array([0]))[0]
        assert (first[0, 0], second[0, 0]) == (0.0, 1.0)

    def test_dict_and_tuple_observations_pass(self):
        space = spaces.Dict({"b": spaces.Discrete(3), "a": spaces.Tuple((spaces.Box(0, 1, (2,)),))})

        class Nested(gymnasium.Env):
            observation_space, action_space = space, spaces.Discrete(2)

            def reset(self, *, seed=None, options=None):
                return {"b": 1, "a": (np.ones(2, np.float32),)}, {}

            def step(self, action):
                return {"b": 2, "a": (np.zeros(2, np.float32),)}, 1.0, True, False, {}

        envs = SingleVector(Nested())
        obs, _ = envs.reset(seed=[0])
        assert [leaf.tolist() for leaf in leaves_of(obs, sort_keys=True)] == [[[1.0, 1.0]], [1]]
        assert [leaf.tolist() for leaf in leaves_of(envs.step(np.array([0]))[0])] == [[[0.0, 0.0]], [2]]


def test_where_nothing_is_legal_all_is():
    mask = mask_of({"action_mask": np.array([[True, False], [False, False]])})
    assert mask.tolist() == [[True, False], [True, True]]
    assert mask_of({}) is None


def reference(make, num_envs: int) -> MaskedVector:
    """The same environments in Gymnasium's vector."""
    makers = [partial(lambda i: ReadInfo(Contract(make(), i)), i) for i in range(num_envs)]
    return MaskedVector(SyncVectorEnv(makers, autoreset_mode=AutoresetMode.DISABLED))


class TestLocal:
    @pytest.mark.parametrize(
        ("env_id", "kwargs"),
        [
            ("Taxi-v4", {}),
            ("Blackjack-v1", {}),
            ("CartPole-v1", {}),
            ("Pendulum-v1", {"max_episode_steps": 7}),
        ],
    )
    def test_gives_what_gymnasiums_vector_gives(self, env_id, kwargs):
        make, rng = partial(gymnasium.make, env_id, **kwargs), np.random.default_rng(0)
        ours, theirs = vector_of(make, 3), reference(make, 3)
        assert type(ours) is LocalVector
        np.testing.assert_equal(ours.reset(seed=[1, 2, 3]), theirs.reset(seed=[1, 2, 3]))
        space, done = ours.single_action_space, np.zeros(3, np.bool_)
        for _ in range(60):
            if done.any():
                seeds = rng.integers(1_000, size=3).tolist()
                found, expected = (
                    envs.reset(seed=seeds, options={"reset_mask": done.copy()}) for envs in (ours, theirs)
                )
                np.testing.assert_equal(found, expected)
            action = np.stack([space.sample() for _ in range(3)])
            found, expected = ours.step(action), theirs.step(action)
            np.testing.assert_equal(found, expected)
            assert [leaf.dtype for leaf in leaves_of(found)] == [leaf.dtype for leaf in leaves_of(expected)]
            done = found[2] | found[3]
        ours.close()
        theirs.close()

    def test_refuses_environments_of_different_spaces(self):
        def make(n):
            return Contract(gymnasium.make("FrozenLake-v1", desc=["S" + "F" * n + "G"]), n)

        with pytest.raises(UsageError, match="environment 1 has other spaces than environment 0"):
            LocalVector([make(0), make(1)])

    def test_a_finished_environment_is_reset_before_it_is_stepped_again(self):
        envs = vector_of(partial(gymnasium.make, "FrozenLake-v1", desc=["SG"], is_slippery=False), 2)
        envs.reset(seed=[1, 2])
        assert envs.step(np.array([2, 0]))[2].tolist() == [True, False]
        with pytest.raises(AssertionError):
            envs.step(np.array([0, 0]))
        obs, _ = envs.reset(seed=[3, None], options={"reset_mask": np.array([True, False])})
        assert obs.tolist() == [0, 0]
        envs.step(np.array([0, 0]))
        envs.close()


class TestMasksOfAVector:
    @pytest.mark.parametrize(
        ("given", "legal"),
        [
            ([[True, False]], [[True, False]]),
            ([[False, False]], [[True, True]]),  # nothing is known of it
            ([[False, False], [False, True]], [[True, True], [False, True]]),
        ],
    )
    def test_where_none_is_legal_all_are(self, given, legal):
        assert mask_of({"action_mask": np.array(given)}).tolist() == legal

    def test_none_come_where_there_are_none(self):
        assert mask_of({}) is None
