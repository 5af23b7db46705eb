"""LSTD and LSPI: against the exact projected fixed point of small models, by hand, and against exact solutions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from by_hand import agent_for, learned, step_of
from rl_lab.agents.linear import build_lspi, build_lstd
from rl_lab.agents.linear.least_squares import Samples, lspi, lstd_q
from rl_lab.mdp.model import TabularModel
from rl_lab.mdp.solve import policy_evaluation, value_iteration
from tabular_envs import make
from toys import ConstantReward, Identity, interact, problem_on

GAMMA = 0.9


def small_model(seed: int = 3, states: int = 5, actions: int = 2) -> TabularModel:
    """A model whose probabilities are quarters, and some of whose steps end the episode."""
    rng = np.random.default_rng(seed)
    shape = (states, actions, 4)
    return TabularModel.from_arrays(
        np.full(shape, 0.25), rng.integers(0, states, shape), rng.normal(size=shape), rng.random(shape) < 0.1
    )


def samples_of(model: TabularModel, x: np.ndarray) -> Samples:
    """Every outcome of a model whose outcomes are equally likely once; all pairs are then equally frequent."""
    state, action = np.divmod(model.row, model.num_actions)
    discount = np.where(model.terminated, 0.0, GAMMA)
    return Samples(x[state], action, model.reward, discount, x[model.successor])


def blocks(x: np.ndarray, actions: int) -> np.ndarray:
    """The features of all pairs, [S * A, A * F]."""
    return np.concatenate(
        [np.kron(np.eye(actions)[a], x[s])[None] for s in range(len(x)) for a in range(actions)]
    )


class TestLSTDQ:
    @pytest.mark.parametrize("seed", [0, 1, 2])
    def test_weights_are_those_of_the_exact_projected_fixed_point(self, seed):
        """Q = projection of (r + gamma P Q), where the projection is a regression of its own."""
        rng, model = np.random.default_rng(seed), small_model(seed)
        x = rng.normal(size=(5, 3))
        policy = rng.dirichlet([1.0, 1.0], 5)
        samples = samples_of(model, x)
        w = lstd_q(samples, policy[model.successor], 1e-10)
        phi = blocks(x, 2)
        q = phi @ w.ravel()
        v = (policy * q.reshape(5, 2)).sum(axis=1)
        backed_up = (model.expected_reward.ravel() + GAMMA * (model.continuation @ v)).ravel()
        projected = phi @ np.linalg.lstsq(phi, backed_up, rcond=None)[0]
        np.testing.assert_allclose(q, projected, atol=1e-8)
        assert np.abs(q - backed_up).max() > 0.1  # the features can't express the values themselves

    def test_one_feature_for_each_state_gives_the_exact_values(self):
        model, policy = small_model(), np.full((5, 2), 0.5)
        w = lstd_q(samples_of(model, np.eye(5)), policy[model.successor], 1e-10)
        v = policy_evaluation(model, policy, GAMMA)
        exact = model.expected_reward + GAMMA * (model.continuation @ v).reshape(5, 2)
        np.testing.assert_allclose(w.T, exact, atol=1e-8)

    def test_sparse_features_give_the_same(self):
        model = small_model()
        x = np.where(np.random.default_rng(0).random((5, 4)) < 0.5, 1.0, 0.0)
        samples, policy = samples_of(model, x), np.full((len(model.row), 2), 0.5)
        as_sparse = samples._replace(x=sparse.csr_matrix(samples.x), next_x=sparse.csr_matrix(samples.next_x))
        np.testing.assert_allclose(lstd_q(as_sparse, policy, 0.1), lstd_q(samples, policy, 0.1), atol=1e-12)

    def test_the_ridge_is_added_to_the_diagonal(self):
        """One feature x = 2, reward 3, no successor: w = 2 * 3 / (2 * 2 + ridge)."""
        one = Samples(np.array([[2.0]]), np.array([0]), np.array([3.0]), np.zeros(1), np.zeros((1, 1)))
        assert lstd_q(one, np.ones((1, 1)), 2.0).tolist() == [[1.0]]

    def test_a_singular_system_is_solved_with_least_norm(self):
        """x (x - discount x') + ridge = 1 * (1 - 2) + 1 = 0."""
        one = Samples(np.array([[1.0]]), np.array([0]), np.array([3.0]), np.ones(1), np.array([[2.0]]))
        assert lstd_q(one, np.ones((1, 1)), 1.0).tolist() == [[0.0]]


class TestLSPI:
    def test_one_feature_for_each_state_gives_the_optimum(self):
        model = small_model()
        samples, legal = samples_of(model, np.eye(5)), np.ones((len(model.row), 2), bool)
        found = lspi(samples, legal, np.zeros((2, 5)), ridge=1e-10, most=20, tolerance=1e-9)
        v = value_iteration(model, GAMMA).v
        np.testing.assert_allclose(found.weights.max(axis=0), v, atol=1e-6)
        assert 1 < found.iterations < 20
        assert found.change <= 1e-9

    def test_illegal_actions_are_never_bootstrapped_from(self):
        model = small_model()
        samples, legal = samples_of(model, np.eye(5)), np.ones((len(model.row), 2), bool)
        legal[:, 1] = False
        found = lspi(samples, legal, np.zeros((2, 5)), ridge=1e-10, most=20, tolerance=1e-9)
        always_first = np.eye(2)[np.zeros(5, int)]
        exact = policy_evaluation(model, always_first, GAMMA)
        np.testing.assert_allclose(found.weights[0], exact, atol=1e-6)

    def test_the_chain_of_its_paper_is_solved_with_a_parabola_for_each_action(self):
        """Section 9.1: of four states the middle ones pay 1, moves fail one time in ten; R R L L is best."""
        rows = []
        for state in range(4):
            for action, move in enumerate((-1, 1)):
                targets = [np.clip(state + (move if draw else -move), 0, 3) for draw in range(10)]
                rows += [(state, action, 0.1, target, float(state in (1, 2)), False) for target in targets]
        model = TabularModel.from_outcomes(rows, 4, 2, np.full(4, 0.25))
        x = np.arange(4.0)[:, None] ** np.arange(3)
        legal = np.ones((len(model.row), 2), bool)
        found = lspi(samples_of(model, x), legal, np.zeros((2, 3)), ridge=1e-9, most=20, tolerance=1e-6)
        assert (found.weights @ x.T).argmax(axis=0).tolist() == [1, 1, 0, 0]

    def test_stops_after_as_many_policies_as_allowed(self):
        model, weights = small_model(), iter(np.arange(20.0))
        found = lspi(
            samples_of(model, np.eye(5)), np.ones((len(model.row), 2), bool), np.zeros((2, 5)),
            ridge=1.0, most=4, tolerance=0.5, solve=lambda *_: np.full((2, 5), next(weights) + 1),
        )  # fmt: skip
        assert found.iterations == 4
        assert found.change == 1.0


class TestStoring:
    def fields(self, **more):
        return {"gamma": 0.5, "ridge": 1.0, "update_period_env_steps": 1, "capacity": 3} | more

    def test_lstd_learns_from_the_action_that_followed(self):
        """Each weight is its sample's target / (1 + ridge)."""
        agent, _ = agent_for(build_lstd, problem_on(lambda: Identity(3)), **self.fields())
        agent.values.weights[...] = 7.0
        learned(agent, step_of([0], [0], [4], [1]))
        assert (agent.values.weights == 7.0).all()  # the action that follows isn't known
        learned(agent, step_of([1], [2], [6], [1], terminated=[True]))
        # the second sample: 6 / 2 = 3; the first: (4 + 0.5 * 3) / 2
        assert agent.values.weights[2, 1] == pytest.approx(3.0)
        assert agent.values.weights[0, 0] == pytest.approx(2.75)

    def test_lspi_learns_from_the_best_action_whatever_followed(self):
        agent, _ = agent_for(build_lspi, problem_on(lambda: Identity(3)), **self.fields())
        learned(
            agent,
            step_of([0], [0], [4], [1], truncated=[True]),
            step_of([1], [2], [6], [1], terminated=[True]),
        )
        assert agent.values.weights[2, 1] == pytest.approx(3.0)
        assert agent.values.weights[0, 0] == pytest.approx(2.75)

    def test_the_oldest_samples_give_way(self):
        agent, _ = agent_for(build_lspi, problem_on(lambda: Identity(3)), **self.fields())
        learned(agent, *(step_of([0], [a], [8], [0], terminated=[True]) for a in (0, 1, 2, 2)))
        assert agent.values.weights[:, 0].tolist() == [0.0, 4.0, 16 / 3]
        assert len(agent.store) == 3

    def test_solutions_come_once_a_period_whatever_the_number_of_environments(self):
        problem = problem_on(ConstantReward, num_envs=3, total_steps=30)
        agent, _ = agent_for(build_lstd, problem, **self.fields(update_period_env_steps=10, features="raw"))
        interact(agent, problem)
        assert agent.gradient_steps == 3

    def test_a_chain_of_one_action_has_the_values_of_the_book(self):
        """Example 6.2: from A to E they are sixths."""
        problem = problem_on(lambda: make("RandomWalk"), num_envs=10, total_steps=10_000)
        agent, _ = agent_for(build_lstd, problem, gamma=1.0, ridge=1e-6, update_period_env_steps=10_000)
        interact(agent, problem)
        np.testing.assert_allclose(agent.values.weights[0, 1:6], np.arange(1, 6) / 6, atol=0.05)


class TestRefusals:
    @pytest.mark.parametrize(
        ("fields", "num_envs", "said"),
        [
            ({"capacity": 3}, 4, "capacity must be at least num_envs 4, got 3"),
            ({"capacity": 10**12}, 1, "capacity 1000000000000 would need"),
            ({"tilings": 64, "tiles": (40,)}, 1, r"would need 5248 weights .* \(allowed: up to 4000\)"),
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("build", [build_lstd, build_lspi])
    def test_say_in_a_line_what_is_allowed(self, build, fields, num_envs, said):
        reason = build(**fields).refuse(problem_on(ConstantReward, num_envs=num_envs))
        with pytest.raises(AssertionError, match=said):
            raise AssertionError(reason)
