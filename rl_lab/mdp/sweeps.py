"""Sweeps over all states of a finite MDP: in numpy for small models, compiled and threaded for large ones.

Both give the same values. Compiling takes about a second, once per machine, and loading the compiled code
0.4 s per process: more than it takes to solve a small model in numpy.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

import numpy as np
from scipy import sparse

from rl_lab.mdp import kernels
from rl_lab.mdp.rows import Rows, back_up, pick_first, take_best
from rl_lab.types import Array

COMPILED_FROM = 20_000  # entries of `continuation`
PIECES_PER_THREAD = 4  # so that a thread that is held up leaves its pieces to the others
WORTH_PIECES = 200_000  # states from which handing out pieces costs little beside a sweep


class Change(NamedTuple):
    """The smallest and largest change of a state's value in one sweep."""

    low: float
    high: float

    @property
    def size(self) -> float:
        """The sup norm of the change."""
        return max(abs(self.low), abs(self.high))

    @property
    def half_span(self) -> float:
        """The sup norm of the change after the best constant is subtracted."""
        return (self.high - self.low) / 2


class Chain(Protocol):
    """The Markov chain of a fixed policy."""

    def sweep(self, values: Array) -> tuple[Array, Change]:
        """Return `reward + gamma * P values` [S] for values [S], and the change."""

    def spread(self, values: Array) -> Array:
        """Return `gamma * P values` [S] for values [S]."""


class Sweeps(Protocol):
    """The sweeps that the solution methods are built from."""

    rows: Rows
    gamma: float

    def improve(self, values: Array) -> tuple[Array, Array, Change]:
        """Back up values [S] once; return (best values [S], first best rows [S], change)."""

    def follow(self, chosen: Array) -> Chain:
        """Return the chain of always taking the chosen row of each state, int64 [S]."""

    def gauss_seidel(self, values: Array) -> Change:
        """Back up values [S] in place, state by state in order; return the change."""

    def prioritise(self, values: Array, priority: Array, threshold: float, budget: int) -> int:
        """Back up at most `budget` states in place, always the one with the largest priority; return how many.

        Args:
            values: [S].
            priority: upper bounds on the Bellman errors, [S]; kept up to date.
            threshold: stop when no priority exceeds this.
        """


def make_sweeps(rows: Rows, gamma: float, threads: int = 1) -> Sweeps:
    """Return the kind of sweeps that suits the size of a model.

    Raises:
        ValueError: `threads` is below 1.
    """
    if threads < 1:
        raise ValueError(f"threads {threads} must be at least 1")
    return CompiledSweeps(rows, gamma, threads) if is_large(rows) else PlainSweeps(rows, gamma)


def is_large(rows: Rows) -> bool:
    """Return whether a model is so large that compiling pays and its equations can't be factorised."""
    return rows.continuation.nnz >= COMPILED_FROM


def _measure(new: Array, old: Array) -> Change:
    difference = new - old
    return Change(float(difference.min()), float(difference.max()))


class PlainChain:
    """The Markov chain of a fixed policy, in numpy.

    Args:
        matrix: probability of going on, [S, S].
        reward: expected reward, [S].
    """

    def __init__(self, matrix: sparse.csr_matrix, reward: Array, gamma: float):
        self._matrix, self._reward, self._gamma = matrix, reward, gamma

    def sweep(self, values: Array) -> tuple[Array, Change]:
        """Return `reward + gamma * P values` [S] and the change."""
        new = self._reward + self._gamma * (self._matrix @ values)
        return new, _measure(new, values)

    def spread(self, values: Array) -> Array:
        """Return `gamma * P values` [S]."""
        return self._gamma * (self._matrix @ values)


class PlainSweeps:
    """Sweeps in numpy, and in plain Python loops where each backup needs the one before."""

    def __init__(self, rows: Rows, gamma: float):
        self.rows, self.gamma = rows, gamma
        self._first = np.append(rows.first, len(rows.owner))
        self._backward: sparse.csc_matrix | None = None
        self._loops: Any = kernels

    def improve(self, values: Array) -> tuple[Array, Array, Change]:
        """Return (best values [S], first best rows [S], change)."""
        action_values = back_up(self.rows, values, self.gamma)
        best = take_best(self.rows, action_values)
        chosen = pick_first(self.rows, action_values >= best[self.rows.owner])
        return best, chosen, _measure(best, values)

    def follow(self, chosen: Array) -> Chain:
        """Return the chain of always taking the chosen row [S]."""
        return PlainChain(self.rows.continuation[chosen], self.rows.reward[chosen], self.gamma)

    def gauss_seidel(self, values: Array) -> Change:
        """Back up values [S] in place, state by state in order; return the change."""
        return Change(*self._loops.gauss_seidel(self._first, *self._table(), values))

    def prioritise(self, values: Array, priority: Array, threshold: float, budget: int) -> int:
        """Back up at most `budget` of the values [S] in place, by priorities [S], largest first; return how many."""
        if self._backward is None:
            self._backward = sparse.csc_matrix(self.rows.continuation)
        back = self._backward
        into = (back.indptr, back.indices, back.data)
        state = (values, priority, threshold, budget)
        return self._loops.prioritise(self._first, self.rows.owner, *self._table(), *into, *state)

    def _table(self) -> tuple[Array, Array, Array, Array, float]:
        matrix = self.rows.continuation
        return self.rows.reward, matrix.indptr, matrix.indices, matrix.data, float(self.gamma)


