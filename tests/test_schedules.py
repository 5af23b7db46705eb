"""Schedules are functions of the absolute step; periods are counted against a brute-force count."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_lab.schedules import DECAYS, constant, cosine, crossings, exponential, linear, staircase

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


class TestDecays:
    """From 0.1 to 0.001 over 1000 steps, the first 200 of them warming up or none."""

    FORMULAS = {  # noqa: RUF012
        "linear": lambda share: 0.1 - 0.099 * share,
        "exponential": lambda share: 0.1 * np.exp(share * np.log(0.01)),
        "cosine": lambda share: 0.001 + 0.0495 * (1 + np.cos(np.pi * share)),
        "step": lambda share: 0.1 / 10 ** (np.floor(4 * share) / 2),
    }

    @pytest.mark.parametrize("warm_up", [0, 200])
    @pytest.mark.parametrize("name", DECAYS)
    def test_follow_their_formula(self, name, warm_up):
        schedule = DECAYS[name](0.1, 0.001, 1_000, warm_up_steps=warm_up)
        steps = np.arange(1_500)
        share = np.clip((steps - warm_up) / (1_000 - warm_up), 0, 1)
        expected = self.FORMULAS[name](share)
        if warm_up:
            expected = np.where(steps < warm_up, 0.1 * steps / warm_up, expected)
        np.testing.assert_allclose([schedule(int(k)) for k in steps], expected, atol=1e-6, rtol=1e-6)
        assert schedule(warm_up) == pytest.approx(0.1)
        assert {schedule(k) for k in (1_000, 1_001, 10**9)} == {0.001}

    @given(order=st.lists(STEPS, max_size=20), step=STEPS, name=st.sampled_from(sorted(DECAYS)))
    def test_depend_on_the_step_alone(self, order, step, name):
        asked = DECAYS[name](1.0, 0.05, 5_000, warm_up_steps=100)
        for earlier in order:
            asked(earlier)
        assert asked(step) == DECAYS[name](1.0, 0.05, 5_000, warm_up_steps=100)(step)

    @given(step=STEPS, later=STEPS, name=st.sampled_from(sorted(DECAYS)))
    def test_fall_between_their_ends(self, step, later, name):
        first, second = sorted((step, later))
        rate = DECAYS[name](1.0, 0.05, 5_000)
        assert 0.05 <= rate(second) <= rate(first) <= 1.0

    def test_warming_up_beyond_the_end_still_ends(self):
        assert cosine(1.0, 0.5, 10, warm_up_steps=20)(20) == 0.5
        assert linear(1.0, 0.5, 10, warm_up_steps=20)(15) == 0.75

    @pytest.mark.parametrize("schedule", [exponential, staircase])
    @pytest.mark.parametrize("end", [0.0, -1.0])
    def test_no_factor_reaches_zero(self, schedule, end):
        with pytest.raises(ValueError, match=r"can't fall by a factor from 1\.0 to"):
            schedule(1.0, end, 100)


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
