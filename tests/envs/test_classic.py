"""The classic finite problems: their rules, and the figures of the book."""

from __future__ import annotations

from functools import cache
from itertools import product

import gymnasium
import numpy as np
import pytest
from scipy import stats

from rl_lab.envs.boards import Board
from rl_lab.envs.car_rental import bounded_poisson
from rl_lab.mdp.methods import METHODS
from rl_lab.mdp.model import TabularModel, extract_model
from rl_lab.mdp.solve import Solution, policy_evaluation, solve, value_iteration
from tabular_envs import best_return, evaluate_evenly, make, model_of, play

UP, RIGHT, DOWN, LEFT = range(4)


def table(text: str) -> np.ndarray:
    return np.array([[float(x) for x in line.split()] for line in text.strip().splitlines()])


class TestSuttonGrid4x4:
    def test_values_of_the_even_policy_are_those_of_figure_4_1(self):
        figure = table("0 -14 -20 -22\n-14 -18 -20 -20\n-20 -20 -18 -14\n-22 -20 -14 0")
        values = evaluate_evenly(model_of("SuttonGrid4x4"), 1.0)
        np.testing.assert_allclose(values.reshape(4, 4), figure, atol=1e-11)

    def test_optimal_values_are_the_distances(self):
        figure = table("0 -1 -2 -3\n-1 -2 -3 -2\n-2 -3 -2 -1\n-3 -2 -1 0")
        values = value_iteration(model_of("SuttonGrid4x4"), 1.0).v
        np.testing.assert_allclose(values.reshape(4, 4), figure, atol=1e-11)


class TestSuttonGrid5x5:
    def test_values_of_the_even_policy_are_those_of_figure_3_2(self):
        figure = table("""
            3.3 8.8 4.4 5.3 1.5
            1.5 3.0 2.3 1.9 0.5
            0.1 0.7 0.7 0.4 -0.4
            -1.0 -0.4 -0.4 -0.6 -1.2
            -1.9 -1.3 -1.2 -1.4 -2.0
        """)
        values = evaluate_evenly(model_of("SuttonGrid5x5"), 0.9)
        np.testing.assert_allclose(values.reshape(5, 5), figure, atol=0.0501)

    def test_optimal_values_are_those_of_figure_3_5(self):
        figure = table("""
            22.0 24.4 22.0 19.4 17.5
            19.8 22.0 19.8 17.8 16.0
            17.8 19.8 17.8 16.0 14.4
            16.0 17.8 16.0 14.4 13.0
            14.4 16.0 14.4 13.0 11.7
        """)
        values = value_iteration(model_of("SuttonGrid5x5"), 0.9).v
        np.testing.assert_allclose(values.reshape(5, 5), figure, atol=0.0501)

    def test_is_cut_but_never_ends(self):
        env = make("SuttonGrid5x5")
        env.reset(seed=0)
        results = [env.step(UP)[2:4] for _ in range(100)]
        assert results == [(False, False)] * 99 + [(False, True)]


class TestWindyGrid:
    @pytest.mark.parametrize(("moves", "steps"), [(4, 15), (8, 7), (9, 7)])
    def test_shortest_way(self, moves, steps):
        assert best_return(model_of("WindyGrid", moves=moves)) == pytest.approx(-steps)

    def test_the_way_of_the_book(self):
        """Right along the row and beyond the goal, down the calm column, and back (example 6.5)."""
        seen, total, terminated = play(make("WindyGrid"), [RIGHT] * 9 + [DOWN] * 4 + [LEFT] * 2)
        assert (total, terminated) == (-15, True)
        assert [divmod(s, 10) for s in seen[4:]] == [
            (2, 4), (1, 5), (0, 6), (0, 7), (0, 8), (0, 9), (1, 9), (2, 9), (3, 9), (4, 9), (4, 8), (3, 7)
        ]  # fmt: skip

    def test_stochastic_wind_by_hand(self):
        """Right out of column 3 (wind 1): lifted by 0, 1 or 2 cells, cut at the border."""
        model = model_of("WindyGrid", stochastic=True)
        onward = model.continuation.toarray().reshape(70, 4, 70)
        third = 1 / 3
        assert {int(s): onward[13, RIGHT, s] for s in np.flatnonzero(onward[13, RIGHT])} == pytest.approx(
            {14: third, 4: 2 * third}
        )
        assert onward[10, RIGHT, 11] == pytest.approx(1.0)  # no wind, no gust


class TestCliff:
    def test_best_return(self):
        assert best_return(model_of("Cliff")) == pytest.approx(-13)

    def test_the_safe_way_of_the_book_pays_minus_17(self):
        assert play(make("Cliff"), [UP] * 3 + [RIGHT] * 11 + [DOWN] * 3)[1:] == (-17, True)

    def test_falling_leads_to_the_start_and_on(self):
        assert play(make("Cliff"), [RIGHT, UP]) == ([36, 36, 24], -101, False)

    def test_agrees_with_gymnasiums(self):
        theirs = extract_model(gymnasium.make("CliffWalking-v1"))
        ours = model_of("Cliff")
        reachable = np.r_[0:37, 47]
        np.testing.assert_array_equal(ours.expected_reward[reachable], theirs.expected_reward[reachable])
        np.testing.assert_allclose(
            value_iteration(ours, 0.9).v[reachable], value_iteration(theirs, 0.9).v[reachable], rtol=1e-12
        )


