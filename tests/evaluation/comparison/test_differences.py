"""Permutation tests with a fixed number of runs, and Holm's correction."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rl_lab.evaluation.comparison.differences import (
    Difference,
    agent_pairs,
    arrangements,
    compare_agents,
    holm,
    permutation_test,
    shuffled_differences,
)
from rl_lab.types import UsageError

SMALL = st.lists(st.integers(-5, 5).map(float), min_size=2, max_size=5)


@pytest.mark.parametrize(
    ("x", "y", "paired", "expected"),
    [
        ([1.0, 2.0, 3.0], [0.0, 0.0, 0.0], True, 2 / 8),  # +++ and ---
        ([1.0, 2.0, 3.0], [0.0, 0.0, 6.0], True, 8 / 8),  # differences 1, 2, -3 sum to 0
        ([1.0, 2.0], [0.0, 4.0], True, 4 / 4),
        ([3.0, 4.0], [1.0, 2.0], False, 2 / 6),
        ([5.0, 5.0], [5.0, 5.0], False, 1.0),
        ([[1.0, 2.0]], [[0.0, 0.0]], True, 2 / 4),  # one run on each of two tasks
    ],
)
def test_p_values_by_hand(x, y, paired, expected):
    assert permutation_test(x, y, paired=paired) == pytest.approx(expected)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=1, max_size=6))
def test_pairs_are_exchanged_in_every_way(pairs):
    differences = [float(x - y) for x, y in pairs]
    sums = [abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
            for signs in product((1, -1), repeat=len(pairs))]  # fmt: skip
    expected = np.mean([total >= abs(sum(differences)) for total in sums])
    x, y = np.array(pairs, dtype=float).T
    assert permutation_test(x, y) == pytest.approx(expected)


@settings(max_examples=40, deadline=None)
@given(SMALL, SMALL)
def test_unpaired_runs_are_shuffled_in_every_way(x, y):
    pool = x + y
    found = []
    for chosen in combinations(range(len(pool)), len(x)):
        left = [pool[i] for i in range(len(pool)) if i not in chosen]
        found.append(abs(np.mean([pool[i] for i in chosen]) - np.mean(left)))
    expected = np.mean(np.array(found) >= abs(np.mean(x) - np.mean(y)) - 1e-9)
    assert permutation_test(x, y, paired=False) == pytest.approx(expected)


@pytest.mark.parametrize(("kind", "paired"), [("samples", True), ("independent", False)])
def test_p_values_of_one_task_are_scipys(kind, paired):
    x, y = np.random.default_rng(0).normal(0.5, 1.0, (2, 5))
    scipys = stats.permutation_test((x, y), lambda a, b: np.mean(a) - np.mean(b), permutation_type=kind)
    assert permutation_test(x, y, paired=paired) == pytest.approx(scipys.pvalue)


def test_scores_of_one_task_never_move_to_another():
    x, y = np.array([[0.0, 100.0], [1.0, 101.0]]), np.array([[2.0, 102.0], [3.0, 103.0]])
    for paired in (True, False):
        found = shuffled_differences(x, y, 200, np.random.default_rng(0), paired)
        assert found[0] == -2.0
        assert np.abs(found).max() <= 2.0
    assert permutation_test(x, y, paired=False) == pytest.approx(
        2 / 36
    )  # both as they are, or both exchanged
    assert permutation_test(x, y, paired=True) == pytest.approx(2 / 16)
    assert permutation_test(x, y, paired=False, permutations=35) == pytest.approx(2 / 36, abs=0.08)  # drawn


def test_drawn_permutations_agree_with_all_of_them():
    rng = np.random.default_rng(1)
    x, y = rng.normal(0.8, 1.0, 12), rng.normal(size=12)
    for paired in (True, False):
        drawn = permutation_test(x, y, paired=paired, permutations=4000)
        assert arrangements(12, 12, 1, paired) > 4000
        if paired:
            assert drawn == pytest.approx(permutation_test(x, y, permutations=5000), abs=0.02)
        else:
            assert drawn == pytest.approx(stats.ttest_ind(x, y).pvalue, abs=0.02)


def test_the_order_of_agents_and_the_scale_do_not_matter():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(2, 6, 1))
    for paired in (True, False):
        p = permutation_test(x, y, paired=paired)
        assert permutation_test(y, x, paired=paired) == pytest.approx(p)
        assert permutation_test(3 * x + 1, 3 * y + 1, paired=paired) == pytest.approx(p)


@pytest.mark.parametrize(
    ("runs", "tasks", "paired", "expected"),
    [(5, 1, True, 32), (5, 2, True, 1024), (5, 1, False, 252), (2, 3, False, 216)],
)
def test_the_number_of_arrangements(runs, tasks, paired, expected):
    assert arrangements(runs, runs, tasks, paired) == expected


def calls_of_equal_agents(draw, repetitions=1000, **fields):
    """Return how many of so many comparisons of two equal agents have a p-value up to 0.05."""
    rng = np.random.default_rng(3)
    p_values = [permutation_test(draw(rng), draw(rng), **fields, seed=r) for r in range(repetitions)]
    return sum(p <= 0.05 for p in p_values)


@pytest.mark.parametrize("fields", [{"paired": True}, {"paired": False, "permutations": 199}])
@pytest.mark.parametrize(
    "draw",
    [lambda rng: rng.normal(size=(6, 2)), lambda rng: rng.gamma(0.5, size=(6, 2))],
    ids=["normal", "skewed"],
)
def test_equal_agents_are_called_different_in_at_most_five_of_a_hundred(draw, fields):
    fewest, most = stats.binom.ppf([0.001, 0.999], 1000, 0.05)
    assert fewest <= calls_of_equal_agents(draw, **({"permutations": 199} | fields)) <= most


def test_several_agents_are_called_different_wrongly_in_at_most_five_of_a_hundred():
    rng = np.random.default_rng(4)
    wrong = uncorrected = 0
    for _ in range(400):
        equal = {name: rng.normal(size=9) for name in "abc"}
        found = compare_agents(equal | {"d": rng.normal(9.0, 1.0, 9)}, permutations=600)
        between_equal = [f for f in found if f.y != "d"]
        wrong += any(f.adjusted_p_value <= 0.05 for f in between_equal)
        uncorrected += any(f.p_value <= 0.05 for f in between_equal)
        assert all(f.adjusted_p_value <= 0.05 and f.difference < 0 for f in found if f.y == "d")
    most = stats.binom.ppf(0.999, 400, 0.05)
    assert wrong <= most < uncorrected


def test_differences_by_hand():
    scores = {"a": [3.0, 4.0], "b": [1.0, 2.0], "c": [1.0, 2.0]}
    assert compare_agents(scores, paired=False) == [
        Difference("a", "b", 2.0, pytest.approx(1 / 3), 1.0),
        Difference("a", "c", 2.0, pytest.approx(1 / 3), 1.0),
        Difference("b", "c", 0.0, 1.0, 1.0),
    ]
    only = compare_agents(scores, [("c", "a")], paired=False)
    assert only == [Difference("c", "a", -2.0, pytest.approx(1 / 3), pytest.approx(1 / 3))]


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.5]).tolist() == [1.0, 1.0]
    assert holm([0.2]).tolist() == [0.2]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=5))
def test_holm_is_the_closed_test_of_bonferroni(p_values):
    every = range(len(p_values))
    sets = [s for size in every for s in combinations(every, size + 1)]
    bonferroni = {s: min(1.0, len(s) * min(p_values[i] for i in s)) for s in sets}
    expected = [max(bonferroni[s] for s in sets if i in s) for i in every]
    assert holm(p_values).tolist() == pytest.approx(expected)


def test_pairs_are_of_two_known_agents():
    scores = {"a": [1.0], "b": [2.0]}
    assert agent_pairs(scores, None) == [("a", "b")]
    with pytest.raises(UsageError, match=r"no scores of 'z' \(there are of: a, b\)"):
        agent_pairs(scores, [("a", "z")])
    for pairs in ([], [("a", "a")]):
        with pytest.raises(UsageError, match="pairs of two agents are needed"):
            agent_pairs(scores, pairs)
    with pytest.raises(UsageError, match="pairs of two agents are needed"):
        agent_pairs({"a": [1.0]}, None)
