"""Least-squares temporal differences for action values: the weights at which all samples' mean error is 0.

Bradtke and Barto (1996), "Linear Least-Squares Algorithms for Temporal Difference Learning",
https://link.springer.com/article/10.1007/BF00114723 (LSTD); Lagoudakis and Parr (2003), "Least-Squares Policy
Iteration", https://www.jmlr.org/papers/v4/lagoudakis03a.html (LSTD-Q and LSPI).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from rl_lab.policies import greedy
from rl_lab.types import Array

Matrix = Any  # an array [K, F], or a sparse matrix


class Samples(NamedTuple):
    """Transitions, in columns of the same length K."""

    x: Matrix  # features [K, F]
    action: Array  # int64 [K]
    reward: Array  # float64 [K]
    discount: Array  # float64 [K]: of the bootstrap; 0 where the episode terminated
    next_x: Matrix  # [K, F]


def lstd_q(samples: Samples, next_policy: Array, ridge: float) -> Array:
    """Return the weights [A, F] that solve sum of phi (phi - discount * next_phi)' w = sum of phi * reward.

    phi holds the features of a sample's observation in the place of its action, and zeros in that of the others;
    next_phi is the mean of the next observation's over `next_policy`.

    Args:
        next_policy: probabilities of the next actions, [K, A].
        ridge: added to the diagonal, above 0; draws weights that little is known of towards 0.

    Raises:
        FloatingPointError: the weights aren't finite.
    """
    actions, count = next_policy.shape[1], samples.x.shape[1]
    a, b = np.zeros((actions, count, actions, count)), np.zeros((actions, count))
    for one in range(actions):
        rows = np.flatnonzero(samples.action == one)
        x = samples.x[rows]
        a[one, :, one] += _product(x, x, np.ones(len(rows)))
        b[one] = x.T @ samples.reward[rows]
        for other in range(actions):
            weight = samples.discount[rows] * next_policy[rows, other]
            kept = np.flatnonzero(weight)
            if len(kept):
                a[one, :, other] -= _product(x[kept], samples.next_x[rows[kept]], weight[kept])
    matrix = a.reshape(actions * count, actions * count)
    matrix[np.diag_indices(len(matrix))] += ridge
    weights = _solved(matrix, b.ravel()).reshape(actions, count)
    if not np.isfinite(weights).all():
        raise FloatingPointError("least squares gave weights that aren't finite")
    return weights


def _product(x: Matrix, y: Matrix, weight: Array) -> Array:
    """Return the sum of weight * x y' over rows, [F, F]."""
    if sparse.issparse(x):
        return (x.T @ sparse.diags(weight) @ y).toarray()
    return x.T @ (weight[:, None] * y)


def _solved(matrix: Array, right: Array) -> Array:
    """Return the solution of a linear system, of least norm where it is singular."""
    try:
        return np.linalg.solve(matrix, right)
    except np.linalg.LinAlgError:
        return np.linalg.lstsq(matrix, right, rcond=None)[0]


class Iterated(NamedTuple):
    """What policy iteration ended with."""

    weights: Array  # [A, F]
    iterations: int
    change: float  # largest change of a weight in the last one


def lspi(
    samples: Samples,
    next_legal: Array,
    weights: Array,
    *,
    ridge: float,
    most: int,
    tolerance: float,
    solve: Callable[[Samples, Array, float], Array] = lstd_q,
) -> Iterated:
    """Evaluate the greedy policy of the weights and let it follow, until the weights stay as they are.

    Args:
        next_legal: legal actions at the next observations, bool [K, A].
        weights: of the first policy, [A, F].
        most: iterations, after which the last weights are returned.
        tolerance: largest change of a weight with which weights count as the same.

    Raises:
        FloatingPointError: the weights aren't finite.
    """
    iterations, change = 0, np.inf
    while iterations < most and change > tolerance:
        before, iterations = weights, iterations + 1
        chosen = greedy(np.asarray(samples.next_x @ before.T), next_legal)
        weights = solve(samples, np.eye(len(before))[chosen], ridge)
        change = float(np.abs(weights - before).max())
    return Iterated(weights, iterations, change)
