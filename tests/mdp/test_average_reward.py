"""The largest average reward, against brute force over all policies, a linear program and tables by hand."""

from __future__ import annotations

from itertools import product

import gymnasium
import numpy as np
import pytest
from garnets import garnet
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

import rl_lab
from rl_lab.mdp import average_methods
from rl_lab.mdp.average_reward import (
    AVERAGE_METHODS,
    Multichain,
    TooManyStates,
    evaluate_average,
    solve_average,
)
from rl_lab.mdp.model import TabularModel, extract_model
from rl_lab.mdp.rows import NotConverged


def build(outcomes, states, actions, initial=None) -> TabularModel:
    return TabularModel.from_outcomes(
        outcomes, states, actions, np.eye(states)[0] if initial is None else initial
    )


def lake() -> TabularModel:
    model = extract_model(gymnasium.make("FrozenLake-v1"))
    assert model is not None
    return model


# State 0 pays 1 and stays, or leads on for nothing; 1 and 2 go to and fro for 4 and 0: 2 per step.
CYCLE = [
    (0, 0, 1.0, 0, 1.0, False),
    (0, 1, 1.0, 1, 0.0, False),
    (1, 0, 1.0, 2, 4.0, False),
    (2, 0, 1.0, 1, 0.0, False),
]
# The same, but state 1 may also lead back: communicating.
LOOP = [*CYCLE, (1, 1, 1.0, 0, -3.0, False)]
# Two states that pay 1 and 2 for staying; each leads to the other, so that policies may have two classes.
TWO_HOMES = [
    (0, 0, 1.0, 0, 1.0, False), (0, 1, 1.0, 1, -5.0, False), (1, 0, 1.0, 1, 2.0, False), (1, 1, 1.0, 0, -5.0, False),
]  # fmt: skip
# Two homes without a way back from the second.
ONE_WAY = TWO_HOMES[:3]


