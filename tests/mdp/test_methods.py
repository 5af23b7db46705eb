"""All ways to the optimum agree, with one another, with other libraries and with brute force."""

from __future__ import annotations

import subprocess
import sys

import gymnasium
import numpy as np
import pytest
from garnets import garnet
from hypothesis import given, settings
from hypothesis import strategies as st
from mdptoolbox.mdp import PolicyIteration
from quantecon.markov import DiscreteDP
from threadpoolctl import threadpool_info, threadpool_limits

import rl_lab
from rl_lab.mdp import krylov, methods
from rl_lab.mdp import solve as solving
from rl_lab.mdp import sweeps as sweeping
from rl_lab.mdp.exchange import to_pymdptoolbox, to_quantecon
from rl_lab.mdp.methods import METHODS, SolverTask
from rl_lab.mdp.model import TabularModel, extract_model
from rl_lab.mdp.rows import NeverEnds, NotConverged, list_rows
from rl_lab.mdp.solve import (
    evaluate_directly,
    evaluate_iteratively,
    policy_evaluation,
    solve,
    value_iteration,
)
from rl_lab.mdp.sweeps import CompiledSweeps, PlainSweeps, make_sweeps

SWEEPING = ["value-iteration", "gauss-seidel", "prioritised-sweeping", "modified-policy-iteration"]


def lake(**fields) -> TabularModel:
    model = extract_model(gymnasium.make("FrozenLake-v1", **fields))
    assert model is not None
    return model


def optimum_precisely(model: TabularModel, gamma: float) -> np.ndarray:
    """Return V* in extended precision, by dense policy iteration and refinement."""
    size, wide = model.num_states, np.longdouble
    chance = model.continuation.toarray().astype(wide).reshape(*model.available.shape, size)
    reward = np.where(model.available, model.expected_reward, -np.inf).astype(wide)
    v = np.zeros(size, wide)
    for _ in range(100):
        policy = (reward + gamma * (chance @ v)).argmax(axis=1)
        system = np.eye(size, dtype=wide) - gamma * chance[np.arange(size), policy]
        paid = reward[np.arange(size), policy]
        previous, v = v, np.linalg.solve(system.astype(float), paid.astype(float)).astype(wide)
        for _ in range(4):
            v += np.linalg.solve(system.astype(float), (paid - system @ v).astype(float))
        if np.array_equal(previous, v):
            break
    residual = np.abs((reward + gamma * (chance @ v)).max(axis=1) - v).max()
    assert residual < 1e-15 * max(1.0, np.abs(v).max())
    return v


MODELS = st.builds(
    garnet,
    seed=st.integers(0, 10**6),
    states=st.integers(1, 25),
    actions=st.integers(1, 4),
    branches=st.integers(1, 5),
    ending=st.sampled_from([0.0, 0.0, 0.2]),
)
GAMMAS = st.sampled_from([0.0, 0.5, 0.9, 0.97])


