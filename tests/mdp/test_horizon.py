"""The optimum where the number of steps is bounded."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from garnets import garnet
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_lab.mdp.horizon import finite_horizon
from rl_lab.mdp.model import TabularModel


def best_by_enumeration(model: TabularModel, gamma: float, steps: int) -> np.ndarray:
    """Return the best value [S] over all time-dependent policies, each played out."""
    size, actions = model.available.shape
    chance = model.continuation.toarray().reshape(size, actions, size)
    best = np.full(size, -np.inf)
    rules = [r for r in product(range(actions), repeat=size) if model.available[np.arange(size), r].all()]
    for plan in product(rules, repeat=steps):
        v = np.zeros(size)
        for rule in reversed(plan):
            v = model.expected_reward[np.arange(size), rule] + gamma * chance[np.arange(size), rule] @ v
        best = np.maximum(best, v)
    return best


class TestFiniteHorizon:
    @settings(max_examples=30, deadline=None, derandomize=True)
    @given(
        st.builds(
            garnet, st.integers(0, 10**6), st.integers(1, 3), st.integers(1, 2), st.just(2), st.just(0.3)
        ),
        st.sampled_from([0.5, 1.0]),
        st.integers(1, 3),
    )
    def test_agrees_with_brute_force(self, model, gamma, steps):
        solution = finite_horizon(model, gamma, steps)
        for t in range(steps):
            truth = best_by_enumeration(model, gamma, steps - t)
            np.testing.assert_allclose(solution.v[t], truth, rtol=0, atol=1e-13)
            np.testing.assert_allclose(solution.q[t].max(axis=1), truth, rtol=0, atol=1e-13)
            assert solution.optimal_actions[t][np.arange(model.num_states), solution.policy[t]].all()
        assert solution.bound < 1e-12

    def test_the_best_action_depends_on_the_time_left(self):
        """Leaving pays 1, staying twice and then leaving by action 2 pays 3 at the third step at best."""
        rows = [(0, 0, 1.0, 0, 1.0, True), (0, 1, 1.0, 1, 0.0, False), (1, 0, 1.0, 1, 3.0, True)]
        solution = finite_horizon(TabularModel.from_outcomes(rows, 2, 2, [1.0, 0.0]), 1.0, 2)
        np.testing.assert_array_equal(solution.v, [[3.0, 3.0], [1.0, 3.0], [0.0, 0.0]])
        np.testing.assert_array_equal(solution.policy, [[1, 0], [0, 0]])

    def test_endless_rewards_have_a_finite_sum(self):
        model = TabularModel.from_outcomes([(0, 0, 1.0, 0, 2.0, False)], 1, 1, [1.0])
        np.testing.assert_array_equal(
            finite_horizon(model, 1.0, 3, final_values=[10.0]).v[:, 0], [16.0, 14.0, 12.0, 10.0]
        )

    @pytest.mark.parametrize(
        ("fields", "message"),
        [({"steps": 0}, "steps 0"), ({"gamma": 1.5}, "gamma 1.5"), ({"final_values": [np.nan]}, "finite")],
    )
    def test_invalid_arguments_are_refused(self, fields, message):
        model = TabularModel.from_outcomes([(0, 0, 1.0, 0, 2.0, False)], 1, 1, [1.0])
        with pytest.raises(ValueError, match=message):
            finite_horizon(model, **{"gamma": 1.0, "steps": 3, **fields})