class TestDynaMaze:
    @pytest.mark.parametrize(
        ("maze", "changed", "steps"),
        [
            ("dyna", False, 14),
            ("blocking", False, 10),
            ("blocking", True, 16),
            ("shortcut", False, 16),
            ("shortcut", True, 10),
        ],
    )
    def test_shortest_way(self, maze, changed, steps):
        value = best_return(model_of("DynaMaze", maze=maze, changed=changed), 0.95)
        assert value == pytest.approx(0.95 ** (steps - 1), rel=1e-12)

    def test_a_change_keeps_the_numbers_of_the_cells(self):
        old, new = (model_of("DynaMaze", maze="blocking", changed=changed) for changed in (False, True))
        assert old.num_states == new.num_states == 54
        moved = np.flatnonzero((old.expected_reward != new.expected_reward).any(axis=1))
        assert moved.size == 0  # the goal is where it was
        np.testing.assert_array_equal(old.initial, new.initial)

    @pytest.mark.parametrize(
        ("fields", "message"), [({"maze": "x"}, "maze 'x'"), ({"changed": True}, "changed True")]
    )
    def test_refusals(self, fields, message):
        with pytest.raises(ValueError, match=message):
            make("DynaMaze", **fields)


class TestBoard:
    def test_counts_walls_as_cells_that_hold_back(self):
        board = Board((".#", ".."))
        assert board.neighbours.tolist() == [[0, 0, 2, 0], [1, 1, 3, 0], [0, 3, 2, 2], [3, 3, 3, 2]]


# The gambler's problem -----------------------------------------------------------------------------------


def printed_stakes() -> np.ndarray:
    """The stakes [101] of figure 4.3: 50 at 50, 25 at 25 and 75, 12 around 12, 37, 62 and 87, ..."""
    stakes = np.zeros(101, dtype=int)
    for capital in range(1, 100):
        folded = capital % 25  # distance to the nearest multiple of 25 below
        stakes[capital] = min(folded, 25 - folded) if folded else min(capital, 100 - capital)
    return stakes


def bold_stakes() -> np.ndarray:
    return np.minimum(np.arange(101), 100 - np.arange(101))


class TestGambler:
    @pytest.mark.parametrize("method", METHODS)
    def test_undiscounted_values_are_certified_by_every_method(self, method):
        """Many stakes are tied, and some of them go on for longer than others."""
        solution = solve(model_of("Gambler"), 1.0, method)
        np.testing.assert_allclose(solution.v[[25, 50, 75]], [0.16, 0.4, 0.64], atol=1e-12)
        assert solution.bound < 1e-10

    """Below even odds bold play is optimal (Dubins and Savage, 1965): that gives the exact values."""

    model = property(lambda self: model_of("Gambler"))

    def values(self) -> np.ndarray:
        policy = np.eye(51)[bold_stakes()]
        return policy_evaluation(self.model, policy, 1.0)

    def action_values(self) -> np.ndarray:
        model = self.model
        q = model.expected_reward + (model.continuation @ self.values()).reshape(101, 51)
        return np.where(model.available, q, -np.inf)

    def test_values_by_hand(self):
        values = self.values()
        np.testing.assert_allclose(values[[25, 50, 75]], [0.16, 0.4, 0.64], rtol=1e-13)

    def test_no_stake_beats_bold_play(self):
        """So its values solve Bellman's equation, and being attained they are the optimum."""
        best = self.action_values()[1:100].max(axis=1)
        np.testing.assert_allclose(best, self.values()[1:100], rtol=1e-12)

    def test_every_stake_that_figure_4_3_prints_is_optimal(self):
        q, printed = self.action_values(), printed_stakes()
        assert printed[[12, 13, 25, 37, 38, 50, 62, 75, 87]].tolist() == [12, 12, 25, 12, 12, 50, 12, 25, 12]
        for capital in range(1, 100):
            assert q[capital, printed[capital]] == pytest.approx(q[capital].max(), rel=1e-12)
        optimal = q[51] >= q[51].max() * (1 - 1e-12)
        assert np.flatnonzero(optimal).tolist() == [1, 49]

    def test_stakes_are_masked_by_the_capital(self):
        env = make("Gambler", start=30)
        _, info = env.reset(seed=0)
        assert info["action_mask"].dtype == np.int8
        assert np.flatnonzero(info["action_mask"]).tolist() == list(range(1, 31))
        assert model_of("Gambler").available[80].nonzero()[0].tolist() == list(range(1, 21))
        assert env.step(50)[0] in (0, 60)  # too much counts as all there is

    @pytest.mark.parametrize("fields", [{"p_heads": 0.0}, {"p_heads": 1.5}, {"start": 0}, {"start": 100}])
    def test_refusals(self, fields):
        with pytest.raises(ValueError, match=next(iter(fields))):
            make("Gambler", **fields)


# Jack's car rental -----------------------------------------------------------------------------------------

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
