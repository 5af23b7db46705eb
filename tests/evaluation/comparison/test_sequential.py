"""Comparing until it is decided: what is called different, when, and how often wrongly."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rl_lab.evaluation.comparison.differences import holm
from rl_lab.evaluation.comparison.power import Design
from rl_lab.evaluation.comparison.sequential import (
    SequentialTest,
    closed_test,
    decisive_size,
    first_crossing,
    walk,
)
from rl_lab.types import UsageError


def all_paths(groups, paired=False):
    """Every path of two agents' scores [(x, y) of each group], the observed one first, [1 + B, K]."""
    steps = []
    for x, y in groups:
        n, pool = len(x), [*x, *y]
        if paired:
            differences = np.subtract(x, y)
            step = [float(np.mean(signs * differences)) for signs in product((1, -1), repeat=n)]
        else:
            chosen = [list(c) for c in combinations(range(2 * n), n)]
            step = [2 * np.mean(np.take(pool, c)) - 2 * np.mean(pool) for c in chosen]
        steps.append(step)
    return np.array([np.cumsum(path) for path in product(*steps)])


def crossing_by_definition(paths, level, groups):
    """The definition in plain loops, without carrying anything over."""
    paths = [[round(abs(value), 6) for value in path] for path in paths]
    boundaries = []
    for k in range(len(paths[0])):
        earlier = [p for p in paths if any(p[j] > boundaries[j] for j in range(k))]
        alive = [p for p in paths if not any(p[j] > boundaries[j] for j in range(k))]
        for boundary in sorted({p[k] for p in alive}):
            spent = len(earlier) + sum(p[k] > boundary for p in alive)
            if spent <= level * (k + 1) / groups * len(paths) + 1e-9:
                break
        boundaries.append(boundary)
        if paths[0][k] > boundary:
            return k + 1
    return None


GROUP = st.tuples(*[st.lists(st.integers(0, 6), min_size=2, max_size=2)] * 2)


@settings(max_examples=60, deadline=None)
@given(st.lists(GROUP, min_size=1, max_size=3), st.floats(0.05, 0.9), st.booleans())
def test_a_path_crosses_where_the_definition_says(groups, level, paired):
    paths = all_paths(groups, paired)
    assert first_crossing(paths, level, 3) == crossing_by_definition(paths, level, 3)


def test_crossing_by_hand():
    # 3 groups of 1 and 1: 8 paths of +-1, +-2, +-4; at level 3/4, 2, 4 and 6 paths may cross by each look
    paths = np.cumsum(list(product((1.0, -1.0), (2.0, -2.0), (4.0, -4.0))), axis=1)
    assert first_crossing(paths[:, :1], 0.75, 3) is None  # |T| is 1 in all: none exceeds the third largest
    assert first_crossing(paths, 0.75, 3) == 2  # |T| is 3 in four of them, which may cross
    assert first_crossing(paths, 0.5, 3) == 3  # 2 may by look 2, 4 have |T| = 3; by look 3, |T| = 7 in two
    assert first_crossing(paths[::-1], 0.2, 3) is None
    assert walk(paths, 0.5, 3) == (3, [1.0, 3.0, 3.0])  # by look 3, 4 may: those with |T| 7 and 5
    assert walk(paths[::-1], 0.2, 3) == (None, [1.0, 3.0, 7.0])


def test_paths_that_differ_by_rounding_are_equal():
    paths = np.array([1.0, *[0.0] * 18, -1.0 + 1e-15])[:, None]  # at level 0.05, one of 20 may cross
    assert first_crossing(paths, 0.05, 1) is None
    paths[-1] = -0.9
    assert first_crossing(paths, 0.05, 1) == 1


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 4).flatmap(lambda m: st.lists(
    st.lists(st.booleans(), min_size=m, max_size=m), min_size=m, max_size=m)))  # fmt: skip
def test_the_closed_test_asks_every_set_of_pairs(crossed):
    every = range(len(crossed))
    sets = [s for size in every for s in combinations(every, size + 1)]
    rejected = {s: any(crossed[len(s) - 1][i] for i in s) for s in sets}
    assert closed_test(crossed) == [all(rejected[s] for s in sets if i in s) for i in every]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 4).flatmap(lambda m: st.lists(
    st.lists(st.booleans(), min_size=m, max_size=m), min_size=m, max_size=m)))  # fmt: skip
def test_the_level_of_a_pair_is_that_of_the_largest_set_that_needs_it(crossed):
    every = range(len(crossed))
    sets = [s for size in every for s in combinations(every, size + 1)]
    for i in every:
        alone = [s for s in sets if i in s and not any(crossed[len(s) - 1][j] for j in s if j != i)]
        assert decisive_size(crossed, i) == max(map(len, alone))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 0.2), min_size=1, max_size=5))
