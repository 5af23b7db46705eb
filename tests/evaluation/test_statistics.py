"""Statistics over few runs, against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_lab.evaluation.statistics import cvar, interpolate_curves, iqm

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


class TestCvar:
    @pytest.mark.parametrize(
        ("level", "expected"),
        [(1.0, 5.5), (0.1, 1.0), (0.2, 1.5), (0.25, (1 + 2 + 0.5 * 3) / 2.5), (0.05, 1.0)],
    )
    def test_by_hand(self, level, expected):
        assert cvar([10, 9, 8, 7, 6, 5, 4, 3, 2, 1], level) == pytest.approx(expected)

    def test_is_the_mean_of_the_lower_tail(self):
        scores = np.random.default_rng(0).normal(size=400)
        assert cvar(scores, 0.25) == pytest.approx(np.sort(scores)[:100].mean())

    @pytest.mark.parametrize(("scores", "level"), [([], 0.5), ([1.0], 0.0), ([1.0], 1.5)])
    def test_refuses_nothing_and_levels_out_of_range(self, scores, level):
        with pytest.raises(ValueError, match=r"cvar of no scores|level must lie"):
            cvar(scores, level)


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
