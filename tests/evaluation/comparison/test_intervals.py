"""Bootstrap intervals: by hand, against a twin in plain loops, and how often they contain the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from rl_lab.evaluation.comparison.aggregates import AGGREGATES, interquartile_mean, mean
from rl_lab.evaluation.comparison.improvement import improvement_interval
from rl_lab.evaluation.comparison.intervals import aggregate_interval, bootstrap
from rl_lab.evaluation.statistics import iqm

TABLES = arrays(float, st.tuples(st.integers(2, 6), st.integers(1, 3)), elements=st.floats(-1e3, 1e3))


def test_two_runs_by_hand():
    # means of the resamples: 0, 1/2, 1 with 1/4, 1/2, 1/4
    at = {c: aggregate_interval([0.0, 1.0], mean, confidence=c, expand=False) for c in (0.95, 0.4)}
    assert at == {0.95: (0.5, 0.0, 1.0), 0.4: (0.5, 0.5, 0.5)}


def test_it_is_stratified_by_task():
    easy_and_hard = [[0.0, 100.0]] * 3  # between tasks everything differs, between runs nothing
    assert aggregate_interval(easy_and_hard, mean) == (50.0, 50.0, 50.0)


def test_runs_of_each_task_are_drawn_on_their_own():
    interval = aggregate_interval([[0.0, 1.0], [1.0, 0.0]], mean, expand=False)
    assert interval[1:] == (0.0, 1.0)  # rows drawn whole would always average to one half


def test_a_single_run_has_no_interval():
    assert all(map(math.isnan, aggregate_interval([5.0])[1:]))
    assert all(map(math.isnan, improvement_interval([5.0], [1.0, 2.0])[1:]))


def test_without_widening_it_is_the_papers():
    scores = np.random.default_rng(3).gamma(2.0, size=(7, 3))
    rng = np.random.default_rng(4)
    drawn = [np.stack([rng.choice(task, len(task)) for task in scores.T], axis=1) for _ in range(5000)]
    for aggregate in AGGREGATES.values():
        expected = np.quantile([aggregate(table) for table in drawn], [0.025, 0.975])
        _, low, high = aggregate_interval(scores, aggregate, expand=False)
        assert (low, high) == pytest.approx(tuple(expected), abs=0.05)


def test_without_widening_it_agrees_with_scipys():
    scores = np.random.default_rng(5).normal(size=12)
    ours = aggregate_interval(scores, expand=False, resamples=20_000)
    rng = np.random.default_rng(0)
    theirs = stats.bootstrap(
        (scores,), iqm, n_resamples=20_000, method="percentile", rng=rng
    ).confidence_interval
    assert ours[1:] == pytest.approx(tuple(theirs), abs=0.03)


@pytest.mark.parametrize(("runs", "tasks"), [(12, 1), (12, 3), (6, 4)])
def test_of_a_mean_with_few_runs_it_is_as_wide_as_students(runs, tasks):
    scores = np.random.default_rng(6).normal(size=(runs, tasks))
    _, low, high = aggregate_interval(scores, mean, resamples=40_000)
    variance = scores.var(axis=0, ddof=1) / runs
    freedom = variance.sum() ** 2 / (variance**2 / (runs - 1)).sum()
    assert freedom >= runs - 1 - 1e-9
    students = 2 * stats.t.ppf(0.975, freedom) * math.sqrt(variance.sum()) / tasks
    assert high - low == pytest.approx(students, rel=0.05)


def test_agents_with_many_runs_hardly_need_widening():
    scores = np.random.default_rng(7).normal(size=400)
    wide, plain = (aggregate_interval(scores, expand=expand) for expand in (True, False))
    assert wide[1:] == pytest.approx(plain[1:], abs=0.01)


@settings(max_examples=30, deadline=None)
@given(TABLES)
def test_widening_never_narrows(scores):
    _, low, high = aggregate_interval(scores, resamples=200)
    _, plain_low, plain_high = aggregate_interval(scores, resamples=200, expand=False)
    slack = 1e-9 * max(1.0, np.abs(scores).max())
    assert low <= plain_low + slack
    assert plain_high <= high + slack


@settings(max_examples=30, deadline=None)
@given(TABLES)
def test_it_follows_the_scale_of_the_scores(scores):
    _, low, high = aggregate_interval(scores, resamples=200)
    _, moved_low, moved_high = aggregate_interval(2.0 * scores + 3.0, resamples=200)
    assert (moved_low, moved_high) == pytest.approx((2 * low + 3, 2 * high + 3), abs=1e-6)


def test_it_is_a_function_of_the_seed():
    scores = np.random.default_rng(0).normal(size=(6, 2))
    assert aggregate_interval(scores, seed=3) == aggregate_interval(scores, seed=3)
    assert aggregate_interval(scores, seed=3) != aggregate_interval(scores, seed=4)


def test_points_have_the_intervals_that_each_has_alone(monkeypatch):
    tables = np.random.default_rng(8).normal(size=(4, 6, 2)) * [[[1.0]], [[2.0]], [[5.0]], [[0.0]]]
    monkeypatch.setattr("rl_lab.evaluation.comparison.intervals.BATCH_NUMBERS", 50_000)  # one batch for both
    low, high = bootstrap([tables], interquartile_mean, resamples=300)
    each = [bootstrap([table], interquartile_mean, resamples=300) for table in tables]
    np.testing.assert_allclose(np.stack([low, high], axis=1), each)


def simulated(kind, rng, size):
    if kind == "skewed":
        return rng.gamma(1.0, size=size)
    if kind == "bimodal":  # three of ten runs fail
        return np.where(rng.random(size) < 0.3, 0.0, 1.0) + 0.1 * rng.normal(size=size)
    return rng.normal(size=size)


def coverage(kind, runs, tasks, aggregate=interquartile_mean, expand=True):
    """Return how often 1,000 intervals contain the aggregate of the distribution that scores are drawn from."""
    rng = np.random.default_rng(11)
    width, start = np.linspace(1, 2, tasks), np.linspace(0, 1, tasks)
    tables = simulated(kind, rng, (1000, runs, tasks)) * width + start
    truth = float(aggregate(simulated(kind, rng, (200_000, tasks)) * width + start))
    low, high = bootstrap([tables], aggregate, resamples=399, expand=expand)
    return float(np.mean((low <= truth) & (truth <= high)))


@pytest.mark.parametrize("kind", ["normal", "skewed", "bimodal"])
@pytest.mark.parametrize(("runs", "tasks"), [(10, 3), (20, 1)])
def test_intervals_of_the_iqm_contain_the_truth_as_often_as_they_say(kind, runs, tasks):
    assert 0.93 <= coverage(kind, runs, tasks) <= 0.97


def test_five_runs_are_enough_on_three_tasks_and_not_without_widening():
    assert 0.93 <= coverage("normal", 5, 3) <= 0.97
    assert coverage("normal", 5, 3, expand=False) < 0.92


def test_intervals_of_the_mean_contain_the_truth_as_often_as_they_say():
    assert 0.93 <= coverage("normal", 10, 3, mean) <= 0.97
