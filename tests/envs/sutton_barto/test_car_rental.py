"""Jack's car rental: the policies of the book's figure, and probabilities against a plain enumeration."""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np
import pytest
from scipy import stats

from rl_lab.envs.sutton_barto.car_rental import bounded_poisson
from rl_lab.mdp.model import TabularModel
from rl_lab.mdp.solve import Solution, policy_evaluation, value_iteration
from tabular_envs import model_of, table

# Figure 4.2, pi_4: rows from 20 cars at the first place to 0, columns from 0 to 20 at the second.
CARS_MOVED = """
    5  5  5  5  4  4  3  3  3  3  2  2  2  2  2  1  1  1  0  0  0
    5  5  5  4  4  3  3  2  2  2  2  1  1  1  1  1  0  0  0  0  0
    5  5  5  4  3  3  2  2  1  1  1  1  0  0  0  0  0  0  0  0  0
    5  5  5  4  3  2  2  1  1  0  0  0  0  0  0  0  0  0  0  0  0
    5  5  5  4  3  2  1  1  0  0  0  0  0  0  0  0  0  0  0  0  0
    5  5  5  4  3  2  1  0  0  0  0  0  0  0  0  0  0  0  0  0  0
    5  5  4  4  3  2  1  0  0  0  0  0  0  0  0  0  0  0  0  0  0
    5  5  4  3  3  2  1  0  0  0  0  0  0  0  0  0  0  0  0  0  0
    5  5  4  3  2  2  1  0  0  0  0  0  0  0  0  0  0  0  0  0  0
    5  4  4  3  2  1  1  0  0  0  0  0  0  0  0  0  0  0  0  0  0
    4  4  3  3  2  1  0  0  0  0  0  0  0  0  0  0  0  0  0  0  0
    4  3  3  2  2  1  0  0  0  0  0  0  0  0  0  0  0  0  0  0  0
    3  3  2  2  1  1  0  0  0  0  0  0  0  0  0  0  0  0  0  0  0
    3  2  2  1  1  0  0  0  0  0  0  0  0  0  0  0  0  0  0  0  0
    2  2  1  1  0  0  0  0  0  0  0  0  0  0  0  0  0  0  0  0  0
    1  1  1  0  0  0  0  0  0  0  0  0  0  0  0  0  0  0  0  0  0
    0  0  0  0  0  0  0  0  0  0  0  0  0  0  0  0  0  0  0 -1 -1
    0  0  0  0  0  0  0  0  0  0  0  0  0  0  0 -1 -1 -1 -1 -1 -2
    0  0  0  0  0  0  0  0  0  0  0 -1 -1 -1 -1 -1 -2 -2 -2 -2 -2
    0  0  0  0  0  0  0  0  0 -1 -1 -1 -2 -2 -2 -2 -2 -3 -3 -3 -3
    0  0  0  0  0  0  0  0 -1 -1 -2 -2 -2 -3 -3 -3 -3 -3 -4 -4 -4
"""


@cache
def solved_rental() -> tuple[TabularModel, Solution]:
    model = model_of("CarRental")
    return model, value_iteration(model, 0.9, tolerance=1e-8)


def brute_day(requests: float, returns: float) -> tuple[np.ndarray, np.ndarray]:
    """Evenings [21, 21] and expected rentals [21] from mornings, by listing both Poisson numbers."""
    chance, rented = np.zeros((21, 21)), np.zeros(21)
    numbers = [(a, b) for a in range(50) for b in range(50)]
    weights = stats.poisson.pmf(np.arange(50), requests)[:, None] * stats.poisson.pmf(np.arange(50), returns)
    for morning in range(21):
        for asked, back in numbers:
            out = min(asked, morning)
            chance[morning, min(20, morning - out + back)] += weights[asked, back]
            rented[morning] += weights[asked, back] * out
    return chance, rented


class TestCarRental:
    def test_policy_is_that_of_figure_4_2(self):
        """The table was checked against two published solutions of others, cell by cell."""
        moved = solved_rental()[1].policy.reshape(21, 21)[::-1] - 5
        np.testing.assert_array_equal(moved, table(CARS_MOVED))
        assert (solved_rental()[1].optimal_actions.sum(axis=1) == 1).all()  # no ties to choose from

    def test_policy_iteration_from_never_moving_arrives_with_the_fourth_policy(self):
        """As figure 4.2 shows it: pi_4 is stable, pi_3 is not."""
        model, solution = solved_rental()
        policy, policies = np.full(441, 5), []
        for _ in range(5):
            policies.append(policy)
            values = policy_evaluation(model, np.eye(11)[policy], 0.9)
            q = model.expected_reward + 0.9 * (model.continuation @ values).reshape(441, 11)
            policy = np.where(model.available, q, -np.inf).argmax(axis=1)
        np.testing.assert_array_equal(policies[4], solution.policy)
        np.testing.assert_array_equal(policy, solution.policy)
        assert (policies[3] != solution.policy).any()

    def test_agrees_with_a_list_of_all_poisson_numbers(self):
        """Its own recursion, which shares nothing with the model: same rewards, same evenings."""
        model, _ = solved_rental()
        (p1, r1), (p2, r2) = brute_day(3, 3), brute_day(4, 2)
        rng = np.random.default_rng(0)
        for first, second, action in product((0, 3, 12, 20), (0, 7, 20), (0, 5, 8)):
            if not model.available[21 * first + second, action]:
                continue
            moved = action - 5
            a, b = min(first - moved, 20), min(second + moved, 20)
            row = 11 * (21 * first + second) + action
            values = rng.random(441)
            onward = float((model.continuation[row] @ values)[0])
            assert onward == pytest.approx(p1[a] @ values.reshape(21, 21) @ p2[b], abs=1e-10)
            reward = model.expected_reward.ravel()[row]
            assert reward == pytest.approx(10 * (r1[a] + r2[b]) - 2 * abs(moved), abs=1e-9)

    def test_truncated_poisson_puts_the_missing_mass_on_its_end(self):
        for mean, most in product((2.0, 3.0, 4.0), (0, 1, 5, 20)):
            p = bounded_poisson(mean, most)
            assert p.sum() == pytest.approx(1.0, abs=1e-14)
            np.testing.assert_allclose(p[:-1], stats.poisson.pmf(np.arange(most), mean), rtol=1e-12)

    def test_moves_are_masked_by_the_cars_there_are(self):
        available = solved_rental()[0].available.reshape(21, 21, 11)
        assert (available[2, 20].nonzero()[0] - 5).tolist() == [-5, -4, -3, -2, -1, 0, 1, 2]
        assert (available[20, 0].nonzero()[0] - 5).tolist() == [0, 1, 2, 3, 4, 5]
        assert available[5:, 5:].all()