def dense(model: TabularModel) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities [S, A, S] and rewards [S, A] with each end followed by the initial distribution."""
    chance = model.continuation.toarray().reshape(*model.available.shape, model.num_states)
    return chance + model.termination[:, :, None] * model.initial, model.expected_reward


def limit_of(chain: np.ndarray) -> np.ndarray:
    """Return the limiting matrix of a chain [S, S]: half of each step stays, so that no cycle hides it."""
    power = (chain + np.eye(len(chain))) / 2
    for _ in range(40):
        power = power @ power
        power /= power.sum(axis=1, keepdims=True)  # or rounding would add up
    return power


def policies_of(model: TabularModel):
    """Yield the chain, the rewards and the gains [S] of every deterministic policy."""
    chance, reward = dense(model)
    states = np.arange(model.num_states)
    for choice in product(*(np.flatnonzero(row) for row in model.available)):
        chain, paid = chance[states, choice], reward[states, choice]
        yield chain, paid, limit_of(chain)


def brute_gains(model: TabularModel) -> np.ndarray:
    """Return the largest gain from each state [S]."""
    return np.max([limit @ paid for _, paid, limit in policies_of(model)], axis=0)


def has_one_component(model: TabularModel) -> bool:
    """Return whether all states that some policy visits for ever reach one another, by the definition."""
    chance, _ = dense(model)
    lasting = np.any([(limit > 1e-9).any(axis=0) for _, _, limit in policies_of(model)], axis=0)
    edges = (chance.max(axis=1, where=model.available[:, :, None], initial=0.0) > 0).astype(float)
    reach = np.linalg.matrix_power(np.eye(model.num_states) + edges, model.num_states) > 0
    return bool(reach[np.ix_(lasting, lasting)].all())


def program_gain(model: TabularModel) -> float:
    """Return the least g for which some h has g + h(s) >= r + P h in every row, by a linear program."""
    chance, reward = dense(model)
    size = model.num_states
    rows = [(s, a) for s, a in product(range(size), range(model.num_actions)) if model.available[s, a]]
    table = np.array([np.append(chance[s, a] - np.eye(size)[s], -1.0) for s, a in rows])
    bounds = [(0, 0)] + [(None, None)] * size
    found = linprog(
        np.append(np.zeros(size), 1.0), table, -np.array([reward[s, a] for s, a in rows]), bounds=bounds
    )
    assert found.status == 0
    return float(found.fun)


def check_against_brute_force(model: TabularModel, method: str) -> None:
    """Require the largest gain, a policy that has it, its bias, and bounds that hold for all of them."""
    gains = brute_gains(model)
    solution = solve_average(model, method)
    assert np.ptp(gains) < 1e-9
    assert abs(solution.gain - gains[0]) <= solution.bound + 1e-11
    assert solution.bound <= 1e-10 * max(1.0, abs(solution.gain))
    chance, reward = dense(model)
    states = np.arange(model.num_states)
    chain, paid = chance[states, solution.policy], reward[states, solution.policy]
    limit = limit_of(chain)
    assert abs((limit @ paid) - gains).max() <= solution.bound + 1e-11
    assert solution.recurrent.tolist() == (limit[0] > 1e-12).tolist()
    deviation = np.linalg.solve(np.eye(len(chain)) - chain + limit, np.eye(len(chain)) - limit)
    assert abs(solution.bias - deviation @ paid).max() <= solution.bias_bound + 1e-10
    assert solution.bias_bound <= 1e-8
    np.testing.assert_allclose(solution.q.max(axis=1), solution.bias, atol=1e-9)
    assert (np.isneginf(solution.q) == ~model.available).all()
    assert solution.optimal_actions[states, solution.policy].all()


class TestByHand:
    @pytest.mark.parametrize("method", AVERAGE_METHODS)
    def test_a_way_to_the_better_cycle_is_taken_and_its_bias_known(self, method):
        """State 1 earns 2 above the gain and then 2 below: biases 1 and -1; state 0 pays 2 to get to state 1."""
        solution = solve_average(build(LOOP, 3, 2), method)
        assert solution.gain == pytest.approx(2.0, abs=solution.bound)
        np.testing.assert_allclose(solution.bias, [-1.0, 1.0, -1.0], atol=1e-12)
        assert solution.policy.tolist() == [1, 0, 0]
        assert solution.structure == "communicating"
        assert solution.recurrent.tolist() == [False, True, True]
        np.testing.assert_allclose(solution.q, [[-2.0, -1.0], [1.0, -6.0], [-1.0, -np.inf]], atol=1e-12)

    @pytest.mark.parametrize("method", AVERAGE_METHODS)
    def test_classes_of_a_policy_are_joined_at_the_better_one(self, method):
        """Both states stay where they are in the first policy found, and only one home is optimal."""
        solution = solve_average(build(TWO_HOMES, 2, 2), method, max_sweeps=1_000)
        assert (solution.gain, solution.policy.tolist()) == (pytest.approx(2.0), [1, 0])
        np.testing.assert_allclose(solution.bias, [-7.0, 0.0], atol=1e-12)

    @pytest.mark.parametrize("method", AVERAGE_METHODS)
    def test_an_episode_that_ends_is_followed_by_the_next(self, method):
        """Three steps for 6 in all are better than one for 1.5; what comes between two episodes takes no time."""
        outcomes = [
            (0, 0, 1.0, 0, 1.5, True), (0, 1, 1.0, 1, 0.0, False),
            (1, 0, 1.0, 2, 0.0, False), (2, 0, 1.0, 2, 6.0, True),
        ]  # fmt: skip
        solution = solve_average(build(outcomes, 3, 2), method)
        assert solution.gain == pytest.approx(2.0, abs=1e-12)
        np.testing.assert_allclose(solution.bias, [-2.0, 0.0, 2.0], atol=1e-12)

    @pytest.mark.parametrize("method", AVERAGE_METHODS)
    def test_where_all_is_equal_the_policy_has_one_class(self, method):
        """Every policy earns nothing; staying, the first action, would make a class of each state."""
        outcomes = [(s, a, 1.0, s if a == 0 else 1 - s, 0.0, False) for s, a in product(range(2), range(2))]
        solution = solve_average(build(outcomes, 2, 2), method)
        assert (solution.gain, solution.optimal_actions.all()) == (0.0, True)
        assert solution.recurrent.sum() >= 1
        evaluate_average(build(outcomes, 2, 2), np.eye(2)[solution.policy])

    def test_the_first_of_tied_actions_is_taken(self):
        outcomes = [(0, a, 1.0, 0, reward, False) for a, reward in enumerate((0.0, 1.0, 1.0))]
        solution = solve_average(build(outcomes, 1, 3))
        assert solution.policy.tolist() == [1]
        assert solution.optimal_actions.tolist() == [[False, True, True]]

    def test_the_gain_of_the_frozen_lake_is_its_best_reward_per_step(self):
        """The policy that reaches the goal most often isn't the one that does so most often per step."""
        model = lake()
        solution = solve_average(model)
        assert solution.gain == pytest.approx(0.0179738562, abs=1e-9)
        assert solution.structure == "weakly communicating"
        assert not solution.recurrent[[5, 7, 11, 12, 15]].any()  # holes and goal only end episodes


