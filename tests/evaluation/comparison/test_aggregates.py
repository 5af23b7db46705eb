"""Aggregates against numbers worked out by hand, and against rliable's on a shared table."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rl_lab.evaluation.comparison.aggregates import (
    AGGREGATES,
    interquartile_mean,
    mean,
    median,
    optimality_gap,
)
from score_tables import RLIABLE_X, RLIABLE_Y, X, Y

TABLES = arrays(float, st.tuples(st.integers(1, 7), st.integers(1, 4)), elements=st.floats(-1e3, 1e3))


def by_hand(scores):
    """The definitions, in plain Python."""
    tasks = list(zip(*scores.tolist(), strict=True))
    pooled = sorted(score for task in tasks for score in task)
    cut = len(pooled) // 4
    middle = pooled[cut : len(pooled) - cut]
    means = sorted(sum(task) / len(task) for task in tasks)
    half = len(means) // 2
    return {
        "iqm": sum(middle) / len(middle),
        "median": means[half] if len(means) % 2 else (means[half - 1] + means[half]) / 2,
        "mean": sum(pooled) / len(pooled),
        "optimality_gap": sum(1 - min(score, 1) for score in pooled) / len(pooled),
    }


def test_by_hand():
    scores = np.array([[0.0, 1.0, 4.0], [2.0, 1.0, 10.0]])  # means of tasks: 1, 1, 7
    assert interquartile_mean(scores) == 2.0  # of 1, 1, 2, 4: floor(6 / 4) = 1 cut at each end
    assert median(scores) == 1.0
    assert mean(scores) == 3.0
    assert optimality_gap(scores) == pytest.approx(1 / 6)  # only the score 0 falls short
    assert optimality_gap(scores, threshold=2.0) == pytest.approx((2 + 1 + 1) / 6)


@settings(max_examples=60, deadline=None)
@given(TABLES)
def test_they_follow_their_definitions(scores):
    expected = by_hand(scores)
    assert {name: float(f(scores)) for name, f in AGGREGATES.items()} == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", AGGREGATES)
def test_many_tables_at_once_are_aggregated_one_by_one(name):
    tables = np.random.default_rng(0).normal(size=(5, 2, 6, 3))
    each = [[AGGREGATES[name](table) for table in row] for row in tables]
    np.testing.assert_allclose(AGGREGATES[name](tables), each)


@pytest.mark.parametrize(("scores", "figures"), [(X, RLIABLE_X), (Y, RLIABLE_Y)])
def test_they_agree_with_what_rliable_printed(scores, figures):
    assert {name: float(AGGREGATES[name](scores)) for name in figures} == pytest.approx(figures, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(TABLES)
def test_they_agree_with_rliable_where_it_is_installed(scores):
    metrics = pytest.importorskip("rliable.metrics")
    for name, f in AGGREGATES.items():
        assert f(scores) == pytest.approx(getattr(metrics, f"aggregate_{name}")(scores), abs=1e-9)