class CompiledSweeps(PlainSweeps):
    """Sweeps in machine code; where the order of the states doesn't matter, threads share them."""

    def __init__(self, rows: Rows, gamma: float, threads: int):
        super().__init__(rows, gamma)
        self._loops = kernels.compile_all()
        self._threads = Pieces(threads, len(rows.first))
        matrix = rows.continuation
        # Unsigned, since numba checks whether a signed index counts from the end.
        self._indptr, self._indices = (_unsigned(a) for a in (matrix.indptr, matrix.indices))

    def improve(self, values: Array) -> tuple[Array, Array, Change]:
        """Return (best values [S], first best rows [S], change)."""
        best, chosen = np.empty_like(values), np.empty(len(values), dtype=np.int64)
        change = self._threads.run(self._loops.improve, self._first, *self._table(), values, best, chosen)
        return best, chosen, change

    def follow(self, chosen: Array) -> Chain:
        """Return the chain of always taking the chosen row [S]."""
        # A copy: reading scattered rows would load their neighbours into the cache too.
        indptr = np.zeros(len(chosen) + 1, dtype=self._indptr.dtype)
        np.cumsum(self._indptr[chosen + 1] - self._indptr[chosen], out=indptr[1:])
        indices = np.empty(indptr[-1], dtype=self._indices.dtype)
        data = np.empty(indptr[-1])
        source = (self._indptr, self._indices, self.rows.continuation.data)
        self._threads.run(self._loops.gather, chosen, *source, indptr, indices, data)
        table = (self.rows.reward[chosen], indptr, indices, data, float(self.gamma))
        return CompiledChain(self._loops.follow, table, self._threads)

    def _table(self) -> tuple[Array, Array, Array, Array, float]:
        return self.rows.reward, self._indptr, self._indices, self.rows.continuation.data, float(self.gamma)


def _unsigned(index: Array) -> Array:
    return index.view(np.dtype(f"u{index.itemsize}"))


class CompiledChain:
    """The Markov chain of a fixed policy, in machine code."""

    def __init__(self, kernel: Callable, table: tuple, threads: Pieces):
        self._kernel, self._table, self._threads = kernel, table, threads
        self._unpaid = (np.zeros_like(table[0]), *table[1:])

    def sweep(self, values: Array) -> tuple[Array, Change]:
        """Return `reward + gamma * P values` [S] and the change."""
        new = np.empty_like(values)
        return new, self._threads.run(self._kernel, *self._table, values, new)

    def spread(self, values: Array) -> Array:
        """Return `gamma * P values` [S]."""
        new = np.empty_like(values)
        self._threads.run(self._kernel, *self._unpaid, values, new)
        return new


class Pieces:
    """Runs a kernel on pieces of the states, in threads.

    They are Python's threads: numba's would load an OpenMP runtime beside torch's, and abort processes that
    fork.
    """

    def __init__(self, threads: int, size: int):
        pieces = threads * PIECES_PER_THREAD if threads > 1 and size >= WORTH_PIECES else threads
        self._bounds = np.linspace(0, size, pieces + 1).astype(np.int64)
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None

    def run(self, kernel: Callable, *arguments: Any) -> Change:
        """Run a kernel on all pieces; return the change over all of them."""
        if self._pool is None:
            return Change(*(kernel(0, self._bounds[-1], *arguments) or (0.0, 0.0)))
        pairs = zip(self._bounds[:-1], self._bounds[1:], strict=True)
        waiting = [self._pool.submit(kernel, start, stop, *arguments) for start, stop in pairs]
        results = [piece.result() or (0.0, 0.0) for piece in waiting]
        return Change(min(low for low, _ in results), max(high for _, high in results))
