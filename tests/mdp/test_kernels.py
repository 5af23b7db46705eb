"""Loops over rows: compiled, they do what they do as plain Python, and that is one Bellman backup."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
from garnets import garnet
from scipy import sparse

from rl_lab.mdp import kernels
from rl_lab.mdp.rows import back_up, list_rows
from rl_lab.mdp.sweeps import _unsigned

GAMMA = 0.9
CASES = {
    "one state": garnet(0, 1, 1, 1),
    "some actions": garnet(1, 7, 3, 4),
    "some outcomes end": garnet(2, 12, 4, 3, ending=0.3),
    "few actions available": garnet(3, 20, 5, 2, share=0.4),
}


@pytest.fixture(params=CASES)
def rows(request):
    return list_rows(CASES[request.param])


def table(rows):
    """The model as `CompiledSweeps` hands it on, so that nothing is compiled for these tests alone."""
    matrix = rows.continuation
    first = np.append(rows.first, len(rows.reward))
    return first, rows.reward, _unsigned(matrix.indptr), _unsigned(matrix.indices), matrix.data, GAMMA


def values_of(rows):
    return np.random.default_rng(7).normal(size=len(rows.first))


def best_by_numpy(rows, values):
    """The best value [S] and the first best row [S]."""
    pieces = np.split(back_up(rows, values, GAMMA), rows.first[1:])
    picks = [first + int(piece.argmax()) for first, piece in zip(rows.first, pieces, strict=True)]
    return np.array([piece.max() for piece in pieces]), np.array(picks)


def run_both(name, *arguments):
    """Call a kernel plain and compiled; return both results, each with its arguments as the call left them."""
    outcomes = []
    for kernel in (getattr(kernels, name), getattr(kernels.compile_all(), name)):
        given = deepcopy(arguments)
        outcomes.append((kernel(*given), given))
    return outcomes


def require_same(one, other):
    """Require equal results, and equal arrays in the arguments; rounding may differ by fused operations."""
    np.testing.assert_allclose(*(np.zeros(0) if r is None else r for r in (one[0], other[0])), rtol=1e-12)
    for mine, its in zip(one[1], other[1], strict=True):
        np.testing.assert_allclose(mine, its, rtol=1e-12, atol=1e-14)


def test_improve_writes_the_best_values_and_rows(rows):
    values, size = values_of(rows), len(rows.first)
    new, chosen = np.zeros(size), np.zeros(size, np.int64)
    plain, compiled = run_both("improve", 0, size, *table(rows), values, new, chosen)
    require_same(plain, compiled)
    change, (*_, new, chosen) = plain
    best, picks = best_by_numpy(rows, values)
    np.testing.assert_allclose(new, best, rtol=1e-12)
    assert chosen.tolist() == picks.tolist()
    np.testing.assert_allclose(change, ((best - values).min(), (best - values).max()), rtol=1e-12)


def test_improve_leaves_other_states_alone():
    rows = list_rows(CASES["some actions"])
    new, chosen = np.full(7, 99.0), np.full(7, -1)
    for _, given in run_both("improve", 2, 5, *table(rows), values_of(rows), new, chosen):
        assert (given[-2] == 99.0).tolist() == [True, True, False, False, False, True, True]
        assert (given[-1] == -1).tolist() == [True, True, False, False, False, True, True]


def test_a_policy_s_rows_are_gathered_and_followed(rows):
    _, chosen = best_by_numpy(rows, values_of(rows))
    size, (_, _, indptr, indices, data, _) = len(rows.first), table(rows)
    right = rows.continuation[chosen]
    out = (_unsigned(right.indptr), np.zeros_like(_unsigned(right.indices)), np.zeros_like(right.data))
    source = (chosen, indptr, indices, data)
    plain, compiled = run_both("gather", 0, size, *source, *out)
    require_same(plain, compiled)
    gathered = plain[1][-3:]
    assert np.array_equal(gathered[1], right.indices)
    assert np.array_equal(gathered[2], right.data)

    values, reward = values_of(rows), rows.reward[chosen]
    own = (gathered[0], gathered[1], gathered[2], GAMMA)
    plain, compiled = run_both("follow", 0, size, reward, *own, values, np.zeros(size))
    require_same(plain, compiled)
    np.testing.assert_allclose(plain[1][-1], reward + GAMMA * (right @ values), rtol=1e-12)


def test_gauss_seidel_uses_each_new_value_at_once(rows):
    plain, compiled = run_both("gauss_seidel", *table(rows), values_of(rows))
    require_same(plain, compiled)
    values = values_of(rows)
    for s in range(len(values)):
        values[s] = best_by_numpy(rows, values)[0][s]
    np.testing.assert_allclose(plain[1][-1], values, rtol=1e-12)


def prioritised(rows, threshold: float, budget: int):
    """The arguments of `prioritise`, from zero values and the priorities that are their Bellman errors."""
    back, values = sparse.csc_matrix(rows.continuation), np.zeros(len(rows.first))
    first, *rest = table(rows)
    priority = np.abs(best_by_numpy(rows, values)[0])
    return (
        first, rows.owner, *rest, back.indptr, back.indices, back.data, values, priority, threshold, budget,
    )  # fmt: skip


def test_prioritised_sweeping_ends_where_no_error_exceeds_the_threshold(rows):
    plain, compiled = run_both("prioritise", *prioritised(rows, 1e-6, 100_000))
    require_same(plain, compiled)
    updates, (*_, values, priority, _, _) = plain
    assert 0 < updates < 100_000
    assert priority.max() <= 1e-6
    assert np.abs(best_by_numpy(rows, values)[0] - values).max() <= 1e-6


def test_prioritised_sweeping_begins_with_the_largest_error():
    rows = list_rows(CASES["some actions"])
    arguments = prioritised(rows, 1e-6, 1)
    first = int(arguments[-3].argmax())
    for updates, given in run_both("prioritise", *arguments):
        assert updates == 1
        assert np.flatnonzero(given[-4]).tolist() == [first]