class TestAllMethods:
    @settings(max_examples=80, deadline=None, derandomize=True)
    @given(MODELS, GAMMAS)
    def test_agree_and_their_bounds_hold(self, model, gamma):
        truth = optimum_precisely(model, gamma)
        for method in METHODS:
            solution = solve(model, gamma, method)
            error = np.abs(solution.v - truth).max()
            assert error <= solution.bound, method
            assert error <= 1e-8
            assert solution.bound <= 1e-10 * max(1.0, np.abs(solution.v).max())

    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(MODELS, GAMMAS)
    def test_come_close_to_the_optimum_without_polishing(self, model, gamma):
        truth = optimum_precisely(model, gamma)
        for name, method in METHODS.items():
            task = SolverTask(name, make_sweeps(list_rows(model), gamma), 1e-9, 100_000)
            values, sweeps = method(task)
            assert sweeps >= (name != "linear-programming")
            assert np.abs(values - truth).max() <= 2e-9 * max(1.0, np.abs(truth).max()), name

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("gamma", [0.9, 1.0])
    def test_frozen_lake(self, method, gamma):
        solution, truth = solve(lake(), gamma, method), value_iteration(lake(), gamma)
        np.testing.assert_allclose(solution.v, truth.v, rtol=0, atol=1e-12)
        np.testing.assert_array_equal(solution.policy, truth.policy)
        np.testing.assert_array_equal(solution.optimal_actions, truth.optimal_actions)

    @pytest.mark.parametrize("method", METHODS)
    def test_free_cycles_stall_no_method(self, method):
        solution = solve(lake(is_slippery=False), 1.0, method)
        assert solution.v[0] == 1.0
        policy = np.eye(4)[solution.policy]
        assert policy_evaluation(lake(is_slippery=False), policy, 1.0)[0] == 1.0

    def test_policies_that_take_extremely_long_to_arrive_do_not_spoil_the_values(self):
        """Safe ways of a slippery lake may take so long that their equations are singular in float64."""
        from gymnasium.envs.toy_text.frozen_lake import generate_random_map

        model = lake(desc=generate_random_map(60, 0.97, seed=1))
        solution = solve(model, 1.0, "policy-iteration")
        assert solution.bound <= 1e-10
        assert solution.v[0] == pytest.approx(1.0, abs=1e-10)
        assert solution.v.max() <= 1 + 1e-10

    @pytest.mark.parametrize("method", METHODS)
    def test_endless_costs_are_refused(self, method):
        model = TabularModel.from_outcomes([(0, 0, 1.0, 0, -1.0, False)], 1, 1, [1.0])
        with pytest.raises(NeverEnds, match=r"state 0 .* take gamma below 1"):
            solve(model, 1.0, method)

    @pytest.mark.parametrize("method", METHODS)
    def test_endless_gains_are_refused(self, method):
        rows = [(0, 0, 1.0, 0, 1.0, False), (0, 1, 1.0, 0, 0.0, True)]
        with pytest.raises((NeverEnds, NotConverged), match=r"residual|gamma below 1"):
            solve(TabularModel.from_outcomes(rows, 1, 2, [1.0]), 1.0, method, max_sweeps=300)

    @pytest.mark.parametrize("method", METHODS)
    def test_reaching_max_sweeps_is_an_error_that_names_the_residual(self, method):
        shown = (
            r"without a residual"
            if method == "linear-programming"
            else r"max_sweeps = 1 with a residual of \d"
        )
        with pytest.raises(NotConverged, match=shown):  # HiGHS gives no values at its limit
            solve(garnet(0, 30, 4, 3), 0.99, method, max_sweeps=1)

    @pytest.mark.parametrize("method", METHODS)
    def test_sweeps_are_reported_in_order(self, method):
        seen = []
        model = garnet(1, 20, 3, 3, ending=0.1)
        solution = solve(model, 0.9, method, on_sweep=lambda *row: seen.append(row))
        sweeps = [row[0] for row in seen]
        assert sweeps == sorted(set(sweeps))
        assert sweeps[-1] == solution.sweeps
        for _, values, bound in seen:
            assert np.abs(values - solution.v).max() <= bound + 1e-11

    def test_invalid_arguments_are_refused(self):
        with pytest.raises(ValueError, match=r"method 'simplex' is unknown \(allowed: value-iteration, "):
            solve(lake(), 0.9, "simplex")
        with pytest.raises(ValueError, match="threads 0"):
            solve(lake(), 0.9, threads=0)


class TestOtherLibraries:
    @pytest.mark.parametrize("seed", range(5))
    def test_agree_with_quantecon(self, seed):
        model = garnet(seed, 40, 3, 4, ending=0.1 * (seed % 2))
        problem = DiscreteDP(*(to_quantecon(model)[:2]), 0.95, *(to_quantecon(model)[2:]))
        theirs = problem.solve("policy_iteration").v[: model.num_states]
        np.testing.assert_allclose(solve(model, 0.95).v, theirs, rtol=0, atol=1e-9)

    @pytest.mark.parametrize("seed", range(5))
    def test_agree_with_policy_iteration_of_pymdptoolbox(self, seed):
        """Not its value iteration, which stops on the span of changes, with V far off."""
        model = garnet(seed, 40, 3, 4, share=1.0)
        transitions, reward = to_pymdptoolbox(model)
        theirs = PolicyIteration(transitions, reward, 0.95)
        theirs.run()
        np.testing.assert_allclose(solve(model, 0.95).v, theirs.V, rtol=0, atol=1e-9)


