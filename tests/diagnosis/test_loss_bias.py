"""The amounts by which a predicted value is off: targets, loss and learning, on models small enough to do by hand."""

from __future__ import annotations

import numpy as np
import pytest

from diagnosed import two_states
from rl_lab.diagnosis.loss_bias import find_loss_bias
from rl_lab.diagnosis.visited import NotKnown
from rl_lab.mdp.model import TabularModel
from rl_lab.mdp.td_fixed_point import TDRule

EVENLY = np.full((2, 2), 0.5)


def find(rule, model=None, policy=EVENLY, predicted=None, can_act=True):
    model = model or two_states()
    live = np.ones(model.num_states, bool)
    return find_loss_bias(
        model, policy, rule, eval_gamma=0.9, live=live, predicted=predicted, can_act=can_act
    )


class TestAmounts:
    def test_add_up_to_the_error_of_the_prediction(self):
        found = find(TDRule("huber", 0.9, n_steps=3), predicted=np.array([0.0, 4.0]))
        assert found.from_targets == pytest.approx(0.0, abs=1e-9)
        assert found.from_loss == pytest.approx(3.8914 - 2.9078, abs=1e-4)
        assert found.from_learning == pytest.approx(4.0 - 3.8914, abs=1e-4)

    def test_the_squared_loss_has_no_bias(self):
        found = find(TDRule("squared", 0.9, n_steps=3))
        assert (found.from_loss, found.largest_bias, found.from_learning) == (0.0, 0.0, None)

    def test_several_steps_of_a_policy_that_explores_move_the_targets(self):
        """Action 1 pays 1 and goes on once, action 0 pays nothing; the second of two steps is right half the time."""
        rows = [(s, a, 1.0, 1, float(a), s == 1) for s in (0, 1) for a in (0, 1)]
        model = TabularModel.from_outcomes(rows, 2, 2, [1.0, 0.0])
        greedy = np.eye(2)[[1, 1]]
        found = find(TDRule("squared", 0.9, n_steps=2, epsilon=1.0), model, greedy)
        assert found.optimal_value == pytest.approx(1.9)
        assert found.from_targets == pytest.approx(-0.45)
        assert find(TDRule("squared", 0.9, n_steps=2), model, greedy).from_targets == pytest.approx(0.0)

    def test_what_a_policy_loses_that_is_greedy_at_the_fixed_point(self):
        """A sure 1 against 20 with probability 0.1: the mean is 2, but the Huber loss stays at 1 / 9."""
        rows = [(0, 0, 1.0, 0, 1.0, True), (0, 1, 0.9, 0, 0.0, True), (0, 1, 0.1, 0, 20.0, True)]
        model = TabularModel.from_outcomes(rows, 1, 2, [1.0])
        found = find(TDRule("huber", 0.9), model, np.array([[1.0, 0.0]]))
        assert found.loss_value == pytest.approx(1.0)
        assert found.regret == pytest.approx(1.0)

    def test_clipped_rewards_are_what_is_learned_with_any_loss(self):
        found = find(TDRule("huber", 0.9, reward_clip=0.5))
        assert found.squared_value == pytest.approx(0.5 / (1 - 0.81**2))


class TestUnknown:
    def test_what_cannot_be_computed_is_said(self):
        with pytest.raises(NotKnown, match=r"gamma 1.0 has no unique fixed point"):
            find(TDRule("huber", 1.0))
        with pytest.raises(NotKnown, match="a dataset doesn't tell it"):
            find(TDRule("huber", 0.9, n_steps=3), can_act=False)
        with pytest.raises(NotKnown, match=r"^scaled$"):
            find(TDRule("huber", 0.9, unknown="scaled"))

    def test_one_step_of_a_dataset_is_known(self):
        assert find(TDRule("huber", 0.9), can_act=False).loss_value == pytest.approx(4.152, abs=1e-3)

    def test_too_many_targets_are_said(self, monkeypatch):
        monkeypatch.setattr("rl_lab.mdp.td_targets.MOST_TARGETS", 5)
        with pytest.raises(NotKnown, match=r"3-step targets: .* targets are more than 5"):
            find(TDRule("huber", 0.9, n_steps=3))