class TestStructure:
    @pytest.mark.parametrize("method", AVERAGE_METHODS)
    def test_a_multichain_model_is_refused_by_name(self, method):
        named = (
            r"^multichain: no policy goes from state 0 to state 1 and back .* \(allowed: unichain and weakly"
        )
        with pytest.raises(Multichain, match=named):
            solve_average(build(ONE_WAY, 2, 2), method)

    def test_states_left_for_good_make_a_model_weakly_communicating(self):
        assert solve_average(build(CYCLE[1:], 3, 2)).structure == "weakly communicating"

    def test_a_part_that_the_start_does_not_lead_to_is_left_out(self):
        """State 2 could stay at home for 9, but nothing leads there."""
        outcomes = [*TWO_HOMES, (2, 1, 1.0, 2, 9.0, False), (2, 1, 0.0, 0, 0.0, False)]
        solution = solve_average(build(outcomes, 3, 2))
        assert solution.gain == pytest.approx(2.0)
        assert solution.solved.tolist() == [True, True, False]
        assert np.isnan(solution.bias).tolist() == [False, False, True]
        assert np.isnan(solution.q).tolist() == [[False, False], [False, False], [False, True]]
        assert solution.policy.tolist() == [1, 0, 1]
        assert solution.recurrent.tolist() == [False, True, False]

    @settings(max_examples=50, deadline=None, derandomize=True)
    @given(st.data())
    def test_refused_is_just_what_has_several_components(self, data):
        """Deterministic models of three states, from all of which an episode may start."""
        draw = lambda most: data.draw(st.integers(0, most))  # noqa: E731
        outcomes = [
            (s, a, 1.0, draw(2), float(draw(3)), draw(5) == 0) for s, a in product(range(3), range(2))
        ]
        model = build(outcomes, 3, 2, np.full(3, 1 / 3))
        if has_one_component(model):
            check_against_brute_force(model, "average-policy-iteration")
        else:
            with pytest.raises(Multichain):
                solve_average(model)


RANDOM = st.builds(
    garnet,
    seed=st.integers(0, 10**6),
    states=st.integers(1, 5),
    actions=st.integers(1, 3),
    branches=st.integers(1, 3),
    ending=st.sampled_from([0.0, 0.0, 0.2]),
)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(RANDOM, st.sampled_from(sorted(AVERAGE_METHODS)))
def test_random_models_agree_with_brute_force_and_a_linear_program(model, method):
    try:
        solution = solve_average(model, method)
    except Multichain:
        return
    if not solution.solved.all():
        return
    check_against_brute_force(model, method)
    assert solution.gain == pytest.approx(program_gain(model), abs=1e-7)


def test_a_linear_program_agrees_on_larger_models():
    for model in (lake(), garnet(3, 60, 3, 3), garnet(4, 60, 3, 3, ending=0.1)):
        for method in AVERAGE_METHODS:
            assert solve_average(model, method).gain == pytest.approx(program_gain(model), abs=1e-7)


