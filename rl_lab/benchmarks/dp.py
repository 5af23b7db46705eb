"""Exact solvers beside scipy's, QuantEcon's and pymdptoolbox's."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np

from rl_lab.benchmarks.work import Work, timed
from rl_lab.mdp.model import TabularModel
from rl_lab.mdp.rows import list_rows
from rl_lab.mdp.solve import solve
from rl_lab.mdp.sweeps import make_sweeps
from rl_lab.types import Array

Sweep = Callable[[Array], Array]
DP_THREADS = 2
DP_ERROR = 1e-6  # of V, certified on our side


def random_model(states: int, actions: int = 4, successors: int = 5) -> TabularModel:
    """Return a model in which each action leads to `successors` random states with random probabilities."""
    rng = np.random.default_rng(0)
    shape = (states, actions, successors)
    probability = rng.random(shape)
    probability /= probability.sum(axis=2, keepdims=True)
    reward = rng.random((states, actions, 1))
    return TabularModel.from_arrays(probability, rng.integers(0, states, shape, dtype=np.int32), reward)


def ending_model(states: int, share: float = 1e-3) -> TabularModel:
    """Return such a model in which a share of all outcomes ends the episode, so that sweeps contract slowly."""
    model = random_model(states)
    return replace(model, terminated=np.random.default_rng(1).random(len(model.terminated)) < share)


def grid_model(side: int, slip: float = 0.2, step_reward: float = -0.01) -> TabularModel:
    """Return a square grid whose last cell ends the episode with a reward of 1; a move goes astray to either side."""
    row, column = np.divmod(np.arange(side * side), side)
    moves = ((-1, 0), (0, 1), (1, 0), (0, -1))
    edge = side - 1
    to = np.stack([np.clip(row + r, 0, edge) * side + np.clip(column + c, 0, edge) for r, c in moves], axis=1)
    successor = np.stack([to, np.roll(to, 1, axis=1), np.roll(to, -1, axis=1)], axis=2)  # [S, 4, 3]
    probability = np.broadcast_to([1 - slip, slip / 2, slip / 2], successor.shape).copy()
    ends = successor == side * side - 1
    return TabularModel.from_arrays(
        probability, successor.astype(np.int32), np.where(ends, 1.0, step_reward), ends
    )


def solve_model(model: Any, gamma: float, largest: float | None = None) -> Any:
    """Solve by the default method until the error of V is certified to be at most DP_ERROR, in absolute terms.

    Args:
        largest: the size up to which values may go; by default that of rewards from 0 to 1.
    """
    relative = DP_ERROR * (1 - gamma) if largest is None else DP_ERROR / largest
    solution = solve(model, gamma, tolerance=relative, threads=DP_THREADS)
    assert solution.bound <= DP_ERROR
    return solution


def quantecon_problem(model: Any, gamma: float) -> Any:
    """Return the model as a QuantEcon problem."""
    from quantecon.markov import DiscreteDP

    from rl_lab.mdp.exchange import to_quantecon

    reward, transitions, states, actions = to_quantecon(model)
    return DiscreteDP(reward, transitions, gamma, states, actions)


def jacobi_work(model: Any, gamma: float, sweeps: int) -> Work:
    """Return `sweeps` plain sweeps of value iteration on both sides; choose as many as V takes to converge."""
    ours, theirs = jacobi_sides(model, gamma)
    rows = list_rows(model)
    matrix = rows.continuation
    once = matrix.data.nbytes + matrix.indices.nbytes + matrix.indptr.nbytes + rows.reward.nbytes
    return Work(
        f"{sweeps} Jacobi sweeps, {model.num_states} states, {DP_THREADS} threads",
        "scipy CSR",
        lambda: timed(lambda: repeat(ours, model.num_states, sweeps)),
        lambda: timed(lambda: repeat(theirs, model.num_states, sweeps)),
        moved_bytes=sweeps * (once + 4.0 * 8 * model.num_states),  # values, new values, choice, first rows
    )


def jacobi_sides(model: TabularModel, gamma: float) -> tuple[Sweep, Sweep]:
    """Return one sweep of value iteration, values [S] to values [S], by the lab and by scipy.

    Every action of the model has to be available.
    """
    rows = list_rows(model)
    sweeps = make_sweeps(rows, gamma, DP_THREADS)

    def by_scipy(values: Array) -> Array:
        return (rows.reward + gamma * (rows.continuation @ values)).reshape(model.available.shape).max(1)

    return lambda values: sweeps.improve(values)[0], by_scipy


def repeat(sweep: Sweep, states: int, sweeps: int) -> Array:
    """Return the values [S] after so many sweeps from 0."""
    values = np.zeros(states)
    for _ in range(sweeps):
        values = sweep(values)
    return values


def quantecon_work(
    model: Any, gamma: float, method: str, what: str = "", largest: float | None = None
) -> Work:
    """Return the solution by our default method and by one of QuantEcon's.

    Args:
        what: kind of the model, for its name.
        largest: as for `solve_model`.
    """
    problem = quantecon_problem(model, gamma)

    def solve_theirs() -> None:
        # Its own limit is 250 iterations, after which it returns what it has without a word.
        problem.solve(method, epsilon=DP_ERROR, max_iter=100_000)

    return Work(
        f"optimum of {model.num_states} states{what} at gamma {gamma} to {DP_ERROR}, {DP_THREADS} threads",
        f"quantecon {method}",
        lambda: timed(lambda: solve_model(model, gamma, largest)),
        lambda: timed(solve_theirs),
    )


def pymdptoolbox_work(states: int, gamma: float) -> Work:
    """Return the solution of a model small enough for pymdptoolbox's dense arrays."""
    from mdptoolbox.mdp import PolicyIteration

    from rl_lab.mdp.exchange import to_pymdptoolbox

    model = random_model(states)
    transitions, reward = to_pymdptoolbox(model)
    return Work(
        f"optimum of {states} states at gamma {gamma}",
        "pymdptoolbox policy iteration",
        lambda: timed(lambda: solve_model(model, gamma)),
        lambda: timed(lambda: PolicyIteration(transitions, reward, gamma).run()),
    )


