"""Advantages and lambda-returns: hand-computed tables, and a brute-force twin that mixes n-step returns."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_lab.updates.advantages import explained_variance, gae, lambda_returns, trace_stops

GAMMA, LAMBDA = 0.5, 0.8  # their product is 0.4
NOT = [0, 0, 0]


def column(*values, dtype=np.float64):
    """One environment's column [T, 1]."""
    return np.array(values, dtype)[:, None]


def advantages(
    reward, value, next_value, terminated=NOT, truncated=NOT, is_first=NOT, gamma=GAMMA, lam=LAMBDA
):
    flags = [column(*x, dtype=np.bool_) for x in (terminated, truncated, is_first)]
    stops = trace_stops(*flags)
    found = gae(column(*reward), column(*value), column(*next_value), flags[0], stops, gamma, lam)
    return found[:, 0]


class TestTable:
    """Rewards 1, 2, 3 at values 10, 20, 30; the successor of the last step is worth 40.

    deltas: 1 + 10 - 10 = 1, 2 + 15 - 20 = -3, 3 + 20 - 30 = -7.
    """

    REWARD, VALUE = (1, 2, 3), (10, 20, 30)

    @pytest.mark.parametrize(
        ("next_value", "flags", "expected"),
        [
            # -7; -3 + 0.4 * -7 = -5.8; 1 + 0.4 * -5.8 = -1.32
            ((20, 30, 40), {}, (-1.32, -5.8, -7)),
            # terminated at the second step: its delta is 2 - 20 = -18, whatever its successor is worth
            ((20, 99, 40), {"terminated": (0, 1, 0), "is_first": (0, 0, 1)}, (1 + 0.4 * -18, -18, -7)),
            # truncated: its successor, worth 50, is not the next row: 2 + 25 - 20 = 7, and the trace stops
            ((20, 50, 40), {"truncated": (0, 1, 0), "is_first": (0, 0, 1)}, (1 + 0.4 * 7, 7, -7)),
            # cut at a resume: no flag, but the next step opens an episode
            ((20, 50, 40), {"is_first": (0, 0, 1)}, (1 + 0.4 * 7, 7, -7)),
            # both at once, as CartPole at its limit: termination has the say
            (
                (20, 50, 40),
                {"terminated": (0, 1, 0), "truncated": (0, 1, 0), "is_first": (0, 0, 1)},
                (1 + 0.4 * -18, -18, -7),
            ),
            # a lost life: terminated, though the next step opens no episode
            ((20, 30, 40), {"terminated": (0, 1, 0)}, (1 + 0.4 * -18, -18, -7)),
            # the last step ends its episode
            ((20, 30, 40), {"terminated": (0, 0, 1)}, (1 + 0.4 * (-3 + 0.4 * -27), -3 + 0.4 * -27, -27)),
            ((20, 30, 50), {"truncated": (0, 0, 1)}, (1 + 0.4 * (-3 + 0.4 * -2), -3 + 0.4 * -2, -2)),
            # the first row opens an episode: nothing before it is cut
            ((20, 30, 40), {"is_first": (1, 0, 0)}, (-1.32, -5.8, -7)),
        ],
    )  # fmt: skip
    def test_equals_what_is_computed_by_hand(self, next_value, flags, expected):
        np.testing.assert_allclose(advantages(self.REWARD, self.VALUE, next_value, **flags), expected)

    def test_with_lambda_0_it_is_the_one_step_error(self):
        np.testing.assert_allclose(advantages(self.REWARD, self.VALUE, (20, 30, 40), lam=0.0), (1, -3, -7))

    def test_with_lambda_1_it_is_the_return_less_the_value(self):
        found = advantages(self.REWARD, self.VALUE, (20, 30, 40), lam=1.0)
        returns = (1 + 0.5 * (2 + 0.5 * (3 + 20)), 2 + 0.5 * (3 + 20), 3 + 20)
        np.testing.assert_allclose(found, np.subtract(returns, self.VALUE))

    def test_environments_do_not_mix(self):
        rng = np.random.default_rng(0)
        reward, value, next_value = rng.normal(size=(3, 6, 4))
        terminated = rng.random((6, 4)) < 0.3
        stops = trace_stops(terminated, np.zeros_like(terminated), np.zeros_like(terminated))
        whole = gae(reward, value, next_value, terminated, stops, 0.9, 0.9)
        for i in range(4):
            one = (x[:, i : i + 1] for x in (reward, value, next_value, terminated, stops))
            np.testing.assert_array_equal(gae(*one, 0.9, 0.9), whole[:, i : i + 1])

    def test_what_a_terminated_step_leads_to_may_be_anything(self):
        found = advantages(self.REWARD, self.VALUE, (20, 30, np.nan), terminated=(0, 0, 1))
        assert np.isfinite(found).all()

    def test_flags_are_left_as_they_were(self):
        flags = [np.zeros((3, 2), np.bool_) for _ in range(3)]
        flags[2][1] = True
        before = [flag.copy() for flag in flags]
        trace_stops(*flags)
        for flag, kept in zip(flags, before, strict=True):
            np.testing.assert_array_equal(flag, kept)