class TestEvaluation:
    def test_the_bias_averages_to_nothing_and_solves_poissons_equation(self):
        model = garnet(1, 30, 3, 3, ending=0.2)
        policy = model.available / model.available.sum(axis=1, keepdims=True)
        found = evaluate_average(model, policy)
        chance, reward = dense(model)
        chain, paid = np.einsum("sa,sat->st", policy, chance), (policy * reward).sum(axis=1)
        share = limit_of(chain)[0]
        assert abs(found.gain - share @ paid) <= found.gain_bound + 1e-12
        assert abs(share @ found.bias) <= found.bias_bound + 1e-12
        missed = paid - found.gain + chain @ found.bias - found.bias
        assert abs(missed).max() <= 1e-12
        assert found.bias_bound < 1e-9

    def test_a_policy_with_two_classes_is_refused_by_name(self):
        with pytest.raises(Multichain, match=r"^multichain: the policy stays for ever around state 0 or"):
            evaluate_average(build(TWO_HOMES, 2, 2), np.array([[1.0, 0.0], [1.0, 0.0]]))

    @pytest.mark.parametrize(
        ("policy", "message"),
        [([[1.0, 0.0]], "shape"), ([[0.5, 0.4], [1.0, 0.0]], "state 0 isn't a distribution")],
    )
    def test_refuses_an_invalid_policy(self, policy, message):
        with pytest.raises(ValueError, match=message):
            evaluate_average(build(TWO_HOMES, 2, 2), np.array(policy))


class TestLimits:
    def test_a_large_model_is_certified_by_sweeps_alone(self, monkeypatch):
        model = garnet(5, 60, 3, 4, ending=0.1)
        truth = solve_average(model, "average-policy-iteration")
        monkeypatch.setattr(average_methods, "DIRECT_STATES", 10)
        swept = solve_average(model, tolerance=1e-6)
        assert abs(swept.gain - truth.gain) <= swept.bound <= 1e-6
        assert swept.bias_bound == np.inf
        reached = evaluate_average(model, np.eye(3)[swept.policy])
        assert reached.gain >= truth.gain - swept.bound
        assert swept.optimal_actions[truth.optimal_actions].all()
        with pytest.raises(
            TooManyStates, match=r"60 states directly \(allowed: up to 10 states; relative-value"
        ):
            solve_average(model, "average-policy-iteration")

    def test_reports_fall_to_the_tolerance_and_bound_the_gain(self):
        seen: list[tuple[int, float, float]] = []
        model = garnet(1, 20, 3, 3, ending=0.1)
        solution = solve_average(model, on_sweep=lambda *row: seen.append(row))
        assert [row[0] for row in seen] == list(range(1, solution.sweeps + 1))
        assert seen[-1][2] <= 1e-10 < seen[-2][2]
        for _, gain, bound in seen:
            assert abs(gain - solution.gain) <= bound + 1e-12

    @pytest.mark.parametrize("method", AVERAGE_METHODS)
    def test_too_few_sweeps_are_an_error_that_says_what_is_known(self, method):
        with pytest.raises(NotConverged, match=r"max_sweeps = 1|after 1 rounds.*known to"):
            solve_average(lake(), method, max_sweeps=1)

    @pytest.mark.parametrize("method", AVERAGE_METHODS)
    def test_a_tolerance_below_float64_is_an_error(self, method):
        with pytest.raises(NotConverged, match=r"can't be certified below .* not 1\.0e-17"):
            solve_average(lake(), method, tolerance=1e-17)

    @pytest.mark.parametrize("fields", [{"tolerance": 0.0}, {"max_sweeps": 0}, {"method": "simplex"}])
    def test_invalid_arguments_are_refused(self, fields):
        with pytest.raises(ValueError, match=r"must be above 0|allowed: relative-value-iteration"):
            solve_average(lake(), **fields)

    def test_the_environments_that_people_have_are_solved_alike(self):
        for env_id in ("Taxi-v4", "lab/SuttonGrid5x5-v0"):
            model = extract_model(rl_lab.make_env(env_id))
            swept, improved = (solve_average(model, method, tolerance=1e-9) for method in AVERAGE_METHODS)
            assert abs(swept.gain - improved.gain) <= swept.bound + improved.bound
            np.testing.assert_array_equal(swept.policy, improved.policy)