class TestEvaluation:
    @settings(max_examples=50, deadline=None, derandomize=True)
    @given(MODELS, GAMMAS)
    def test_sweeps_and_direct_solution_agree_within_their_bounds(self, model, gamma):
        policy = model.available / model.available.sum(axis=1, keepdims=True)
        swept, direct = evaluate_iteratively(model, policy, gamma), evaluate_directly(model, policy, gamma)
        assert np.abs(swept.v - direct.v).max() <= swept.bound + direct.bound
        assert direct.sweeps == 0 < swept.sweeps
        weighed = (policy * np.where(model.available, direct.q, 0.0)).sum(axis=1)
        np.testing.assert_allclose(weighed, direct.v, rtol=0, atol=1e-11)

    def test_invalid_arguments_are_refused(self):
        policy = np.full((16, 4), 0.25)
        with pytest.raises(ValueError, match="below 1"):
            evaluate_iteratively(lake(), policy, 1.0)
        with pytest.raises(ValueError, match="tolerance 0 must be above 0"):
            evaluate_iteratively(lake(), policy, 0.99, tolerance=0)
        with pytest.raises(NotConverged, match=r"policy evaluation stopped after max_sweeps = 2 .* residual"):
            evaluate_iteratively(lake(), policy, 0.99, max_sweeps=2)


@pytest.fixture(scope="module", params=[0.0, 0.1])
def model(request):
    return garnet(3, 3000, 3, 5, ending=request.param)


class TestCompiledSweeps:
    @pytest.mark.parametrize("worth_pieces", [0, 200_000])
    @pytest.mark.parametrize("threads", [1, 2, 3])
    def test_equal_the_sweeps_in_numpy(self, model, threads, worth_pieces, monkeypatch):
        monkeypatch.setattr(sweeping, "WORTH_PIECES", worth_pieces)
        rows = list_rows(model)
        ours, twin = CompiledSweeps(rows, 0.9, threads), PlainSweeps(rows, 0.9)
        values = np.random.default_rng(0).normal(size=model.num_states)
        best, chosen, change = ours.improve(values)
        expected, expected_rows, expected_change = twin.improve(values)
        np.testing.assert_allclose(best, expected, rtol=0, atol=1e-12)
        np.testing.assert_array_equal(chosen, expected_rows)
        np.testing.assert_allclose(change, expected_change, rtol=0, atol=1e-12)
        (followed, change), (expected, expected_change) = (
            sweeps.follow(chosen).sweep(values) for sweeps in (ours, twin)
        )
        np.testing.assert_allclose(followed, expected, rtol=0, atol=1e-12)
        np.testing.assert_allclose(change, expected_change, rtol=0, atol=1e-12)

    def test_compiled_loops_in_place_equal_plain_python(self, model):
        rows = list_rows(model)
        ours, twin = CompiledSweeps(rows, 0.9, 2), PlainSweeps(rows, 0.9)
        left, right = np.zeros(model.num_states), np.zeros(model.num_states)
        np.testing.assert_allclose(ours.gauss_seidel(left), twin.gauss_seidel(right), atol=1e-12)
        np.testing.assert_allclose(left, right, rtol=0, atol=1e-12)
        errors = np.abs(twin.improve(left)[0] - left), np.abs(twin.improve(right)[0] - right)
        counts = [
            sweeps.prioritise(v, error, 0.05, 2000)
            for sweeps, v, error in ((ours, left, errors[0]), (twin, right, errors[1]))
        ]
        for v, priority in zip((left, right), errors, strict=True):
            assert (np.abs(twin.improve(v)[0] - v) <= priority + 1e-12).all()
        assert counts[0] == counts[1] > 100
        np.testing.assert_allclose(left, right, rtol=0, atol=1e-12)

    @pytest.mark.parametrize("method", sorted({*SWEEPING, "policy-iteration"}))
    def test_solve_large_models_within_their_bound(self, model, method):
        truth = optimum_of_large(model, 0.9)
        solution = solve(model, 0.9, method, threads=2)
        assert np.abs(solution.v - truth).max() <= solution.bound <= 1e-10 * np.abs(truth).max()
        assert np.isneginf(solution.q[~model.available]).all()
        assert solution.optimal_actions[np.arange(model.num_states), solution.policy].all()

    def test_a_large_model_that_can_not_be_certified_is_an_error(self, model):
        with pytest.raises(NotConverged, match="float64"):
            solve(model, 0.9, tolerance=1e-16, max_sweeps=100_000)

    def test_values_are_within_the_tolerance_asked_for(self, model):
        truth = optimum_of_large(model, 0.9)
        for tolerance in (1e-2, 1e-4, 1e-6):
            solution = solve(model, 0.9, tolerance=tolerance)
            assert (
                np.abs(solution.v - truth).max() <= solution.bound <= tolerance * np.abs(truth).max() * 1.01
            )

    def test_no_optimal_action_is_missed_however_rough_the_values(self, model):
        truth = optimum_of_large(model, 0.9)
        q = model.expected_reward + 0.9 * (model.continuation @ truth).reshape(model.available.shape)
        optimal = model.available & (q >= truth[:, None] - 1e-12)
        for tolerance in (0.3, 1e-2):
            assert solve(model, 0.9, tolerance=tolerance).optimal_actions[optimal].all()

    def test_modified_policy_iteration_improves_less_often_than_it_sweeps(self, model):
        improvements: list[int] = []
        solution = solve(model, 0.9, on_sweep=lambda sweep, *_: improvements.append(sweep))
        assert len(improvements) < solution.sweeps / 2

    def test_small_models_never_load_numba(self):
        code = (
            "import sys, rl_lab, numpy as np; from rl_lab.mdp.model import TabularModel;"
            "from rl_lab.mdp.solve import solve, METHODS;"
            "m = TabularModel.from_outcomes([(0, 0, 1.0, 0, 2.0, False)], 1, 1, [1.0]);"
            "[solve(m, 0.5, method) for method in METHODS]; assert 'numba' not in sys.modules"
        )
        subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture(scope="module")
