"""Exact solutions against hand-computed tables, rational arithmetic and a linear program."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import gymnasium
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from rl_lab.mdp.model import TabularModel, extract_model
from rl_lab.mdp.rows import NeverEnds, NotConverged, list_rows
from rl_lab.mdp.solve import policy_evaluation, value_iteration
from rl_lab.mdp.undiscounted import certify

# From 0: stay for 1, or move on for 0. From 1: stay for 2, or end for 10.
HAND = [
    (0, 0, 1.0, 0, 1.0, False),
    (0, 1, 1.0, 1, 0.0, False),
    (1, 0, 1.0, 1, 2.0, False),
    (1, 1, 1.0, 1, 10.0, True),
]


def build(outcomes, num_states, num_actions) -> TabularModel:
    return TabularModel.from_outcomes(outcomes, num_states, num_actions, np.eye(num_states)[0])


def toy(env_id: str, **fields) -> TabularModel:
    model = extract_model(gymnasium.make(env_id, **fields))
    assert model is not None
    return model


def greedy(model: TabularModel, actions) -> np.ndarray:
    return np.eye(model.num_actions)[np.asarray(actions)]


class TestPolicyEvaluation:
    @pytest.mark.parametrize(
        ("policy", "gamma", "values"),
        [
            ([[1, 0], [1, 0]], 0.5, [2.0, 4.0]),
            ([[0, 1], [0, 1]], 0.5, [5.0, 10.0]),
            ([[0, 1], [0, 1]], 1.0, [10.0, 10.0]),
            ([[0, 1], [0.5, 0.5]], 1.0, [12.0, 12.0]),  # v1 = 0.5 * (2 + v1) + 0.5 * 10
            ([[0.5, 0.5], [0, 1]], 0.0, [0.5, 10.0]),
        ],
    )
    def test_hand_computed(self, policy, gamma, values):
        result = policy_evaluation(build(HAND, 2, 2), np.array(policy, float), gamma)
        np.testing.assert_allclose(result, values, rtol=1e-14)

    def test_refuses_endless_rewards_without_discount(self):
        with pytest.raises(NeverEnds, match=r"state 0 .* take gamma below 1"):
            policy_evaluation(build(HAND, 2, 2), np.array([[1.0, 0], [0, 1.0]]), 1.0)

    def test_going_on_for_ever_at_no_reward_is_worth_nothing(self):
        model = build([(0, 0, 1.0, 1, 3.0, False), (1, 0, 1.0, 1, 0.0, False)], 2, 1)
        np.testing.assert_array_equal(policy_evaluation(model, np.ones((2, 1)), 1.0), [3.0, 0.0])

    @pytest.mark.parametrize(
        ("policy", "message"),
        [
            ([[0.5, 0.4], [0, 1]], "state 0 isn't a distribution"),
            ([[1.5, -0.5], [0, 1]], "state 0 isn't a distribution"),
            ([[0, 1], [np.nan, 1]], "state 1 isn't a distribution"),
            ([[1, 0]], "shape"),
        ],
    )
    def test_refuses_an_invalid_policy(self, policy, message):
        with pytest.raises(ValueError, match=message):
            policy_evaluation(build(HAND, 2, 2), np.array(policy, float), 0.5)

    def test_refuses_actions_without_outcomes(self):
        with pytest.raises(ValueError, match="action 1 in state 1"):
            policy_evaluation(build(HAND[:3], 2, 2), np.array([[0, 1.0], [0, 1.0]]), 0.5)

    @pytest.mark.parametrize("gamma", [-0.1, 1.1, np.nan])
    def test_refuses_a_gamma_out_of_range(self, gamma):
        with pytest.raises(ValueError, match="gamma"):
            policy_evaluation(build(HAND, 2, 2), np.full((2, 2), 0.5), gamma)


class TestValueIteration:
    def test_hand_computed(self):
        solution = value_iteration(build(HAND, 2, 2), 0.5)
        np.testing.assert_allclose(solution.v, [5.0, 10.0], rtol=1e-14)
        np.testing.assert_allclose(solution.q, [[3.5, 5.0], [7.0, 10.0]], rtol=1e-14)
        np.testing.assert_array_equal(solution.policy, [1, 1])
        np.testing.assert_array_equal(solution.optimal_actions, [[False, True], [False, True]])

    def test_unavailable_actions_are_minus_infinity(self):
        solution = value_iteration(build([(0, 1, 1.0, 0, -5.0, True)], 1, 2), 0.9)
        np.testing.assert_array_equal(solution.q, [[-np.inf, -5.0]])
        np.testing.assert_array_equal(solution.policy, [1])

    def test_unavailable_actions_with_outcomes_are_not_taken(self):
        rows = [(0, 0, 1.0, 0, 9.0, True), (0, 1, 1.0, 0, -5.0, True)]
        model = TabularModel.from_outcomes(rows, 1, 2, [1.0], available=np.array([[False, True]]))
        np.testing.assert_array_equal(value_iteration(model, 0.9).v, [-5.0])

    def test_ties_give_the_first_action_and_name_all(self):
        rows = [(0, a, 1.0, 0, r, True) for a, r in enumerate((0.0, 1.0, 1.0 + 1e-15, 1.0 - 1e-6))]
        solution = value_iteration(build(rows, 1, 4), 0.9)
        np.testing.assert_array_equal(solution.policy, [1])
        np.testing.assert_array_equal(solution.optimal_actions, [[False, True, True, False]])

    def test_values_are_right_where_a_span_criterion_stops_too_early(self):
        """All states change alike, so the span of the first change is 0 and V is still far off."""
        rows = [(s, 0, 1.0, 1 - s, 1.0, False) for s in (0, 1)]
        solution = value_iteration(build(rows, 2, 1), 0.99)
        np.testing.assert_allclose(solution.v, 100.0, rtol=1e-13)
        assert solution.sweeps > 1000

    def test_frozen_lake_reference_numbers(self):
        model = toy("FrozenLake-v1")
        assert value_iteration(model, 0.99).v[0] == pytest.approx(0.542, abs=5e-4)
        assert value_iteration(model, 1.0).v[0] == pytest.approx(14 / 17, abs=1e-12)  # 0.8235

    @pytest.mark.parametrize(
        ("env_id", "gamma"),
        [("FrozenLake-v1", 0.9), ("FrozenLake-v1", 0.99), ("CliffWalkingSlippery-v1", 0.9)],
    )
    def test_agrees_with_a_linear_program(self, env_id, gamma):
        model = toy(env_id)
        optimum = value_iteration(model, gamma)
        start = np.repeat(np.arange(model.num_states), model.num_actions)
        constraints = gamma * model.continuation.toarray() - np.eye(model.num_states)[start]
        program = linprog(
            np.ones(model.num_states),
            A_ub=constraints,
            b_ub=-model.expected_reward.ravel(),
            bounds=(None, None),
            method="highs",
            options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
        )
        # HiGHS is exact to its tolerance over 1 - gamma; its policy, evaluated exactly, is exact.
        q = model.expected_reward.ravel() + gamma * (model.continuation @ program.x)
        policy = greedy(model, q.reshape(model.available.shape).argmax(axis=1))
        np.testing.assert_allclose(policy_evaluation(model, policy, gamma), optimum.v, rtol=0, atol=1e-8)
        np.testing.assert_allclose(program.x, optimum.v, rtol=0, atol=1e-6)

    @pytest.mark.parametrize("gamma", [0.0, 0.9, 0.999, 1.0])
    @pytest.mark.parametrize("env_id", ["FrozenLake-v1", "CliffWalking-v1", "Taxi-v4"])
    def test_values_are_those_of_the_policy_returned(self, env_id, gamma):
        model = toy(env_id)
        solution = value_iteration(model, gamma)
        exact = policy_evaluation(model, greedy(model, solution.policy), gamma)
        np.testing.assert_allclose(solution.v, exact, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(solution.v, solution.q.max(axis=1), rtol=1e-12, atol=1e-12)
        assert solution.optimal_actions[np.arange(model.num_states), solution.policy].all()
        np.testing.assert_array_equal(np.isneginf(solution.q), ~model.available)
        assert solution.bound <= 1e-10 * max(1.0, np.abs(solution.v).max())

    def test_final_states_are_worth_nothing(self):
        assert value_iteration(toy("CliffWalking-v1"), 0.99).v[47] == 0.0

    def test_sweeps_are_reported_with_a_falling_bound(self):
        seen = []
        model = toy("FrozenLake-v1")
        solution = value_iteration(model, 0.9, on_sweep=lambda *row: seen.append(row))
        sweeps, values, bounds = zip(*seen, strict=True)
        assert sweeps == tuple(range(1, solution.sweeps + 1))
        assert bounds[-1] <= 1e-10 < bounds[-2]
        for v, bound in zip(values, bounds, strict=True):
            assert np.abs(v - solution.v).max() <= bound + 1e-12

    def test_reaching_max_sweeps_is_an_error_that_names_the_residual(self):
        with pytest.raises(NotConverged, match=r"max_sweeps = 3 with a residual of 0\.0"):
            value_iteration(toy("FrozenLake-v1"), 0.99, max_sweeps=3)

    def test_a_tolerance_below_float64_is_an_error(self):
        with pytest.raises(NotConverged, match="float64"):
            value_iteration(toy("FrozenLake-v1"), 0.9, tolerance=1e-15)

    @pytest.mark.parametrize("fields", [{"tolerance": 0.0}, {"max_sweeps": 0}])
    def test_refuses_arguments_with_which_it_could_not_stop(self, fields):
        with pytest.raises(ValueError, match="must be above 0"):
            value_iteration(build(HAND, 2, 2), 0.9, **fields)


class TestWithoutDiscount:
    def test_steps_that_cost_find_the_shortest_way(self):
        assert value_iteration(toy("CliffWalking-v1"), 1.0).v[36] == pytest.approx(-13.0, abs=1e-12)

    def test_free_cycles_neither_stall_nor_add_value(self):
        """In state 0, action 0 bumps into a wall for nothing: as good as moving on, and never arrives."""
        rows = [
            (0, 0, 1.0, 0, 0.0, False),
            (0, 1, 1.0, 1, 0.0, False),
            (1, 0, 1.0, 0, 0.0, False),
            (1, 1, 1.0, 1, 1.0, True),
        ]
        solution = value_iteration(build(rows, 2, 2), 1.0)
        np.testing.assert_array_equal(solution.v, [1.0, 1.0])
        np.testing.assert_array_equal(solution.policy, [1, 1])
        np.testing.assert_array_equal(solution.optimal_actions, [[True, True], [True, True]])

    def test_staying_away_for_ever_beats_a_loss(self):
        rows = [(0, 0, 1.0, 0, -1.0, True), (0, 1, 1.0, 0, 0.0, False)]
        solution = value_iteration(build(rows, 1, 2), 1.0)
        np.testing.assert_array_equal(solution.v, [0.0])
        np.testing.assert_array_equal(solution.policy, [1])

    def test_frozen_lake_without_slip_arrives(self):
        model = toy("FrozenLake-v1", is_slippery=False)
        solution = value_iteration(model, 1.0)
        assert solution.v[0] == 1.0
        assert policy_evaluation(model, greedy(model, solution.policy), 1.0)[0] == 1.0

    def test_values_short_of_the_optimum_get_a_bound_that_covers_it_or_none(self):
        """Action 0 ends for 1, action 1 for a millionth more: the values of action 0 are off by that."""
        rows = list_rows(build([(0, 0, 1.0, 0, 1.0, True), (0, 1, 1.0, 0, 1.000001, True)], 1, 2))
        chosen, values = np.array([0]), np.array([1.0])
        assert 1e-6 <= certify(rows, chosen, values, tolerance=1e-3) <= 1e-3
        with pytest.raises(NotConverged, match="certified"):
            certify(rows, chosen, values, tolerance=1e-7)

    def test_endless_costs_are_refused(self):
        with pytest.raises(NeverEnds, match="state 0"):
            value_iteration(build([(0, 0, 1.0, 0, -1.0, False)], 1, 1), 1.0)

    def test_endless_gains_are_refused(self):
        with pytest.raises(NeverEnds, match="earns without end"):
            value_iteration(build(HAND, 2, 2), 1.0, max_sweeps=500)


REWARDS = [0.0, 0.0, 0.0, -1.0, 1.0, -2.0, 3.0]  # zeros are what makes free circles
PROBABILITIES = [
    (4, 0, 0),
    (3, 1, 0),
    (2, 1, 1),
    (0, 4, 0),
    (0, 2, 2),
    (1, 0, 3),
]  # in quarters: exact floats


@st.composite
def small_models(draw) -> TabularModel:
    """Draw a model whose probabilities and rewards float64 holds exactly."""
    size, actions = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    rows = []
    for s, a in product(range(size), range(actions)):
        for quarters in draw(st.sampled_from(PROBABILITIES)):
            if quarters:
                successor, reward = draw(st.integers(0, size - 1)), draw(st.sampled_from(REWARDS))
                rows.append((s, a, quarters / 4, successor, reward, draw(st.booleans())))
    return TabularModel.from_outcomes(rows, size, actions, np.eye(size)[0])


def solve_exactly(matrix: list[list[Fraction]], vector: list[Fraction]) -> list[Fraction] | None:
    """Solve a linear system in rational numbers; None where it is singular."""
    size = len(vector)
    rows = [list(row) + [value] for row, value in zip(matrix, vector, strict=True)]
    for i in range(size):
        pivot = next((k for k in range(i, size) if rows[k][i] != 0), None)
        if pivot is None:
            return None
        rows[i], rows[pivot] = rows[pivot], rows[i]
        rows[i] = [x / rows[i][i] for x in rows[i]]
        for k in range(size):
            if k != i:
                rows[k] = [x - rows[k][i] * y for x, y in zip(rows[k], rows[i], strict=True)]
    return [row[-1] for row in rows]


def evaluate_exactly(model: TabularModel, actions: tuple[int, ...], gamma: Fraction) -> list[Fraction] | None:
    size = model.num_states
    matrix = [[Fraction(int(i == j)) for j in range(size)] for i in range(size)]
    vector = [Fraction(0)] * size
    for s, a in enumerate(actions):
        row = s * model.num_actions + a
        for k in range(model.indptr[row], model.indptr[row + 1]):
            p = Fraction(model.probability[k])
            vector[s] += p * Fraction(model.reward[k])
            if not model.terminated[k]:
                matrix[s][model.successor[k]] -= gamma * p
    return solve_exactly(matrix, vector)


def optimum_exactly(model: TabularModel, gamma: Fraction) -> np.ndarray:
    """Return the best value of each state over all deterministic policies that have one."""
    policies = product(range(model.num_actions), repeat=model.num_states)
    values = [v for actions in policies if (v := evaluate_exactly(model, actions, gamma)) is not None]
    return np.array([max(v[s] for v in values) for s in range(model.num_states)])


class TestCertifiedBound:
    @settings(max_examples=150, deadline=None, derandomize=True)
    @given(small_models(), st.sampled_from([0.0, 0.5, 0.875, 0.9990234375]))
    def test_holds_against_rational_arithmetic(self, model, gamma):
        solution = value_iteration(model, gamma)
        truth = optimum_exactly(model, Fraction(gamma))
        error = max(abs(Fraction(v) - t) for v, t in zip(solution.v, truth, strict=True))
        assert error <= Fraction(solution.bound)
        assert solution.bound <= 1e-10 * max(1.0, np.abs(solution.v).max())

    @settings(max_examples=150, deadline=None, derandomize=True)
    @given(small_models())
    def test_holds_without_discount_wherever_it_is_given(self, model):
        try:
            solution = value_iteration(model, 1.0, max_sweeps=2000)
        except (NeverEnds, NotConverged):
            return
        truth = optimum_without_discount(model)
        error = max(abs(Fraction(v) - t) for v, t in zip(solution.v, truth, strict=True))
        assert error <= Fraction(solution.bound)


def optimum_without_discount(model: TabularModel) -> np.ndarray:
    """Take gamma so near to 1, in rational numbers, that the limit can be read off."""
    values = optimum_exactly(model, 1 - Fraction(1, 10**40))
    return np.array([Fraction(v).limit_denominator(10**9) for v in values])
