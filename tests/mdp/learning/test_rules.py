"""One-step rules against the textbook's lines, on the same steps and draws."""

from __future__ import annotations

import numpy as np
import pytest

from rl_lab.mdp.learning import rules
from rl_lab.mdp.learning.exploring import EPSILON_GREEDY
from rl_lab.mdp.learning.step_sizes import BY_TIME, ONE_OVER_N, POWER, rate_at, step_size
from rl_lab.schedules import linear
from tables import ALL_LEGAL, drawn_table, mean_value

S, A, GAMMA, RATE, EPSILON = 4, 3, 0.9, 0.3, 0.2


def textbook(rule, q, first, second, steps, coins, mask):
    """Sections 6.4 to 6.7 of Sutton & Barto, one environment at a time."""
    for (s, a, r, over, after), coin in zip(steps, coins, strict=True):
        if rule == rules.DOUBLE_Q:
            one, other = (first, second) if coin < 0.5 else (second, first)
            value = other[after, np.where(mask, one[after], -np.inf).argmax()]
            one[s, a] += RATE * (r + GAMMA * value * (not over) - one[s, a])
            q[s, a] = (first[s, a] + second[s, a]) / 2
            continue
        legal = q[after][mask]
        value = legal.max() if rule == rules.Q_LEARNING else mean_value(legal, EPSILON)
        q[s, a] += RATE * (r + GAMMA * value * (not over) - q[s, a])


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("rule", [rules.Q_LEARNING, rules.EXPECTED_SARSA, rules.DOUBLE_Q])
def test_steps_are_learned_as_in_the_textbook(rule, masked):
    rng = np.random.default_rng(1)
    first, second = drawn_table(rng, S, A), drawn_table(rng, S, A)
    tables, visits = [(first + second) / 2, first, second], np.zeros((2, S, A), np.int64)
    twins, coins = [table.copy() for table in tables], rng.random(60)
    mask = np.array([True, not masked, True])
    steps = [
        (int(s), int(a), float(rng.normal()), bool(rng.random() < 0.2), int(after))
        for s, a, after in zip(*rng.integers([[S], [A], [S]], size=(3, 60)), strict=True)
    ]
    for step, coin in zip(steps, coins, strict=True):
        columns = [np.array([x]) for x in step]
        rules.update_at_once(
            rule, *tables, *visits, visits[0], *columns, np.array([coin]), GAMMA, EPSILON_GREEDY, EPSILON,
            BY_TIME, RATE, 0.0, mask[None] if masked else ALL_LEGAL, np.zeros(1),
        )  # fmt: skip
    textbook(rule, *twins, steps, coins, mask)
    for table, twin in zip(tables, twins, strict=True):
        np.testing.assert_allclose(table, twin, rtol=1e-12)
    assert visits.sum() == 60


@pytest.mark.parametrize(
    ("kind", "visits", "size"),
    [(BY_TIME, 7, 0.25), (ONE_OVER_N, 1, 1.0), (ONE_OVER_N, 4, 0.25), (POWER, 16, 0.125)],
)
def test_step_sizes(kind, visits, size):
    assert step_size(kind, 0.25, 0.75, visits) == pytest.approx(size)


def test_rates_fall_as_the_schedules_of_the_lab_do():
    schedule = linear(0.5, 0.01, 977)
    assert [rate_at(0.5, 0.01, 977, t) for t in range(1200)] == [schedule(t) for t in range(1200)]