class TestLambdaReturns:
    """Rewards 1, 2, 3, whose successors are worth 20, 30 and 40; half of a return counts, 0.8 of it further ahead."""

    REWARD, NEXT_VALUE = (1, 2, 3), (20, 30, 40)

    def returns(self, next_value=NEXT_VALUE, lam=LAMBDA, **flags):
        names = ("terminated", "truncated", "is_first")
        columns = [column(*flags.get(name, NOT), dtype=np.bool_) for name in names]
        stops = trace_stops(*columns)
        found = lambda_returns(column(*self.REWARD), column(*next_value), columns[0], stops, GAMMA, lam)
        return found[:, 0]

    @pytest.mark.parametrize(
        ("next_value", "flags", "expected"),
        [
            # 3 + 0.5 * 40 = 23; 2 + 0.5 * (0.2 * 30 + 0.8 * 23) = 14.2; 1 + 0.5 * (0.2 * 20 + 0.8 * 14.2) = 8.68
            ((20, 30, 40), {}, (8.68, 14.2, 23)),
            # terminated at the second step: it is worth its reward; 1 + 0.5 * (4 + 0.8 * 2) = 3.8
            ((20, 99, 40), {"terminated": (0, 1, 0), "is_first": (0, 0, 1)}, (3.8, 2, 23)),
            # truncated: all of the successor's value; 2 + 0.5 * 50 = 27; 1 + 0.5 * (4 + 0.8 * 27) = 13.8
            ((20, 50, 40), {"truncated": (0, 1, 0), "is_first": (0, 0, 1)}, (13.8, 27, 23)),
            # cut at a resume: no flag, but the next step opens an episode
            ((20, 50, 40), {"is_first": (0, 0, 1)}, (13.8, 27, 23)),
            # both at once: termination has the say
            ((20, 50, 40), {"terminated": (0, 1, 0), "truncated": (0, 1, 0)}, (3.8, 2, 23)),
            # a lost life: terminated, though the next step opens no episode
            ((20, 30, 40), {"terminated": (0, 1, 0)}, (3.8, 2, 23)),
            # the last step ends its episode: 2 + 0.5 * (6 + 0.8 * 3) = 6.2; 1 + 0.5 * (4 + 0.8 * 6.2) = 5.48
            ((20, 30, np.nan), {"terminated": (0, 0, 1)}, (5.48, 6.2, 3)),
        ],
    )  # fmt: skip
    def test_equal_what_is_computed_by_hand(self, next_value, flags, expected):
        np.testing.assert_allclose(self.returns(next_value, **flags), expected)

    def test_with_lambda_0_they_bootstrap_after_every_step(self):
        np.testing.assert_allclose(self.returns(lam=0.0), (11, 17, 23))

    def test_with_lambda_1_they_bootstrap_only_at_the_end(self):
        np.testing.assert_allclose(self.returns(lam=1.0), (1 + 0.5 * (2 + 0.5 * 23), 2 + 0.5 * 23, 23))


def brute_force(reward, value, next_value, terminated, stops, gamma, lam):
    """(1 - lam) * sum of lam^(n - 1) * (n-step return), the longest one taking what is left, less the value."""
    out = np.zeros(reward.shape)
    for t, i in np.ndindex(*reward.shape):
        returns, total, discount = [], 0.0, 1.0
        for k in range(t, len(reward)):
            total += discount * reward[k, i]
            discount *= gamma
            returns.append(total + (0.0 if terminated[k, i] else discount * next_value[k, i]))
            if stops[k, i]:
                break
        weights = [(1 - lam) * lam**n for n in range(len(returns) - 1)] + [lam ** (len(returns) - 1)]
        out[t, i] = np.dot(weights, returns) - value[t, i]
    return out


@given(
    st.integers(0, 10_000),
    st.integers(1, 12),
    st.integers(1, 3),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_equals_its_brute_force_twin(seed, steps, num_envs, gamma, lam, rate):
    rng = np.random.default_rng(seed)
    reward, value, successor = rng.normal(size=(3, steps, num_envs))
    terminated, truncated, cut = rng.random((3, steps, num_envs)) < rate * 0.5
    is_first = np.zeros_like(cut)
    is_first[1:] = (terminated | truncated | cut)[:-1]
    stops = trace_stops(terminated, truncated, is_first)
    next_value = successor.copy()
    next_value[:-1] = np.where(stops[:-1], successor[:-1], value[1:])  # elsewhere it is the next row's
    args = reward, value, next_value, terminated, stops, gamma, lam
    np.testing.assert_allclose(gae(*args), brute_force(*args), atol=1e-9)
    returns = lambda_returns(reward, *args[2:])
    np.testing.assert_allclose(returns, brute_force(*args) + value, atol=1e-9)


@pytest.mark.parametrize(
    ("prediction", "target", "expected"),
    [
        ((1, 2, 3), (1, 2, 3), 1.0),
        ((2, 2, 2), (1, 2, 3), 0.0),
        ((3, 2, 1), (1, 2, 3), -3.0),  # Var(-2, 0, 2) / Var(1, 2, 3) = 4
        ((0, 1, 2), (1, 2, 3), 1.0),  # a constant error has no variance
        ((1, 2, 3), (5, 5, 5), 0.0),  # nothing to explain
    ],
)
def test_explained_variance(prediction, target, expected):
    assert explained_variance(np.array(prediction), np.array(target)) == pytest.approx(expected)