def slow():
    return garnet(3, 1400, 3, 5, ending=5e-4, share=1.0)


@pytest.fixture(scope="module")
def optimum_of_slow(slow):
    return optimum_by_dense_solves(slow, 0.9999)


class TestSlowContraction:
    """Sweeps shrink the error of these models by gamma alone, 0.999 each, and a Krylov method takes their place."""

    @pytest.mark.parametrize("method", ["modified-policy-iteration", "policy-iteration"])
    def test_few_sweeps_suffice_and_are_certified(self, slow, optimum_of_slow, method):
        truth = optimum_of_slow
        solution = solve(slow, 0.9999, method, tolerance=1e-9, max_sweeps=1_000)
        assert np.abs(solution.v - truth).max() <= solution.bound + 1e-12
        assert solution.bound <= 1e-9 * np.abs(truth).max()

    @pytest.mark.parametrize("max_sweeps", range(1, 60))
    def test_wherever_the_sweeps_run_out_it_is_said(self, slow, max_sweeps):
        """Also just before a correction, for which nothing is left then."""
        with pytest.raises(NotConverged, match=f"stopped after max_sweeps = {max_sweeps} with a residual of"):
            solve(slow, 0.9999, max_sweeps=max_sweeps)

    def test_values_of_a_policy_come_as_quickly(self, slow):
        policy = np.full(slow.available.shape, 1 / 3)
        # A bound of 1e-10 of the values is what rounding allows, or just not, depending on the processor.
        swept = evaluate_iteratively(slow, policy, 0.9999, tolerance=1e-9, max_sweeps=500)
        direct = evaluate_directly(slow, policy, 0.9999)
        assert np.abs(swept.v - direct.v).max() <= swept.bound + direct.bound

    def test_without_it_sweeps_alone_do_not_get_there(self, slow, monkeypatch):
        monkeypatch.setattr(methods, "TRIALS", 0)
        with pytest.raises(NotConverged):
            solve(slow, 0.9999, max_sweeps=1_000)

    def test_a_correction_that_is_none_leaves_the_sweeps_to_do_it(self, slow, monkeypatch):
        monkeypatch.setattr(methods, "correct", lambda chain, values, *_: (chain.sweep(values)[0], 1, False))
        seen = []
        solution = solve(slow, 0.9, on_sweep=lambda sweep, *_: seen.append(sweep))
        assert np.abs(solution.v - optimum_of_large(slow, 0.9)).max() <= solution.bound
        assert seen == sorted(set(seen))

    def test_a_correction_keeps_blas_to_one_thread_and_gives_it_back(self, slow, monkeypatch):
        sweeps, seen = PlainSweeps(list_rows(slow), 0.9999), []
        values, chosen, _ = sweeps.improve(np.zeros(slow.num_states))
        solver = krylov.linalg.gmres
        monkeypatch.setattr(
            krylov.linalg, "gmres", lambda *a, **k: seen.append(blas_threads()) or solver(*a, **k)
        )
        with threadpool_limits(2, "blas"):
            krylov.correct(sweeps.follow(chosen), values, 1e-3, 5)
            assert (seen, blas_threads()) == ([{1}], {2})

    @pytest.mark.parametrize("kind", [PlainSweeps, CompiledSweeps])
    def test_a_correction_shrinks_the_residual_as_asked(self, slow, kind):
        sweeps = kind(list_rows(slow), 0.9999, *([1] if kind is CompiledSweeps else []))
        values, chosen, _ = sweeps.improve(np.zeros(slow.num_states))
        chain = sweeps.follow(chosen)
        before = chain.sweep(values)[1].size
        corrected, used, worked = krylov.correct(chain, values, 1e-3, 40)
        assert worked
        assert used <= 46
        assert chain.sweep(corrected)[1].size <= 0.01 * before
        np.testing.assert_allclose(
            chain.sweep(values)[0], chain.sweep(0 * values)[0] + chain.spread(values), atol=1e-12
        )
        same, used, worked = krylov.correct(chain, values, 1e-9, 1)  # one product finds no correction
        np.testing.assert_array_equal(same, chain.sweep(values)[0])
        assert (used <= 6, worked) == (True, False)


