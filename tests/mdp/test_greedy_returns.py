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


def test_undiscounted_returns_of_policies_that_go_on_for_ever_are_infinite_or_nan():
    outcomes = [
        (0, 0, 1.0, 0, 1.0, True), (0, 1, 1.0, 0, 2.0, False), (0, 2, 1.0, 0, -1e-3, False),  # end, earn, lose
        (0, 3, 0.5, 1, 0.0, False), (0, 3, 0.5, 2, 0.0, False),
        (1, 0, 1.0, 1, 2.0, False), (1, 1, 1.0, 2, 1.0, False), (1, 2, 1.0, 1, 0.0, False),
        (2, 0, 1.0, 2, -2.0, False), (2, 1, 1.0, 1, -1.0, False), (2, 2, 1.0, 2, 3.0, True),
    ]  # fmt: skip
    model = TabularModel.from_outcomes(outcomes, 3, 4, [1.0, 0.0, 0.0])
    policies = {
        (0, 0, 0): 1.0, (1, 0, 0): np.inf, (2, 0, 0): -np.inf,
        (3, 0, 0): np.nan,  # earns or loses, as a coin falls
        (3, 1, 1): np.nan,  # +1 and -1 in turn
        (3, 2, 0): -np.inf, (3, 2, 2): 1.5, (3, 0, 2): np.inf,
    }  # fmt: skip
    found = greedy_returns(model, np.array(list(policies)), 1.0)
    assert np.array_equal(found, list(policies.values()), equal_nan=True)


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