def fresh_seconds(states: int, gamma: float) -> float:
    """Solve a random model in a new process, print its peak memory, and return the solver's seconds."""
    command = [sys.executable, "-P", "-c", FRESH.format(states=states, gamma=gamma)]
    seconds, gigabytes, sweeps, bound = subprocess.check_output(command, text=True).split()
    print(f"  {states:,} states: {float(seconds):.2f} s, {sweeps} sweeps, bound {bound}, peak {gigabytes} GB")
    return float(seconds)


# The first solution compiles, or loads compiled code, before the clock starts; the peer's side doesn't count it either.
FRESH = """
import resource, time
from rl_lab.benchmarks.dp import random_model, solve_model
solve_model(random_model(10_000), {gamma})
model = random_model({states})
begun = time.perf_counter()
solution = solve_model(model, {gamma})
seconds = time.perf_counter() - begun
print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, solution.sweeps, solution.bound)
"""


def dp(
    states: int = 200_000, most: int = 1_000_000, dense: int = 1_000, ending: int = 100_000, side: int = 316
) -> list[Work]:
    """Return dynamic programming on sparse random models, with 4 actions of 5 successors each, and on a grid.

    Args:
        most: states of the largest model.
        dense: states of the model that is solved with dense arrays.
        ending: states of the model with rare ends that is solved with a discount close to 1.
        side: cells along one side of the grid.
    """
    model, largest = random_model(states), quantecon_work(random_model(most), 0.99, "mpi")
    return [
        jacobi_work(model, 0.95, sweeps=273),
        quantecon_work(model, 0.95, "vi"),
        quantecon_work(model, 0.95, "mpi"),
        pymdptoolbox_work(dense, 0.95),
        quantecon_work(ending_model(ending), 0.999, "mpi"),
        quantecon_work(grid_model(side), 0.999, "mpi", " of a slippery grid", largest=10.0),
        replace(largest, ours=lambda: fresh_seconds(most, 0.99)),
    ]


def copy_bandwidth(numbers: int = 2**25) -> float:
    """Return the bytes per second, read plus written, of copies on DP_THREADS threads.

    Args:
        numbers: how many float64 are copied; by default too many for any cache.
    """
    source = np.ones(numbers)
    target = np.zeros_like(source)
    size = len(source) // DP_THREADS
    halves = [
        (target[i * size : (i + 1) * size], source[i * size : (i + 1) * size]) for i in range(DP_THREADS)
    ]
    with ThreadPoolExecutor(DP_THREADS) as pool:
        seconds = [timed(lambda: list(pool.map(lambda pair: np.copyto(*pair), halves))) for _ in range(10)]
    return 2 * source.nbytes / min(seconds)
