"""Statistics over few runs, against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rl_lab.evaluation.statistics import (
    bootstrap_interval,
    curve_interval,
    interpolate_curves,
    iqm,
    probability_of_improvement,
)

SCORES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([7.0], 7.0),
        ([1.0, 2.0, 10.0], 13 / 3),  # floor(3 / 4) = 0 values are cut
        ([100.0, 1.0, 0.0, 2.0], 1.5),
        ([0.0, 1.0, 2.0, 3.0, 100.0], 2.0),
        ([-100.0, -100.0, 1.0, 2.0, 3.0, 5.0, 100.0, 100.0], 2.75),
        ([[0.0, 1.0], [2.0, 100.0]], 1.5),  # runs and tasks together
    ],
)
def test_iqm_by_hand(scores, expected):
    assert iqm(scores) == pytest.approx(expected)


def test_iqm_along_an_axis():
    assert iqm([[0, 9], [1, 5], [2, 5], [99, -80]], axis=0).tolist() == [1.5, 5.0]


def test_iqm_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        iqm([])


@given(SCORES, st.randoms())
def test_iqm_ignores_the_order_and_stays_inside(scores, random):
    shuffled = random.sample(scores, len(scores))
    slack = 1e-9 * max(1, *np.abs(scores))
    assert iqm(shuffled) == pytest.approx(iqm(scores), abs=slack)
    assert min(scores) - slack <= iqm(scores) <= max(scores) + slack


@given(SCORES, st.floats(0, 1e6))
def test_one_outlier_does_not_move_the_iqm_of_four_or_more(scores, further):
    if len(scores) >= 4:
        worse = [*sorted(scores)[:-1], max(scores) + further]
        assert iqm(worse) == pytest.approx(iqm(scores), abs=1e-9 * max(1, *np.abs(scores)))


@pytest.mark.parametrize("scores", [[0.0, 1.0], [[0.0], [1.0]]])
@pytest.mark.parametrize(
    ("confidence", "expected"),
    [(0.95, (0.0, 1.0)), (0.4, (0.5, 0.5))],  # resampled means: 0, 1/2, 1 with 1/4, 1/2, 1/4
)
def test_interval_of_two_runs_by_hand(scores, confidence, expected):
    assert bootstrap_interval(scores, np.mean, seed=0, confidence=confidence) == expected


def test_interval_is_stratified_by_task():
    easy_and_hard = [[0.0, 100.0]] * 3  # between tasks everything differs, between runs nothing
    assert bootstrap_interval(easy_and_hard, np.mean) == (50.0, 50.0)


def test_interval_resamples_the_runs_of_each_task_on_their_own():
    low, high = bootstrap_interval([[0.0, 1.0], [1.0, 0.0]], np.mean)
    assert (low, high) == (0.0, 1.0)  # rows drawn whole would always average to one half


def test_interval_is_a_function_of_the_seed():
    scores = np.random.default_rng(0).normal(size=(6, 2))
    assert bootstrap_interval(scores, seed=3) == bootstrap_interval(scores, seed=3)
    assert bootstrap_interval(scores, seed=3) != bootstrap_interval(scores, seed=4)


def test_a_single_run_has_no_interval():
    assert all(map(math.isnan, bootstrap_interval([5.0])))
    assert all(map(math.isnan, bootstrap_interval([[5.0, 6.0]])))
    assert np.isnan(curve_interval(np.ones((1, 3)))).all()


@pytest.mark.parametrize("scores", [[], [1.0, math.nan], [1.0, math.inf], np.zeros((2, 2, 2))])
def test_unusable_scores_are_refused(scores):
    with pytest.raises(ValueError, match="scores"):
        bootstrap_interval(scores)


def test_interval_covers_the_truth_about_as_often_as_it_says():
    samples = np.random.default_rng(7).normal(3.0, 2.0, size=(300, 20))
    intervals = [bootstrap_interval(sample, np.mean, seed=1, resamples=500) for sample in samples]
    coverage = np.mean([low <= 3.0 <= high for low, high in intervals])
    assert 0.89 <= coverage <= 0.97  # known to fall a little short of 0.95 at 20 runs


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=10))
def test_interval_lies_within_the_scores(scores):
    low, high = bootstrap_interval(scores, resamples=200)
    assert min(scores) - 1e-9 <= low <= high <= max(scores) + 1e-9


def test_curve_interval_is_the_interval_at_each_point():
    values = np.random.default_rng(0).normal(size=(7, 4))
    low, high = curve_interval(values, seed=5, resamples=300)
    each = [bootstrap_interval(column, seed=5, resamples=300) for column in values.T]
    np.testing.assert_allclose(np.stack([low, high], axis=1), each)


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        ([2.0, 3.0], [0.0, 1.0], 1.0),
        ([0.0, 1.0], [2.0, 3.0], 0.0),
        ([1.0, 1.0], [1.0], 0.5),
        ([1.0, 3.0], [0.0, 2.0], 0.75),
        ([1.0, 2.0], [1.0, 2.0, 2.0], 5 / 12),  # 1: one tie; 2: one win, two ties
        ([[1.0, 1.0], [3.0, 1.0]], [[0.0, 2.0], [2.0, 2.0]], 0.375),  # the mean of 3/4 and 0
    ],
)
def test_probability_of_improvement_by_hand(x, y, expected):
    assert probability_of_improvement(x, y, resamples=10).value == pytest.approx(expected)


SMALL = st.lists(st.integers(0, 5).map(float), min_size=2, max_size=8)


@settings(max_examples=40, deadline=None)
@given(SMALL, SMALL)
def test_probability_of_improvement_is_mann_whitney_and_antisymmetric(x, y):
    there = probability_of_improvement(x, y, resamples=20)
    back = probability_of_improvement(y, x, resamples=20)
    u = stats.mannwhitneyu(x, y, method="asymptotic").statistic
    assert there.value == pytest.approx(u / (len(x) * len(y)))
    assert there.value + back.value == pytest.approx(1)
    assert 0 <= there.low <= there.high <= 1


def test_probability_of_improvement_has_an_interval_only_with_two_runs_each():
    assert math.isnan(probability_of_improvement([1.0], [0.0, 2.0]).low)
    assert probability_of_improvement([1.0, 3.0], [0.0, 2.0])[1:] == (0.0, 1.0)


def test_probability_of_improvement_needs_the_same_tasks():
    with pytest.raises(ValueError, match="1 tasks and y has 2"):
        probability_of_improvement([1.0, 2.0], [[1.0, 2.0]])


def test_curves_meet_on_the_common_range():
    grid, values = interpolate_curves([([0, 10, 20], [0.0, 1.0, 5.0]), ([5, 15], [4.0, 8.0])])
    assert grid.tolist() == [5, 10, 15]
    assert values.tolist() == [[0.5, 1.0, 3.0], [4.0, 6.0, 8.0]]


def test_of_points_at_the_same_step_the_last_counts_and_nan_is_left_out():
    grid, values = interpolate_curves([([5, 0, 5, 8], [9.0, 1.0, 2.0, math.nan])])
    assert (grid.tolist(), values.tolist()) == ([0, 5], [[1.0, 2.0]])


@pytest.mark.parametrize("curves", [[], [([], [])], [([0, 1], [0, 1]), ([2, 3], [0, 1])]])
def test_curves_without_a_common_range_give_an_empty_grid(curves):
    grid, values = interpolate_curves(curves)
    assert grid.shape == (0,)
    assert values.shape == (len(curves), 0)