def test_of_p_values_the_closed_test_is_holms(p_values):
    crossed = [[p <= 0.05 / s for p in p_values] for s in range(1, len(p_values) + 1)]
    different = [p <= 0.05 for p in holm(p_values)]
    if all(abs(p * s - 0.05) > 1e-9 for p in p_values for s in range(1, 6)):
        assert closed_test(crossed) == different


def test_a_clear_difference_is_decided_early_with_its_direction():
    rng = np.random.default_rng(0)
    scores = {"low": rng.normal(0, 1, 5), "high": rng.normal(9, 1, 5)}
    decision = SequentialTest(groups=2).look(scores)
    (verdict,) = decision.verdicts
    assert verdict[:4] == ("low", "high", "less", 1)
    assert (verdict.level, verdict.at) == (0.05, 1)
    assert verdict.difference == pytest.approx(np.mean(scores["low"]) - np.mean(scores["high"]))
    assert 0 < verdict.boundary < -verdict.difference
    assert decision.decided
    assert decision.running == ()
    turned = SequentialTest(groups=2, pairs=(("high", "low"),)).look(scores)
    assert turned.verdicts[0][:4] == ("high", "low", "greater", 1)
    assert turned.verdicts[0].difference == pytest.approx(-verdict.difference)


@pytest.mark.parametrize("paired", [True, False])
def test_equal_scores_are_undecided_until_the_last_look(paired):
    test = SequentialTest(groups=3, group_size=4, paired=paired, permutations=499)
    for k in (1, 2, 3):
        decision = test.look({"a": [1.0, 2.0, 3.0, 4.0] * k, "b": [1.0, 2.0, 3.0, 4.0] * k})
        outcome = "no difference found" if k == 3 else "undecided"
        assert [v[:6] for v in decision.verdicts] == [("a", "b", outcome, k, 0.05, k)]
        assert decision.verdicts[0].difference == 0.0
        assert decision.running == (() if k == 3 else ("a", "b"))
        assert decision.decided is (k == 3)


def test_earlier_looks_come_out_the_same_later():
    rng = np.random.default_rng(5)
    for seed in range(20):
        test = SequentialTest(groups=5, group_size=4, permutations=299, seed=seed)
        scores = {"a": rng.normal(0.9, 1, 20), "b": rng.normal(0.3, 1, 20), "c": rng.normal(0, 1, 20)}
        final = {(v.x, v.y): v for v in test.look(scores).verdicts}
        for k in range(1, 6):
            for v in test.look({agent: values[: 4 * k] for agent, values in scores.items()}).verdicts:
                last = final[v.x, v.y]
                decided = last.outcome in ("greater", "less") and last.groups <= k
                assert v == last if decided or k == 5 else v[:4] == (v.x, v.y, "undecided", k)


def test_agents_that_are_decided_need_no_more_runs():
    rng = np.random.default_rng(1)
    first = {"a": rng.normal(0, 1, 6), "b": rng.normal(0, 1, 6), "c": rng.normal(50, 1, 6)}
    test = SequentialTest(groups=4, group_size=6)
    assert test.look(first).running == ("a", "b")
    more = {agent: [*first[agent], *rng.normal(0, 1, 6)] for agent in "ab"}
    verdicts = test.look(first | more).verdicts
    assert [(v.outcome, v.groups) for v in verdicts] == [("undecided", 2), ("less", 1), ("less", 1)]
    with pytest.raises(UsageError, match="a and b are undecided and need 12 runs each"):
        test.look(first | {"a": more["a"]})


def test_several_tasks_are_averaged_and_each_is_shuffled_on_its_own():
    rng = np.random.default_rng(2)
    x, y = rng.normal(0.9, 1.0, (10, 4)), rng.normal(size=(10, 4))
    test = SequentialTest(groups=4)
    assert test.look({"x": x, "y": y}).verdicts[0].outcome == "greater"
    easy = np.array([0.0, 0.0, 0.0, 1e6])  # hides the difference if scores move between tasks
    assert test.look({"x": x + easy, "y": y + easy}).verdicts[0].outcome == "greater"


def sequential(difference, repetitions, **fields):
    """Return which share of so many pairs is called different, and after how many runs on average."""
    rng = np.random.default_rng(6)
    called, runs = 0, []
    for seed in range(repetitions):
        test = SequentialTest(permutations=299, seed=seed, **fields)
        scores = {"x": rng.normal(difference, 1, test.max_seeds), "y": rng.normal(0, 1, test.max_seeds)}
        (verdict,) = test.look(scores).verdicts
        called += verdict.outcome in ("greater", "less")
        runs.append(verdict.groups * test.group_size)
    return called / repetitions, float(np.mean(runs))


