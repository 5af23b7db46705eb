"""Schedules are functions of the absolute step; periods are counted against a brute-force count."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_lab.schedules import constant, crossings, linear

STEPS = st.integers(0, 10_000)


class TestLinear:
    @pytest.mark.parametrize(
        ("start", "end", "over", "step", "value"),
        [
            (1.0, 0.0, 100, 0, 1.0),
            (1.0, 0.0, 100, 25, 0.75),
            (1.0, 0.0, 100, 100, 0.0),
            (1.0, 0.0, 100, 101, 0.0),
            (1.0, 0.0, 100, 10**9, 0.0),
            (0.2, 1.0, 8, 4, 0.6),
            (1.0, 0.05, 0, 0, 0.05),  # no stretch: over at once
            (1.0, 0.05, 0.5, 0, 1.0),
        ],
    )
    def test_hand_computed(self, start, end, over, step, value):
        assert linear(start, end, over)(step) == pytest.approx(value)

    @given(order=st.lists(STEPS, max_size=20), step=STEPS)
    def test_depends_on_the_step_alone(self, order, step):
        asked = linear(1.0, 0.05, 5_000)
        for earlier in order:
            asked(earlier)
        assert asked(step) == linear(1.0, 0.05, 5_000)(step)

    @given(step=STEPS, later=STEPS, over=st.floats(0, 10_000))
    def test_falls_and_stays_between_its_ends(self, step, later, over):
        epsilon = linear(1.0, 0.05, over)
        first, second = sorted((step, later))
        assert 0.05 <= epsilon(second) <= epsilon(first) <= 1.0


def test_constant_never_changes():
    assert {constant(0.3)(step) for step in (0, 1, 10**9)} == {0.3}


class TestCrossings:
    @given(before=st.integers(0, 500), going_on=st.integers(0, 300), period=st.integers(1, 60))
    def test_equal_a_count_one_by_one(self, before, going_on, period):
        counted = sum(step % period == 0 for step in range(before + 1, before + going_on + 1))
        assert crossings(before, before + going_on, period) == counted

    @given(cuts=st.lists(STEPS, min_size=2, max_size=10), period=st.integers(1, 500))
    def test_do_not_depend_on_where_a_run_is_cut(self, cuts, period):
        cuts = sorted(cuts)
        parts = sum(crossings(a, b, period) for a, b in pairwise(cuts))
        assert parts == crossings(cuts[0], cuts[-1], period)
