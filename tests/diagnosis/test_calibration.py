"""Predictions beside what came: by hand, on an environment whose returns are known."""

from __future__ import annotations

import numpy as np
import pytest

from rl_lab.diagnosis.calibration import calibrate, reliability_curve
from rl_lab.environments.make import vector_of
from rl_lab.types import Decision
from toys import ConstantReward


class Says:
    """Takes action 0 and says fixed things of itself."""

    def __init__(self, **told):
        self._told = told

    def initial_state(self, num_envs):
        return ()

    def act(self, obs, state, is_first, mask=None):
        return Decision(np.zeros(len(is_first), np.int64))

    def inspect(self, obs, state, is_first, mask=None):
        return {name: np.array([value]) for name, value in self._told.items()}


class Counts(Says):
    """Counts the steps of an episode twice, in its carry, and keeps what it is shown."""

    def __init__(self):
        super().__init__(probabilities=[0.5, 0.5])
        self.seen = []

    def initial_state(self, num_envs):
        return (np.zeros(num_envs, np.int64), np.zeros(num_envs, np.int64))

    def act(self, obs, state, is_first, mask=None):
        return Decision(np.zeros(len(is_first), np.int64), tuple(part + 1 for part in state))

    def inspect(self, obs, state, is_first, mask=None):
        self.seen.append([int(part[0]) for part in state])
        return super().inspect(obs, state, is_first, mask)


def find(policy, exploring=None, gamma=0.5, episodes=2, env=ConstantReward, **limits):
    envs = vector_of(env, 1)
    limits = {"max_steps": 100, "total_steps": 1000} | limits
    try:
        return calibrate(policy, exploring, envs, episodes=episodes, seed=0, gamma=gamma, **limits)
    finally:
        envs.close()


class Ends(ConstantReward):
    """The same, but its end is one of the environment's own."""

    def step(self, action):
        obs, reward, _, over, info = super().step(action)
        return obs, reward, over, False, info


class TestCalibrate:
    def test_bias_and_error_of_a_constant_prediction(self):
        """Five steps with reward 1 at gamma 0.5: returns 1.9375, 1.875, 1.75, 1.5, 1."""
        found = find(Says(value=2.0), env=Ends)
        returns = np.array([1.9375, 1.875, 1.75, 1.5, 1.0])
        assert (found.episodes, found.steps, found.compared_steps) == (2, 10, 10)
        assert found.bias == pytest.approx((2 - returns).mean())
        assert found.rmse == pytest.approx(np.sqrt(((2 - returns) ** 2).mean()))
        assert (found.start_predicted, found.start_realised) == (2.0, pytest.approx(1.9375))
        assert found.correlation is None

    def test_steps_whose_return_was_cut_off_do_not_count(self):
        """At gamma 0.5 what comes after a cut weighs 2^-5 at the first step already; at 0.3 less than 1 % there."""
        assert find(Says(value=2.0)).compared_steps == 0
        assert find(Says(value=2.0), gamma=0.3).compared_steps == 4
        assert find(Says(value=2.0), gamma=0.3).start_realised == pytest.approx(1.425, abs=0.01)

    def test_action_values_give_a_prediction_and_gaps(self):
        found = find(Says(q_values=[1.5, 3.0]), env=Ends)
        assert (found.start_predicted, found.gap_mean, found.gap_median, found.ties) == (3.0, 1.5, 1.5, 0.0)
        assert find(Says(q_values=[3.0, 3.0])).ties == 1.0

    def test_an_illegal_action_has_no_gap(self):
        assert find(Says(q_values=[1.5, -np.inf])).gap_mean is None

    def test_entropy_is_that_of_the_policy_that_collects(self):
        found = find(Says(value=0.0), Says(probabilities=[0.25, 0.75]))
        assert found.entropy_mean == pytest.approx(0.25 * np.log(4) + 0.75 * np.log(4 / 3))
        assert found.entropy_uniform == pytest.approx(np.log(2))

    def test_the_policy_that_collects_keeps_a_carry_of_its_own(self):
        collects = Counts()
        find(Says(value=0.0), collects, episodes=2, max_steps=3)
        assert collects.seen == [[0, 0], [1, 1], [2, 2]] * 2

    def test_a_policy_that_says_nothing(self):
        found = find(Says(), env=Ends)
        assert not found.predicts
        assert (found.bias, found.gap_mean, found.entropy_mean, found.reliability) == (None, None, None, ())

    def test_limits_hold(self):
        assert find(Says(), max_steps=3).steps == 6
        assert find(Says(), total_steps=5).episodes == 1


def test_bins_hold_equal_shares_in_order_of_the_prediction():
    predicted, realised = np.array([3.0, 1.0, 2.0, 4.0]), np.array([30.0, 10.0, 20.0, 40.0])
    low, high = reliability_curve(predicted, realised, bins=2)
    assert (low.predicted, low.realised, low.steps) == (1.5, 15.0, 2)
    assert (high.predicted, high.realised, high.steps) == (3.5, 35.0, 2)
    assert len(reliability_curve(predicted, realised)) == 4
