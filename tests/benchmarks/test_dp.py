"""Exact solvers beside their peers: both sides arrive at the same values."""

from __future__ import annotations

from contextlib import redirect_stdout
from io import StringIO

import numpy as np
import pytest

from rl_lab.benchmarks import dp as benchmark
from rl_lab.benchmarks.dp import (
    DP_ERROR,
    copy_bandwidth,
    dp,
    fresh_seconds,
    grid_model,
    jacobi_sides,
    jacobi_work,
    pymdptoolbox_work,
    quantecon_problem,
    quantecon_work,
    random_model,
    repeat,
    solve_model,
)
from rl_lab.mdp import sweeps


@pytest.fixture(scope="module")
def model():
    return random_model(30)


def test_random_models_have_probabilities_and_are_the_same_each_time(model):
    assert (model.num_states, model.num_actions) == (30, 4)
    totals = np.asarray(model.continuation.sum(axis=1)).ravel()
    np.testing.assert_allclose(totals, 1.0, rtol=1e-12)
    assert np.array_equal(model.continuation.toarray(), random_model(30).continuation.toarray())


@pytest.mark.parametrize("large", [False, True], ids=["plain", "compiled"])
def test_sweeps_are_those_of_scipy(model, monkeypatch, large):
    monkeypatch.setattr(sweeps, "is_large", lambda *_: large)
    ours, theirs = (repeat(side, 30, 20) for side in jacobi_sides(model, 0.9))
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    assert theirs.min() > 1.0


def test_enough_sweeps_give_the_optimum(model):
    _, theirs = jacobi_sides(model, 0.9)
    np.testing.assert_allclose(repeat(theirs, 30, 300), solve_model(model, 0.9).v, atol=DP_ERROR)


@pytest.mark.parametrize("method", ["vi", "mpi"])
def test_the_optimum_is_that_of_quantecon(model, method):
    theirs = quantecon_problem(model, 0.9).solve(method, epsilon=DP_ERROR, max_iter=100_000)
    np.testing.assert_allclose(solve_model(model, 0.9).v, theirs.v, atol=2 * DP_ERROR)


def test_a_grid_goes_where_its_moves_lead_and_ends_in_its_last_cell():
    grid = grid_model(3, slip=0.2, step_reward=-0.5)
    down = slice(*grid.indptr[[5 * 4 + 2, 5 * 4 + 3]])  # from the middle of the right edge
    assert sorted(
        zip(
            grid.successor[down],
            grid.probability[down],
            grid.reward[down],
            grid.terminated[down],
            strict=True,
        )
    ) == [(4, 0.1, -0.5, False), (5, 0.1, -0.5, False), (8, 0.8, 1.0, True)]
    theirs = quantecon_problem(grid, 0.999).solve("mpi", epsilon=DP_ERROR, max_iter=100_000)
    np.testing.assert_allclose(solve_model(grid, 0.999, largest=10.0).v, theirs.v[:9], atol=2 * DP_ERROR)


def test_both_sides_of_every_work_solve_the_model(model):
    works = [jacobi_work(model, 0.9, sweeps=5), quantecon_work(model, 0.9, "mpi"), pymdptoolbox_work(20, 0.9)]
    for work in works:
        assert work.ours() > 0.0
        assert work.theirs() > 0.0
    assert [work.peer for work in works] == ["scipy CSR", "quantecon mpi", "pymdptoolbox policy iteration"]


def test_a_sweep_moves_the_matrix_and_the_vectors_once(model):
    one, five = (jacobi_work(model, 0.9, sweeps=n).moved_bytes for n in (1, 5))
    assert five == 5 * one
    matrix = model.continuation
    assert one > matrix.data.nbytes + matrix.indices.nbytes


def test_the_solver_s_seconds_come_from_what_a_new_process_prints(capsys, monkeypatch):
    def run_here(command, text):
        with redirect_stdout(StringIO()) as printed:
            exec(command[-1], {})
        return printed.getvalue()

    monkeypatch.setattr(benchmark.subprocess, "check_output", run_here)
    assert fresh_seconds(2_000, 0.9) > 0.0
    out = capsys.readouterr().out
    assert out.startswith("  2,000 states: ")
    assert float(out.split("bound ")[1].split(",")[0]) <= DP_ERROR


def test_the_benchmark_has_a_work_for_each_peer(monkeypatch):
    asked = []
    monkeypatch.setattr(
        benchmark, "fresh_seconds", lambda states, gamma: asked.append((states, gamma)) or 1.0
    )
    works = dp(20, most=40, dense=10, ending=30, side=5)
    assert [(work.peer, work.work.split(" states")[0].split()[-1]) for work in works] == [
        ("scipy CSR", "20"),
        ("quantecon vi", "20"),
        ("quantecon mpi", "20"),
        ("pymdptoolbox policy iteration", "10"),
        ("quantecon mpi", "30"),
        ("quantecon mpi", "25"),
        ("quantecon mpi", "40"),
    ]
    assert (works[-1].ours(), asked) == (1.0, [(40, 0.99)])


def test_bandwidth_counts_reading_and_writing(monkeypatch):
    def half_a_second(work):
        work()
        return 0.5

    monkeypatch.setattr(benchmark, "timed", half_a_second)
    assert copy_bandwidth(1_000) == 2 * 8 * 1_000 / 0.5
