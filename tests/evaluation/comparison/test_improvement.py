"""The probability of improvement."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from rl_lab.evaluation.comparison.improvement import improvement_interval, win_rate
from rl_lab.evaluation.comparison.intervals import bootstrap
from score_tables import RLIABLE_X_BEATS_Y, X, Y

FEW = arrays(float, st.tuples(st.integers(2, 6), st.just(2)), elements=st.integers(0, 4).map(float))


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        ([2.0, 3.0], [0.0, 1.0], 1.0),
        ([0.0, 1.0], [2.0, 3.0], 0.0),
        ([1.0, 3.0], [0.0, 2.0], 0.75),
        ([1.0, 2.0], [1.0, 2.0, 2.0], 5 / 12),  # 1: one tie; 2: one win, two ties
        ([[1.0, 1.0], [3.0, 1.0]], [[0.0, 2.0], [2.0, 2.0]], 0.375),  # the mean of 3/4 and 0
    ],
)
def test_by_hand(x, y, expected):
    assert improvement_interval(x, y, resamples=10).value == pytest.approx(expected)


def test_it_agrees_with_what_rliable_printed():
    assert improvement_interval(X, Y).value == pytest.approx(RLIABLE_X_BEATS_Y)


@settings(max_examples=40, deadline=None)
@given(FEW, FEW)
def test_it_is_mann_whitney_and_antisymmetric(x, y):
    there, back = (improvement_interval(*pair, resamples=50) for pair in ((x, y), (y, x)))
    u = stats.mannwhitneyu(x, y, method="asymptotic").statistic  # [tasks]
    assert there.value == pytest.approx(u.mean() / (len(x) * len(y)))
    assert there.value + back.value == pytest.approx(1)
    assert 0 <= there.low <= there.high <= 1


def test_without_widening_it_agrees_with_scipys():
    def average(*columns):
        pairs = zip(columns[: len(columns) // 2], columns[len(columns) // 2 :], strict=True)
        return np.mean([np.mean((np.sign(x[:, None] - y) + 1) / 2) for x, y in pairs])

    of_tasks, rng = (*np.transpose(X), *np.transpose(Y)), np.random.default_rng(0)
    theirs = stats.bootstrap(
        of_tasks, average, n_resamples=4000, method="percentile", rng=rng
    ).confidence_interval
    ours = improvement_interval(X, Y, expand=False, resamples=20_000)
    assert ours == pytest.approx((average(*of_tasks), *theirs), abs=0.02)


def test_intervals_contain_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(2)
    x, y = rng.normal(0.5, 1.0, (1000, 10, 1)), rng.normal(0.0, 1.0, (1000, 10, 1))
    low, high = bootstrap([x, y], win_rate, resamples=199)
    truth = stats.norm.cdf(0.5 / np.sqrt(2))
    assert 0.93 <= np.mean((low <= truth) & (truth <= high)) <= 0.97