def blas_threads() -> set[int]:
    """Return how many threads each BLAS of this process may use."""
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def optimum_by_dense_solves(model: TabularModel, gamma: float) -> np.ndarray:
    """Return V* by policy iteration of a model all of whose actions are available."""
    chance = model.continuation.toarray().reshape(*model.available.shape, model.num_states)
    states, chosen = np.arange(model.num_states), np.zeros(model.num_states, np.int64)
    while True:
        system = np.eye(len(states)) - gamma * chance[states, chosen]
        v = np.linalg.solve(system, model.expected_reward[states, chosen])
        v += np.linalg.solve(system, model.expected_reward[states, chosen] - system @ v)
        q = model.expected_reward + gamma * (chance @ v)
        better = q.max(axis=1) > q[states, chosen] + 1e-9
        if not better.any():
            return v
        chosen = np.where(better, q.argmax(axis=1), chosen)


def test_prioritised_sweeping_saves_backups_where_values_spread_from_one_state():
    model = extract_model(rl_lab.make_env("lab/DeepSea-v0", {"size": 20}))
    ordered, in_turn = (solve(model, 0.95, m) for m in ("prioritised-sweeping", "value-iteration"))
    assert ordered.sweeps < in_turn.sweeps / 3


def optimum_of_large(model: TabularModel, gamma: float) -> np.ndarray:
    """Return V* by numpy alone: sweeps until nothing changes."""
    twin, v = PlainSweeps(list_rows(model), gamma), np.zeros(model.num_states)
    for _ in range(2000):
        v, _, change = twin.improve(v)
        if change.size < 1e-15:
            break
    return v


def test_default_method_is_known():
    assert solving.DEFAULT_METHOD in methods.METHODS
