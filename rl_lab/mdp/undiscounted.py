"""Solving the undiscounted problem (gamma = 1): how it is made well-posed, and how a solution is certified.

Where an agent may wander for ever at no cost (bumping into a wall, reward 0), Bellman's equation has many
solutions, and greedy policies may never arrive. States that reach one another with certainty and for free
have the same value. They are merged into one state, which may also stay where it is for ever at reward 0:
the end components of Haddad and Monmege, "Interval iteration algorithm for MDPs and IMDPs", 2018
(https://doi.org/10.1016/j.tcs.2016.12.003). The merged problem's values can be certified.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from rl_lab.mdp.model import find_reaching
from rl_lab.mdp.rows import NeverEnds, NotConverged, Rows, back_up, bound_rounding, evaluate_rows, pick_first
from rl_lab.types import Array

TIED = 1e-10  # relative to max(1, |V|): rows this close to the best count as equally good


def find_free_rows(rows: Rows) -> tuple[Array, Array]:
    """Return the rows that stay within a group of equivalent states at no reward, and the groups.

    The states of a group reach one another with probability 1 along free rows, earning nothing.

    Returns:
        Whether a row is free, bool [R], and the group of each state, int64 [S].
    """
    return end_components(rows, (rows.reward == 0) & (rows.termination == 0))


def end_components(rows: Rows, allowed: Array) -> tuple[Array, Array]:
    """Return the largest end components that can be made of the allowed rows (bool [R]).

    Returns:
        Whether a row is allowed and stays within its component, bool [R], and the component of each state, int64 [S].
        A state with no such row is a component of its own.
    """
    while True:
        label = _label_components(rows, allowed)
        inside = allowed & ~_leaves_component(rows, label)
        if np.array_equal(inside, allowed):
            return allowed, label
        allowed = inside


def merge_free(rows: Rows, free: Array, label: Array) -> Rows:
    """Return the rows of the merged problem: all that aren't free, and one per group for staying at 0 for ever.

    Args:
        free: whether a row is free, bool [R].
        label: the group of each state, int64 [S].
    """
    count = int(label.max()) + 1
    stays = np.unique(label[rows.owner[free]])  # the groups within which the agent may stay
    owner = np.concatenate((label[rows.owner[~free]], stays))
    order = np.argsort(owner, kind="stable")
    members = sparse.csr_matrix((np.ones(len(label)), (np.arange(len(label)), label)), (len(label), count))
    kept = sparse.csr_matrix(rows.continuation[np.flatnonzero(~free)] @ members)
    nowhere = sparse.csr_matrix((len(stays), count))
    zeros = np.zeros(len(stays))
    return Rows(
        first=np.searchsorted(owner[order], np.arange(count)),
        owner=owner[order],
        reward=np.concatenate((rows.reward[~free], zeros))[order],
        termination=np.concatenate((rows.termination[~free], zeros + 1.0))[order],
        continuation=sparse.csr_matrix(sparse.vstack((kept, nowhere), format="csr")[order]),
        origin=np.concatenate((rows.origin[~free], np.full(len(stays), -1)))[order],
    )


def require_end(rows: Rows, label: Array) -> None:
    """Check that from every state some policy ends the episode.

    Args:
        label: the group of each state, int64 [S], which is its state in `rows`.

    Raises:
        NeverEnds: from some state none does; the message names it.
    """
    ends = find_reaching(
        link_states(rows, np.ones(len(rows.owner), bool)), _any_row(rows, rows.termination > 0)
    )
    if not ends.all():
        state = int(np.argmin(ends[label]))
        raise NeverEnds(
            f"gamma = 1: from state {state} no policy ends and rewards go on for ever; take gamma below 1"
        )


def certify(rows: Rows, chosen: Array, values: Array, tolerance: float) -> float:
    """Return a certified bound on the sup-norm distance of values [S] from the optimum of a merged problem.

    Let h be the longest expected number of steps under rows tied with the chosen ones, and
    u = values + eps * h. If u strictly exceeds reward + P u in every row, then a policy's expected reward
    in n steps is at most u minus the slack collected on the way: policies that end are worth at most u, and
    all others minus infinity. Conversely the chosen rows are worth at least values - eps * h, since h falls
    by at least 1 along them. Both together give the bound eps * max(h).

    Args:
        chosen: the row that the policy takes in each state, int64 [S].
        values: the policy's values [S].

    Raises:
        NotConverged: the inequality holds for no eps up to tolerance / max(h).
    """
    error = bound_rounding(rows, values, 1.0)
    gap = values[rows.owner] - back_up(rows, values, 1.0)
    steps = _longest(rows, chosen, gap <= TIED * max(1.0, float(np.abs(values).max())))
    drift = rows.continuation @ steps - steps[rows.owner]  # at most -1 in the chosen rows, up to rounding
    drift += bound_rounding(rows._replace(reward=np.zeros(len(rows.owner))), steps, 1.0)
    eps = 2.0 * (float(np.abs(gap[chosen]).max()) + error) + 1e-30  # above 0 even where all values are 0
    while eps * steps.max() <= tolerance:
        if np.min(gap - error - eps * drift) > 0:
            return float(eps * steps.max() * (1.0 + 1e-12))
        eps *= 4.0
    raise NotConverged(
        f"gamma = 1: values can't be certified to {tolerance:.1e}: within rounding, going on for longer"
        " costs nothing; take gamma below 1 or a larger tolerance"
    )


def _longest(rows: Rows, chosen: Array, tied: Array) -> Array:
    """Return the longest expected number of steps [S] under tied rows (bool [R]), by policy iteration.

    If some choice of tied rows never ends, there is no longest, and the steps of the chosen rows are returned.
    """
    lasting = rows._replace(reward=np.ones(len(rows.owner)))
    tied = tied | np.isin(np.arange(len(rows.owner)), chosen)
    steps = of_chosen = evaluate_rows(lasting, chosen, 1.0)
    while True:
        onward = np.where(tied, rows.continuation @ steps, -np.inf)
        longest = np.maximum.reduceat(onward, rows.first)
        gains = longest > onward[chosen] + 1e-9 * (1.0 + longest)
        if not gains.any():
            return steps
        chosen = np.where(gains, pick_first(rows, onward >= longest[rows.owner]), chosen)
        try:
            steps = evaluate_rows(lasting, chosen, 1.0)
        except NeverEnds:
            return of_chosen


def lift_choice(rows: Rows, merged: Rows, chosen: Array, free: Array, label: Array) -> Array:
    """Translate a policy of the merged problem back: return a row of the original problem per state, int64 [S].

    Within a group, free rows lead to the member that owns the chosen row.

    Args:
        chosen: the row of each group in the merged problem, int64.
        free: whether a row is free, bool [R].
        label: the group of each state, int64 [S].
    """
    picked = np.full(len(label), -1)
    origin = merged.origin[chosen]
    leaving = np.searchsorted(rows.origin, origin[origin >= 0])
    picked[rows.owner[leaving]] = leaving
    stay = (origin < 0)[label]  # any free row will do
    candidates = np.flatnonzero(free & stay[rows.owner])[::-1]
    picked[rows.owner[candidates]] = candidates
    while np.any(picked < 0):
        known = (picked >= 0).astype(np.float64)
        closer = free & (picked[rows.owner] < 0) & (rows.continuation @ known > 0)
        candidates = np.flatnonzero(closer)[::-1]
        assert candidates.size, "the states of a group reach one another"
        picked[rows.owner[candidates]] = candidates
    return picked


def link_states(rows: Rows, selected: Array) -> sparse.csr_matrix:
    """Return a matrix [S, S] with an entry wherever a selected row (bool [R]) leads from one state to another."""
    size = len(rows.first)
    index = np.flatnonzero(selected)
    owners = sparse.csr_matrix(
        (np.ones(len(index)), (rows.owner[index], np.arange(len(index)))), (size, len(index))
    )
    return sparse.csr_matrix(owners @ rows.continuation[index])


def _label_components(rows: Rows, selected: Array) -> Array:
    _, label = csgraph.connected_components(link_states(rows, selected), connection="strong")
    return label.astype(np.int64)


def _leaves_component(rows: Rows, label: Array) -> Array:
    owner = np.repeat(rows.owner, np.diff(rows.continuation.indptr))
    row = np.repeat(np.arange(len(rows.owner)), np.diff(rows.continuation.indptr))
    outside = label[rows.continuation.indices] != label[owner]
    return np.bincount(row[outside], minlength=len(rows.owner)) > 0


def _any_row(rows: Rows, flagged: Array) -> Array:
    return np.logical_or.reduceat(flagged, rows.first)
