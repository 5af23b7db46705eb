"""Choosing actions from draws: by hand, and the probabilities that come of it."""

from __future__ import annotations

import numpy as np
import pytest

from rl_lab.mdp.learning.exploring import (
    BOLTZMANN,
    EPSILON_GREEDY,
    UCB,
    choose,
    expected_value,
    first_best,
    largest,
    probability,
)
from tables import ALL_LEGAL

Q = np.array([[1.0, 3.0, 3.0, 2.0]])
TRIED = np.array([[4, 1, 9, 2]])
MASK = np.array([[True, True, False, True]])
NONE = np.zeros((1, 4), np.int64)


def act(kind, parameter, first, second, legal=ALL_LEGAL, q=Q, tried=TRIED):
    return choose(kind, parameter, q, 0, tried, legal, 0, first, second)


@pytest.mark.parametrize(
    ("first", "second", "legal", "action"),
    [
        (0.2, 0.0, ALL_LEGAL, 1),  # greedy: the second draw decides between 1 and 2
        (0.2, 0.49, ALL_LEGAL, 1),
        (0.2, 0.51, ALL_LEGAL, 2),
        (0.2, 0.99, MASK, 1),  # 2 is illegal
        (0.1, 0.0, ALL_LEGAL, 0),  # below epsilon: at random
        (0.1, 0.76, ALL_LEGAL, 3),
        (0.1, 0.67, MASK, 3),  # of 0, 1, 3
        (0.1, 0.66, MASK, 1),
    ],
)
def test_epsilon_greedy_by_hand(first, second, legal, action):
    assert act(EPSILON_GREEDY, 0.2, first, second, legal) == action


def test_upper_confidence_bounds_by_hand():
    bounds = Q[0] + 2.0 * np.sqrt(np.log(16) / TRIED[0])
    assert act(UCB, 2.0, 0.0, 0.5) == bounds.argmax() == 1
    assert act(UCB, 0.1, 0.0, 0.5) == 1
    untried = np.array([[4, 1, 9, 0]])
    assert act(UCB, 0.1, 0.0, 0.5, tried=untried) == 3
    assert {act(UCB, 0.1, 0.0, u, tried=NONE) for u in (0.0, 0.3, 0.6, 0.9)} == {0, 1, 2, 3}
    legal_only = np.sqrt(np.log(7) / np.array([4, 1, np.inf, 2]))
    assert act(UCB, 9.0, 0.0, 0.5, MASK) == (Q[0] + 9.0 * legal_only).argmax()


@pytest.mark.parametrize("legal", [ALL_LEGAL, MASK])
@pytest.mark.parametrize(("kind", "parameter"), [(EPSILON_GREEDY, 0.3), (BOLTZMANN, 0.7), (UCB, 1.0)])
@pytest.mark.parametrize("tried", [TRIED, NONE])
def test_probabilities_are_the_shares_of_draws_that_lead_there(kind, parameter, legal, tried):
    draws = (np.arange(60) + 0.5) / 60
    counts = np.zeros(4)
    for first in draws:
        for second in draws:
            counts[act(kind, parameter, first, second, legal, tried=tried)] += 1
    found = np.array([probability(kind, parameter, Q, 0, tried, legal, 0, a) for a in range(4)])
    assert found.sum() == pytest.approx(1.0)
    assert counts / 3_600 == pytest.approx(found, abs=0.02)
    assert expected_value(kind, parameter, Q, 0, tried, legal, 0) == pytest.approx(found @ Q[0])


def test_boltzmann_is_the_softmax_and_never_overflows():
    q = np.array([[1000.0, 1001.0, -1e9]])
    found = [probability(BOLTZMANN, 1.0, q, 0, NONE, ALL_LEGAL, 0, a) for a in range(3)]
    assert found == pytest.approx([1 / (1 + np.e), np.e / (1 + np.e), 0.0])
    assert act(BOLTZMANN, 1.0, 1.0 - 2**-53, 0.0, q=q) in (0, 1)


def test_the_largest_and_the_first_best_are_legal():
    assert (largest(Q, 0, ALL_LEGAL, 0), first_best(Q, 0, ALL_LEGAL, 0)) == (3.0, 1)
    mask = np.array([[True, False, False, True]])
    assert (largest(Q, 0, mask, 0), first_best(Q, 0, mask, 0)) == (2.0, 3)
