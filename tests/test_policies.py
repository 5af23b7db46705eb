"""How actions are chosen: frequencies, ties and masks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rl_lab.policies import (
    EpsilonGreedy,
    ValuePolicy,
    greedy,
    legal,
    random_actions,
    random_tie,
)

MANY = 40_000  # draws: a share is off by more than 0.01 once in 10,000 seeds, and the seed is fixed


def shares(actions, num_actions):
    return np.bincount(actions, minlength=num_actions) / len(actions)


def epsilon_probabilities(q_values, epsilon, mask=None):
    """The distribution [N, A] of epsilon-greedy over the first of the best legal actions."""
    allowed = np.ones(q_values.shape, np.bool_) if mask is None else mask
    uniform = allowed / allowed.sum(axis=-1, keepdims=True)
    best = np.eye(q_values.shape[-1])[greedy(q_values, mask)]
    return epsilon * uniform + (1.0 - epsilon) * best


def table_policy(rows, **fields):
    """A policy whose q values are the row that the observation names."""
    rows = np.asarray(rows, float)
    return ValuePolicy(lambda obs, state, is_first: (rows[obs], ()), rows.shape[1], **fields)


def exploring(rows, epsilon, seed=0, choose=greedy):
    rng = np.random.default_rng(seed)
    return table_policy(rows, explore=EpsilonGreedy(rng, lambda: epsilon, choose))


def act(policy, num_envs, mask=None):
    return policy.act(np.zeros(num_envs, np.int64), (), np.zeros(num_envs, np.bool_), mask).action


@st.composite
def masked_values(draw):
    """Values [N, A] with many ties, and a mask that leaves at least one action in each row."""
    n, a = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    values = draw(hnp.arrays(np.float32, (n, a), elements=st.sampled_from([-1e30, -1.0, 0.0, 1.0])))
    mask = draw(hnp.arrays(np.bool_, (n, a)))
    mask[np.arange(n), draw(hnp.arrays(np.int64, n, elements=st.integers(0, a - 1)))] = True
    return values, mask


class TestGreedy:
    @pytest.mark.parametrize(
        ("q", "mask", "action"),
        [
            ([1, 3, 2], None, 1),
            ([2, 5, 5], None, 1),  # the first of a tie
            ([0, 0, 0], None, 0),
            ([1, 3, 2], [1, 0, 1], 2),
            ([-9, 3, 3], [1, 0, 0], 0),
            ([0, 0, 0], [0, 1, 1], 1),
        ],
    )
    def test_takes_the_first_best_legal_action(self, q, mask, action):
        mask = None if mask is None else np.array([mask], bool)
        assert greedy(np.array([q], float), mask).tolist() == [action]

    def test_illegal_actions_have_no_value(self):
        q = legal(np.array([[1.0, 2.0]]), np.array([[True, False]]))
        assert q.tolist() == [[1.0, -np.inf]]


class TestRandomTie:
    def test_best_actions_share_equally_and_others_get_nothing(self):
        q = np.tile([1.0, 1.0, 0.0, 1.0], (MANY, 1))
        found = shares(random_tie(np.random.default_rng(1))(q), 4)
        np.testing.assert_allclose(found, [1 / 3, 1 / 3, 0, 1 / 3], atol=0.01)
        assert found[2] == 0

    def test_masked_actions_leave_the_tie(self):
        q, mask = np.ones((MANY, 3)), np.tile([True, False, True], (MANY, 1))
        found = shares(random_tie(np.random.default_rng(1))(q, mask), 3)
        np.testing.assert_allclose(found, [0.5, 0, 0.5], atol=0.01)


class TestRandomActions:
    @pytest.mark.parametrize(
        ("mask", "expected"),
        [
            (None, [0.25] * 4),
            ([1, 1, 1, 1], [0.25] * 4),
            ([0, 1, 0, 1], [0, 0.5, 0, 0.5]),
            ([0, 0, 1, 0], [0, 0, 1, 0]),
        ],
    )
    def test_are_uniform_over_what_is_legal(self, mask, expected):
        mask = None if mask is None else np.tile(np.array(mask, bool), (MANY, 1))
        found = random_actions(np.random.default_rng(2), MANY, 4, mask)
        np.testing.assert_allclose(shares(found, 4), expected, atol=0.01)


class TestEpsilonGreedy:
    @pytest.mark.parametrize("epsilon", [0.0, 0.05, 0.3, 1.0])
    @pytest.mark.parametrize("mask", [None, [1, 0, 1, 1]])
    def test_frequencies_match_the_distribution(self, epsilon, mask):
        q = [[0.0, 5.0, 1.0, 0.0]]
        full = None if mask is None else np.tile(np.array(mask, bool), (MANY, 1))
        expected = epsilon_probabilities(np.array(q), epsilon, None if mask is None else full[:1])[0]
        found = shares(act(exploring(q, epsilon), MANY, full), 4)
        np.testing.assert_allclose(found, expected, atol=0.01)

    def test_the_distribution_matches_hand_computed_numbers(self):
        found = epsilon_probabilities(np.array([[0.0, 5.0, 1.0, 0.0]]), 0.2)
        np.testing.assert_allclose(found, [[0.05, 0.85, 0.05, 0.05]])
        masked = epsilon_probabilities(np.array([[0.0, 5.0, 1.0, 0.0]]), 0.2, np.array([[1, 0, 1, 0]], bool))
        np.testing.assert_allclose(masked, [[0.1, 0, 0.9, 0]])

    def test_environments_explore_independently(self):
        actions = np.stack([act(exploring([[9.0, 0.0]], 0.5, seed), 2) for seed in range(4_000)])
        both = (actions == 1).all(axis=1).mean()
        assert both == pytest.approx(0.25 * 0.25, abs=0.015)

    def test_epsilon_is_read_anew_at_every_act(self):
        epsilons = iter([1.0, 0.0, 1.0])
        explore = EpsilonGreedy(np.random.default_rng(0), lambda: next(epsilons))
        policy = table_policy([[0.0, 1.0]], explore=explore)
        found = [shares(act(policy, 1_000), 2)[0] for _ in range(3)]
        assert found[1] == 0
        assert found[0] == pytest.approx(0.5, abs=0.06)
        assert found[2] == pytest.approx(0.5, abs=0.06)

    def test_ties_are_random_while_exploring_and_the_first_index_in_evaluation(self):
        q = [[2.0, 0.0, 2.0]]
        tie = random_tie(np.random.default_rng(3))
        np.testing.assert_allclose(
            shares(act(exploring(q, 0.0, choose=tie), MANY), 3), [0.5, 0, 0.5], atol=0.01
        )
        assert set(act(table_policy(q), 1_000)) == {0}

    def test_random_actions_need_no_values_without_a_carry(self):
        def unused(obs, state, is_first):
            raise AssertionError("values were asked for")

        explore = EpsilonGreedy(np.random.default_rng(0), lambda: 1.0)
        actions = act(ValuePolicy(unused, 2, explore=explore), MANY)
        np.testing.assert_allclose(shares(actions, 2), [0.5, 0.5], atol=0.01)

    def test_the_carry_goes_on_through_random_actions(self):
        explore = EpsilonGreedy(np.random.default_rng(0), lambda: 1.0)
        policy = ValuePolicy(
            lambda obs, state, is_first: (np.zeros((2, 3)), (state[0] + 1,)),
            3,
            lambda n: (np.zeros((n, 1)),),
            explore,
        )
        state = policy.initial_state(2)
        for _ in range(5):
            state = policy.act(np.zeros(2), state, np.zeros(2, bool)).state
        assert state[0].tolist() == [[5.0], [5.0]]


class TestMasks:
    @settings(deadline=None)
    @given(case=masked_values(), epsilon=st.sampled_from([0.0, 0.5, 1.0]), seed=st.integers(0, 99))
    def test_are_never_violated(self, case, epsilon, seed):
        values, mask = case
        rng, num_envs = np.random.default_rng(seed), len(mask)
        chosen = [greedy(values, mask), random_actions(rng, num_envs, mask.shape[1], mask)]
        for choose in (greedy, random_tie(rng)):
            explore = EpsilonGreedy(rng, lambda: epsilon, choose)
            policy = ValuePolicy(lambda *_: (values, ()), mask.shape[1], explore=explore)
            chosen.append(policy.act(np.zeros(num_envs), (), np.zeros(num_envs, bool), mask).action)
        for action in chosen:
            assert mask[np.arange(num_envs), action].all()

    @given(case=masked_values(), seed=st.integers(0, 99))
    def test_a_tie_is_broken_among_the_best_legal_actions(self, case, seed):
        values, mask = case
        action = random_tie(np.random.default_rng(seed))(values, mask)
        best = np.where(mask, values, -np.inf)
        assert (best[np.arange(len(mask)), action] == best.max(axis=1)).all()


class TestEvaluation:
    def test_draws_no_random_number(self):
        policy = table_policy([[1.0, 1.0]])
        assert [act(policy, 50).tolist() for _ in range(3)] == [[0] * 50] * 3

    def test_inspect_shows_the_values_of_legal_actions(self):
        seen = table_policy([[1.0, 2.0]]).inspect(
            np.zeros(1, int), (), np.ones(1, bool), np.array([[True, False]])
        )
        assert seen["q_values"].tolist() == [[1.0, -np.inf]]


@pytest.mark.parametrize("mask", [None, np.array([[True, False, True, True]])])
@pytest.mark.parametrize("epsilon", [0.0, 0.5, 1.0])
def test_a_single_environment_is_explored_from_the_same_draws_as_several(epsilon, mask):
    """The twin has arrays of one all along, as vectors of several environments do."""
    rng, twin = np.random.default_rng(3), np.random.default_rng(3)
    tables = np.random.default_rng(4).integers(0, 3, (50, 1, 4)).astype(float)
    first = np.array([True])
    for q in tables:
        policy = ValuePolicy(
            lambda obs, state, is_first, q=q: (q, ()), 4,
            explore=EpsilonGreedy(rng, lambda: epsilon, random_tie(rng)),
        )  # fmt: skip
        found = policy.act(None, (), first, mask).action
        random = twin.random(1) < epsilon
        values = q if mask is None else np.where(mask, q, -np.inf)
        if not random[0]:
            best = values == values.max(axis=-1, keepdims=True)
            expected = (best * (1.0 - twin.random(best.shape))).argmax(axis=-1)
        elif mask is None:
            expected = twin.integers(4, size=1)
        else:
            expected = (mask * (1.0 - twin.random(mask.shape))).argmax(axis=-1)
        assert (found.dtype, found.tolist()) == (np.int64, expected.tolist())
    assert rng.bit_generator.state == twin.bit_generator.state