@pytest.mark.parametrize(
    "fields",
    [{"groups": 8}, {"groups": 4, "paired": True}, {"groups": 6, "group_size": 3}],
    ids=["40 seeds", "paired", "small groups"],
)
def test_equal_agents_are_called_different_in_at_most_five_of_a_hundred_over_all_looks(fields):
    fewest, most = stats.binom.ppf([0.001, 0.999], 600, 0.05) / 600
    assert fewest <= sequential(0.0, 600, **fields)[0] <= most


def test_looking_again_and_again_without_correction_would_not_do():
    rng = np.random.default_rng(7)
    x, y = rng.normal(size=(2, 600, 8, 5))
    t = [stats.ttest_ind(x[:, :k].reshape(600, -1), y[:, :k].reshape(600, -1), axis=1) for k in range(1, 9)]
    wrong = np.mean(np.min([result.pvalue for result in t], axis=0) <= 0.05)
    assert wrong > 0.1


def test_of_several_agents_no_equal_ones_are_called_different_in_95_of_a_hundred():
    rng = np.random.default_rng(8)
    wrong = 0
    for seed in range(200):
        test = SequentialTest(groups=4, permutations=399, seed=seed)
        scores = {name: rng.normal(size=20) for name in "abc"} | {"d": rng.normal(4.0, 1.0, 20)}
        found = {(v.x, v.y): v.outcome for v in test.look(scores).verdicts}
        wrong += any(found[pair] != "no difference found" for pair in combinations("abc", 2))
        assert all(found[name, "d"] == "less" for name in "abc")
    assert wrong <= stats.binom.ppf(0.999, 200, 0.05)


@pytest.mark.parametrize(("groups", "difference"), [(4, 1.0), (8, 1.0)])
def test_a_clear_difference_needs_fewer_seeds_than_a_fixed_number_of_equal_power(groups, difference):
    power, runs = sequential(difference, 200, groups=groups)
    fixed = Design(power=power, paired=False).seeds_needed(difference, np.sqrt(2))
    assert power > 0.7
    assert runs < 0.9 * fixed


def test_it_agrees_with_adastop_where_it_is_installed():
    """Its permuted differences keep their sign, so that its alpha is half of ours."""
    adastop = pytest.importorskip("adastop")
    rng = np.random.default_rng(9)
    seen = set()
    for difference in (0.0, 0.5, 1.0, 1.0, 2.0, 2.0, -2.0, 3.0, -3.0, 9.0, -9.0):
        x, y = rng.normal(difference, 1, (2, 3)), rng.normal(0, 1, (2, 3))
        theirs = adastop.MultipleAgentsComparator(n=3, K=2, B=401, alpha=0.1)  # all 20 ** 2 permutations
        while not theirs.is_finished:
            k = theirs.k + 1
            theirs.partial_compare({"x": x[:k].ravel(), "y": y[:k].ravel()}, verbose=False)
        paths = all_paths([*zip(x.tolist(), y.tolist(), strict=True)])
        at = first_crossing(paths, 0.2, 2)
        found = "equal" if at is None else "larger" if paths[0, at - 1] > 0 else "smaller"
        assert (found, at or 2) == (theirs.decisions["[0 1]"], theirs.k)
        seen.add((found, at))
    assert len(seen) >= 4  # equal, larger and smaller, at once or in the end


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"alpha": 0.0}, "alpha must be between 0 and 1, got 0.0"),
        ({"groups": 0}, "groups must be a whole number of at least 1, got 0"),
        ({"group_size": 2.5}, "group_size must be a whole number"),
        ({"permutations": -1}, "permutations must be"),
    ],
)
def test_a_plan_out_of_range_is_refused(fields, message):
    with pytest.raises(UsageError, match=message):
        SequentialTest(**fields)


@pytest.mark.parametrize(
    ("plan", "scores", "message"),
    [
        ({}, {"a": [1.0] * 7, "b": [1.0] * 5}, "a has 7 runs: complete groups of 5 are needed, at most 8"),
        ({"groups": 1}, {"a": [1.0] * 10, "b": [1.0] * 5}, "a has 10 runs"),
        ({}, {"a": np.ones((5, 2)), "b": np.ones((5, 1))}, "a/b have 2 and 1 tasks"),
        (
            {"groups": 1, "paired": True},
            {"a": [1.0] * 5, "b": [2.0] * 5},
            "smallest p-value is 0.062, and 0.05",
        ),
        ({"permutations": 9}, {"a": [1.0] * 5, "b": [2.0] * 5}, "9 permutations can't tell agents apart"),
        ({}, {"a": [1.0] * 5}, "pairs of two agents"),
    ],
)
def test_scores_that_do_not_fit_the_plan_are_refused(plan, scores, message):
    with pytest.raises(UsageError, match=message):
        SequentialTest(**plan).look(scores)
