"""Finite MDPs in files and in the arrays of other libraries."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from mdptoolbox.mdp import PolicyIteration
from quantecon.markov import DiscreteDP

from rl_lab.mdp.exchange import (
    MEMBERS,
    from_pymdptoolbox,
    from_quantecon,
    load_model,
    save_model,
    to_pymdptoolbox,
    to_quantecon,
)
from rl_lab.mdp.model import TabularModel, extract_model
from rl_lab.mdp.solve import solve

# (state, action, probability, successor, reward, terminated); state 1 has one action
CHAIN = [
    (0, 0, 0.5, 1, 2.0, False),
    (0, 0, 0.25, 0, 4.0, False),
    (0, 0, 0.25, 1, 8.0, True),
    (0, 1, 1.0, 0, -1.0, False),
    (1, 0, 1.0, 1, 0.5, False),
]


def chain() -> TabularModel:
    return TabularModel.from_outcomes(CHAIN, 2, 2, [1.0, 0.0])


def lake() -> TabularModel:
    model = extract_model(gymnasium.make("FrozenLake-v1"))
    assert model is not None
    return model


def endless(seed: int, states: int = 12, actions: int = 3) -> TabularModel:
    rng = np.random.default_rng(seed)
    probability = rng.dirichlet(np.ones(3), (states, actions))
    successor = rng.integers(0, states, (states, actions, 3))
    return TabularModel.from_arrays(probability, successor, rng.normal(size=(states, actions, 1)))


def assert_same(left: TabularModel, right: TabularModel) -> None:
    np.testing.assert_array_equal(left.available, right.available)
    np.testing.assert_allclose(left.expected_reward, right.expected_reward, rtol=1e-14)
    np.testing.assert_allclose(left.continuation.toarray(), right.continuation.toarray(), rtol=1e-14)


class TestFiles:
    def test_loading_gives_what_was_saved(self, tmp_path):
        model = chain()
        save_model(model, tmp_path / "m.npz")
        loaded = load_model(tmp_path / "m.npz")
        for name in MEMBERS:
            np.testing.assert_array_equal(getattr(loaded, name), getattr(model, name))
            assert getattr(loaded, name).dtype == getattr(model, name).dtype
        np.testing.assert_array_equal(loaded.observe(np.array([1, 0])), [1, 0])

    def test_observations_are_saved_too(self, tmp_path):
        model = TabularModel.from_outcomes(CHAIN, 2, 2, [1.0, 0.0], observe=lambda s: np.eye(2)[s])
        save_model(model, tmp_path / "m.npz")
        loaded = load_model(tmp_path / "m.npz")
        np.testing.assert_array_equal(loaded.observe(np.array([1, 1])), [[0, 1], [0, 1]])

    def test_pickles_are_refused(self, tmp_path):
        np.savez(tmp_path / "m.npz", format=np.array(1), indptr=np.array([{}], dtype=object))
        with pytest.raises(ValueError, match="isn't a saved model"):
            load_model(tmp_path / "m.npz")

    @pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"anything"])
    def test_other_files_are_refused(self, tmp_path, content):
        (tmp_path / "m.npz").write_bytes(content)
        with pytest.raises(ValueError, match="isn't a saved model"):
            load_model(tmp_path / "m.npz")

    def test_other_arrays_are_refused(self, tmp_path):
        np.save(tmp_path / "array.npy", np.zeros(3))
        np.savez(tmp_path / "m.npz", format=np.array(1), indptr=np.zeros(2))
        with pytest.raises(ValueError, match="isn't a saved model"):
            load_model(tmp_path / "array.npy")
        with pytest.raises(ValueError, match="missing: probability"):
            load_model(tmp_path / "m.npz")

    def test_the_first_offender_is_named(self, tmp_path):
        model = chain()
        arrays = {name: getattr(model, name) for name in MEMBERS}
        np.savez(
            tmp_path / "m.npz",
            **{**arrays, "format": 1, "probability": np.array([0.5, 0.25, 0.25, 0.9, 1.0])},
        )
        with pytest.raises(ValueError, match=r"\(state 0, action 1\) sum to 0.9"):
            load_model(tmp_path / "m.npz")


class TestFromArrays:
    def test_agrees_with_rows(self):
        model = endless(0, 4, 2)
        width = 3
        table = [
            (s, a, model.probability[k], model.successor[k], model.reward[k], False)
            for s in range(4)
            for a in range(2)
            for k in range((2 * s + a) * width, (2 * s + a + 1) * width)
        ]
        assert_same(model, TabularModel.from_outcomes(table, 4, 2, model.initial))

    @pytest.mark.parametrize("wrong", [-1, 4, 2**32])
    def test_a_successor_out_of_range_is_named(self, wrong):
        successor = np.zeros((4, 1, 1), dtype=np.int64)
        successor[2] = wrong
        with pytest.raises(ValueError, match=rf"successor {wrong} of \(state 2, action 0\)"):
            TabularModel.from_arrays(np.ones((4, 1, 1)), successor, 0.0)

    def test_small_integers_are_kept(self):
        assert endless(0).successor.dtype == np.int32
        assert endless(0).continuation.indices.dtype == np.int32


class TestQuantEcon:
    @pytest.mark.parametrize("model", [chain(), lake(), endless(1)])
    def test_its_optimum_agrees_with_ours(self, model):
        reward, transitions, states, actions = to_quantecon(model)
        problem = DiscreteDP(reward, transitions, 0.9, states, actions)
        theirs = problem.solve("policy_iteration").v[: model.num_states]
        np.testing.assert_allclose(solve(model, 0.9).v, theirs, rtol=0, atol=1e-10)

    def test_a_round_trip_changes_nothing(self):
        model = endless(2)
        assert_same(from_quantecon(*to_quantecon(model)), model)

    def test_pairs_may_come_in_any_order(self):
        reward, transitions, states, actions = to_quantecon(chain())
        order = np.random.default_rng(0).permutation(len(reward))
        back = from_quantecon(reward[order], transitions[order], states[order], actions[order])
        assert_same(back, from_quantecon(reward, transitions, states, actions))
        assert back.num_states == 3  # one more, in which all is over

    def test_dense_arrays_mark_unavailable_actions(self):
        reward = np.array([[1.0, -np.inf], [0.0, 5.0]])
        cube = np.full((2, 2, 2), 0.5)
        model = from_quantecon(reward, cube)
        np.testing.assert_array_equal(model.available, [[True, False], [True, True]])
        theirs = DiscreteDP(reward, cube, 0.9).solve("policy_iteration").v
        np.testing.assert_allclose(solve(model, 0.9).v, theirs, atol=1e-10)

    def test_refuses_what_does_not_fit(self):
        reward, transitions, states, actions = to_quantecon(endless(3))
        with pytest.raises(ValueError, match=r"\(state 0, action 0\) is given twice"):
            from_quantecon(reward, transitions, np.zeros_like(states), np.zeros_like(actions))
        with pytest.raises(ValueError, match="state 99, action 0"):
            from_quantecon(reward, transitions, np.where(states == 0, 99, states), actions)
        transitions = transitions.copy()
        transitions.data[4] += 0.5
        with pytest.raises(ValueError, match=r"probabilities of \(state 0, action 1\) sum to 1.5"):
            from_quantecon(reward, transitions, states, actions)


class TestPymdptoolbox:
    @pytest.mark.parametrize("model", [lake(), endless(4)])
    def test_its_policy_iteration_agrees(self, model):
        transitions, reward = to_pymdptoolbox(model)
        theirs = PolicyIteration(transitions, reward, 0.9)
        theirs.run()
        np.testing.assert_allclose(solve(model, 0.9).v, theirs.V[: model.num_states], rtol=0, atol=1e-10)

    def test_a_round_trip_changes_nothing(self):
        model = endless(5)
        assert_same(from_pymdptoolbox(*to_pymdptoolbox(model)), model)

    def test_rewards_of_all_three_shapes(self):
        transitions, reward = to_pymdptoolbox(endless(6))
        cube = np.broadcast_to(reward.T[:, :, None], transitions.shape)
        assert_same(from_pymdptoolbox(transitions, cube), from_pymdptoolbox(transitions, reward))
        by_state = from_pymdptoolbox(transitions, reward[:, 0])
        np.testing.assert_allclose(by_state.expected_reward, reward[:, [0, 0, 0]], rtol=1e-14)
        with pytest.raises(ValueError, match="reward"):
            from_pymdptoolbox(transitions, reward[:5])

    def test_refuses_unavailable_actions(self):
        with pytest.raises(ValueError, match="action 1 isn't available in state 1"):
            to_pymdptoolbox(chain())
