"""Returns of many policies at once are those of each policy alone."""

from __future__ import annotations

import numpy as np
import pytest
from garnets import garnet

from rl_lab.evaluation.exact import expected_return
from rl_lab.mdp import greedy_returns as module
from rl_lab.mdp.greedy_returns import greedy_actions, greedy_returns
from rl_lab.mdp.model import TabularModel


def drawn(model, count, seed=0):
    """Random available actions, [count, S]."""
    rng = np.random.default_rng(seed)
    return greedy_actions(rng.random((count, *model.available.shape)), model.available)


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("gamma", [0.0, 0.9, 0.999])
def test_they_are_the_expected_returns_of_each_policy(monkeypatch, dense, gamma):
    monkeypatch.setattr(module, "DENSE_UP_TO", 100 if dense else 0)
    monkeypatch.setattr(module, "BLOCK_BYTES", 3 * 8 * 9**2)  # so that the policies are split into blocks
    model = garnet(1, 9, 3, 2, ending=0.1)
    policies = drawn(model, 8)
    policies[5] = policies[2]
    alone = [expected_return(model, np.eye(3)[policy], gamma) for policy in policies]
    np.testing.assert_allclose(greedy_returns(model, policies, gamma), alone, rtol=1e-9, atol=1e-12)


def test_undiscounted_returns_are_nan_where_a_policy_earns_for_ever():
    outcomes = [(0, 0, 1.0, 0, 1.0, True), (0, 1, 1.0, 0, 2.0, False)]  # end with 1, or earn 2 for ever
    model = TabularModel.from_outcomes(outcomes, 1, 2, [1.0])
    assert np.array_equal(greedy_returns(model, np.array([[0], [1]]), 1.0), [1.0, np.nan], equal_nan=True)


def test_a_state_that_a_policy_never_meets_does_not_matter():
    outcomes = [
        (0, 0, 1.0, 0, 1.0, True),
        (1, 0, 1.0, 1, 2.0, False),
    ]  # state 1 earns for ever, but isn't met
    model = TabularModel.from_outcomes(outcomes, 2, 1, [1.0, 0.0])
    assert greedy_returns(model, np.array([[0, 0]]), 1.0).tolist() == [1.0]


def test_the_first_best_available_action_is_greedy():
    q = np.array([[[1.0, 1.0, 0.0], [5.0, 2.0, 3.0]]])
    available = np.array([[True, True, True], [False, True, True]])
    assert greedy_actions(q, available).tolist() == [[0, 2]]


def test_a_discount_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"gamma 1\.5 must be in 0\.\.1"):
        greedy_returns(garnet(1, 3, 2, 2), np.zeros((1, 3), int), 1.5)
