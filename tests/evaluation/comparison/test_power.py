"""How many seeds a comparison needs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rl_lab.evaluation.comparison.differences import permutation_test
from rl_lab.evaluation.comparison.power import Design, power_note, spread_of
from rl_lab.types import UsageError


@pytest.mark.parametrize(
    ("paired", "effect", "seeds"),
    [(True, 0.5, 34), (True, 0.8, 15), (False, 0.5, 64), (False, 0.8, 26), (False, 0.2, 394)],
)
def test_seeds_needed_are_those_of_the_tables(paired, effect, seeds):
    """Cohen, "Statistical Power Analysis", 1988, table 2.4.1, and G*Power: alpha 0.05 two-sided, power 0.8."""
    spread = 1.0 if paired else math.sqrt(2)  # of one difference, the standard deviation of a run being 1
    assert Design(paired=paired).seeds_needed(effect, spread) == seeds


@settings(max_examples=60, deadline=None)
@given(st.floats(0.01, 50), st.floats(0.1, 10), st.integers(6, 200), st.booleans())
def test_power_is_that_of_students_test(difference, spread, seeds, paired):
    freedom = (seeds - 1) * (1 if paired else 2)
    critical = stats.t.ppf(0.975, freedom)
    expected = stats.nct.sf(critical, freedom, difference / spread * math.sqrt(seeds))
    found = Design(paired=paired).power_of(difference, spread, seeds)
    assert 0 <= found <= 1
    assert found == pytest.approx(1.0 if math.isnan(expected) else expected, abs=1e-6)


@pytest.mark.parametrize(
    ("paired", "tasks", "difference"), [(True, 1, 1.3), (False, 1, 1.5), (True, 3, 1.0), (False, 2, 1.0)]
)
def test_so_many_seeds_see_the_difference_as_often_as_asked_for(paired, tasks, difference):
    design = Design(paired=paired, tasks=tasks)
    spread = math.sqrt(2 * tasks) / tasks
    seeds = design.seeds_needed(difference, spread)
    rng = np.random.default_rng(1)
    x, y = rng.normal(difference, 1, (300, seeds, tasks)), rng.normal(0, 1, (300, seeds, tasks))
    p_values = [permutation_test(*pair, paired=paired, permutations=299) for pair in zip(x, y, strict=True)]
    low, high = stats.binom.ppf([0.001, 0.999], 300, design.power_of(difference, spread, seeds)) / 300
    assert low <= np.mean(np.array(p_values) <= 0.05) <= high
    assert design.power_of(difference, spread, seeds) >= 0.8
    assert design.power_of(difference, spread, seeds - 1) < 0.8


@settings(max_examples=40, deadline=None)
@given(st.integers(6, 60), st.floats(0.1, 10), st.booleans(), st.integers(1, 3), st.integers(1, 6))
def test_what_is_detectable_is_what_so_many_seeds_are_needed_for(seeds, spread, paired, tasks, comparisons):
    design = Design(paired=paired, tasks=tasks, comparisons=comparisons)
    if math.isfinite(seen := design.detectable(spread, seeds)):
        assert design.power_of(seen, spread, seeds) == pytest.approx(0.8, abs=1e-6)
        assert design.seeds_needed(seen * 1.001, spread) <= seeds
        assert design.seeds_needed(seen * 0.999, spread) > seeds or not design.can_reject(seeds - 1)


@pytest.mark.parametrize(
    ("seeds", "fields", "expected"),
    [
        (5, {}, False),  # 2 / 2 ** 5 is above 0.05
        (6, {}, True),
        (6, {"comparisons": 3}, False),
        (3, {"paired": False}, False),  # 2 / 20
        (4, {"paired": False}, True),  # 2 / 70
        (2, {"tasks": 3}, True),  # 2 / 2 ** 6
        (1, {"tasks": 9}, False),
    ],
)
def test_a_few_pairs_can_never_be_called_different(seeds, fields, expected):
    design = Design(**fields)
    assert design.can_reject(seeds) is expected
    assert (design.power_of(99.0, 1.0, seeds) > 0) is expected
    assert math.isinf(design.detectable(1.0, seeds)) is not expected
    if "tasks" not in fields and "comparisons" not in fields:
        p = permutation_test([9.0 + i for i in range(seeds)], [0.0] * seeds, **fields)
        assert (p <= 0.05) is expected


def test_the_spread_by_hand():
    assert spread_of([0.0, 2.0], [0.0, 0.0]) == pytest.approx(math.sqrt(2))
    assert spread_of([0.0, 2.0], [0.0, 2.0]) == 0.0  # pairs that move together
    assert spread_of([0.0, 2.0], [0.0, 2.0], paired=False) == 2.0
    both = [[0.0, 0.0], [2.0, 4.0]]  # differences with variances 2 and 8
    assert spread_of(both, np.zeros((2, 2))) == pytest.approx(math.sqrt(2 + 8) / 2)


def test_a_note_says_what_can_be_seen_and_what_would_do():
    x, y = np.array([0.0, 1.0, 2.0, 3.0, 4.0, 5.0]), np.array([0.5, 0.0, 3.0, 2.0, 4.0, 3.0])
    note = power_note(x, y, 0.5)
    design = Design()
    assert note.seeds == 6
    assert note.detectable == design.detectable(note.spread, 6)
    assert note.needed == design.seeds_needed(0.5, note.spread)
    assert str(note) == (
        f"with 6 seeds a difference below {note.detectable:.3g} can't be seen (power 0.8, alpha 0.05); "
        f"for one of 0.5, {note.needed} seeds would do"
    )
    assert power_note(x, y).difference == abs(x.mean() - y.mean())


@pytest.mark.parametrize(
    ("x", "y", "fields", "expected"),
    [
        (
            [1.0, 2, 3, 4, 5],
            [0.0, 2, 1, 4, 2],
            {"difference": 2.0},
            "with 5 seeds no difference can be seen: the smallest possible p-value is 0.062, and 0.05 is needed; "
            "for one of 2, 6 seeds would do",
        ),
        (
            [1.0] * 6,
            [1.0] * 6,
            {},
            "with 6 seeds nothing is known of the differences that could be seen: no run scored other than the one "
            "beside it",
        ),
        (
            [1.0] * 6,
            [0.5] * 6,
            {},
            "with 6 seeds any difference can be seen, since all runs differ by the same amount; for one of 0.5, 6 "
            "seeds would do",
        ),
        (
            [1.0, 2, 3, 4],
            [1.0, 3, 2, 5],
            {"difference": 0.001, "paired": False},
            "for one of 0.001, more than 10,000 seeds would do",
        ),
    ],
)
def test_notes_of_extremes(x, y, fields, expected):
    assert str(power_note(x, y, **fields)).endswith(expected)


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: Design(alpha=0.0), "alpha must be between 0 and 1"),
        (lambda: Design(power=1.0), "power must be between 0 and 1"),
        (lambda: Design(power=0.04), "power must be greater than alpha / comparisons 0.05, got 0.04"),
        (lambda: Design(comparisons=0), "comparisons must be a whole number"),
        (lambda: spread_of([1.0], [2.0]), "at least 2 runs, got 1"),
        (lambda: power_note([1.0, 2.0], [2.0, 4.0], math.inf), "difference must be a finite number, got inf"),
    ],
)
def test_what_is_out_of_range_is_refused(use, message):
    with pytest.raises(UsageError, match=message):
        use()
