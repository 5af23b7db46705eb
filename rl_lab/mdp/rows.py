"""The available actions of a finite MDP as a list of rows, and backups and policy evaluation on them.

A list of rows needs no padding when states differ in their number of actions, as they do in the
undiscounted problem once states that reach one another for free are merged.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse import linalg

from rl_lab.mdp.model import TabularModel, find_reaching
from rl_lab.types import Array


class NotConverged(RuntimeError):
    """A solver reached its limit of sweeps, or float64 can't certify the requested tolerance."""


class NeverEnds(ValueError):
    """At gamma = 1 an episode may go on for ever, so that its return is undefined."""


class Rows(NamedTuple):
    """The actions of all S states as R rows, sorted by state; each state has at least one."""

    first: Array  # int64 [S]: the first row of each state
    owner: Array  # int64 [R]: the state that a row belongs to
    reward: Array  # float64 [R]: expected reward
    termination: Array  # float64 [R]: probability of ending
    continuation: sparse.csr_matrix  # float64 [R, S]: probability of going on in each state
    origin: Array  # int64 [R]: state * A + action in the model; -1 for an added row


def list_rows(model: TabularModel) -> Rows:
    """Return a model's available (state, action) pairs as rows."""
    origin = np.flatnonzero(model.available)
    owner = origin // model.num_actions
    return Rows(
        first=np.searchsorted(owner, np.arange(model.num_states)),
        owner=owner,
        reward=model.expected_reward.ravel()[origin],
        termination=model.termination.ravel()[origin],
        continuation=model.continuation if model.available.all() else model.continuation[origin],
        origin=origin,
    )


def back_up(rows: Rows, values: Array, gamma: float) -> Array:
    """Return the action values [R] that follow from state values [S] by one Bellman backup."""
    return rows.reward + gamma * (rows.continuation @ values)


def take_best(rows: Rows, action_values: Array) -> Array:
    """Return each state's largest action value, [S], of action values [R]."""
    return np.maximum.reduceat(action_values, rows.first)


def pick_first(rows: Rows, flagged: Array) -> Array:
    """Return each state's first flagged row, int64 [S]; flags are bool [R], at least one per state."""
    candidates = np.where(flagged, np.arange(len(flagged)), len(flagged))
    return np.minimum.reduceat(candidates, rows.first)


def bound_rounding(rows: Rows, values: Array, gamma: float) -> float:
    """Return a bound on the float64 rounding error of `back_up(rows, values) - values`, values [S], in the sup norm.

    A sum of n products errs by less than n + 2 roundings of the sum of their magnitudes
    (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1).
    """
    terms = int(np.diff(rows.continuation.indptr).max(initial=0)) + 5
    sizes = np.abs(rows.reward) + gamma * (rows.continuation @ np.abs(values)) + np.abs(values)[rows.owner]
    return float(terms * np.finfo(np.float64).eps * sizes.max())


def evaluate_rows(rows: Rows, chosen: Array, gamma: float) -> Array:
    """Return the values [S] of always taking the chosen row of each state, int64 [S].

    Raises:
        NeverEnds: gamma = 1 and rewards go on for ever.
    """
    return solve_values(rows.continuation[chosen], rows.reward[chosen], rows.termination[chosen], gamma)


def solve_values(chain: sparse.csr_matrix, reward: Array, termination: Array, gamma: float) -> Array:
    """Solve `v = reward + gamma * chain @ v` for a Markov chain [S, S] with rewards and terminations [S].

    At gamma = 1 a state from which no reward can be reached is worth 0, whether or not it ends.

    Returns:
        Values [S].

    Raises:
        NeverEnds: gamma = 1 and rewards go on for ever.
    """
    chain = sparse.csr_matrix(chain)
    chain.eliminate_zeros()
    if gamma < 1.0:
        return _solve_refined(chain, reward, gamma)
    values = np.zeros(len(reward))
    earning = find_reaching(chain, reward != 0)
    _require_end(chain, earning, termination)
    inner = np.flatnonzero(earning)
    values[inner] = _solve_refined(chain[inner][:, inner], reward[inner], 1.0)
    return values


def _require_end(chain: sparse.csr_matrix, earning: Array, termination: Array) -> None:
    """Raise NeverEnds with the first state from which rewards never stop."""
    leaves = (termination > 0) | (chain @ (~earning).astype(np.float64) > 0)
    stops = find_reaching(chain, leaves | ~earning)
    if not stops.all():
        raise NeverEnds(
            f"gamma = 1: from state {int(np.argmin(stops))} rewards may go on for ever, so that no"
            " undiscounted return is defined; take gamma below 1"
        )


def _solve_refined(chain: sparse.csr_matrix, reward: Array, gamma: float) -> Array:
    if not len(reward):
        return np.zeros(0)
    system = sparse.identity(len(reward), format="csc") - gamma * sparse.csc_matrix(chain)
    factors = linalg.splu(sparse.csc_matrix(system))
    values = factors.solve(reward)
    return values + factors.solve(
        reward - system @ values
    )  # one step of refinement removes most of the rounding
