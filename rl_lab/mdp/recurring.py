"""A finite MDP that never stops: its episodes follow one another, and its policies visit states for ever.

The average reward of such a process is well-defined however its episodes end. What it can depend on is decided by
the model's maximal end components: sets of states that reach one another, and actions that don't leave them. With
one of them the model is weakly communicating, and the optimal average reward is the same from every state; unichain
models are among these. With several it is multichain.
Sources: Puterman, "Markov Decision Processes", 1994, section 8.3; de Alfaro, "Formal Verification of Probabilistic
Systems", 1997, for end components.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from rl_lab.mdp.model import TabularModel, find_reaching
from rl_lab.mdp.rows import Rows, list_rows, pick_first
from rl_lab.mdp.undiscounted import end_components, link_states
from rl_lab.types import Array

Structure = Literal["communicating", "weakly communicating"]


class Multichain(ValueError):
    """The average reward depends on where a process starts."""


class Process(NamedTuple):
    """The rows of a model whose ended episodes begin again.

    If an episode can end, one more state, the last, stands for the moment between two episodes: it takes no step,
    and its only row leads to the initial distribution.
    """

    rows: Rows
    """All rows; their probabilities of going on sum to 1."""
    steps: Array
    """Environment steps that a row takes, float64 [R]: 1, or 0 between two episodes."""
    states: Array
    """The model's states in their order, int64, without the one that stands for the moment between two episodes."""

    @property
    def restarts(self) -> bool:
        """Whether an episode can end, so that the last state is the moment between two episodes."""
        return bool(self.steps[-1] == 0.0)


def join_episodes(model: TabularModel) -> Process:
    """Return the process in which each episode of a model is followed by the next."""
    rows = list_rows(model)
    if not rows.termination.any():
        rows = rows._replace(continuation=normalise(rows.continuation))
        return Process(rows, np.ones(len(rows.owner)), np.arange(model.num_states))
    size, ends = model.num_states, sparse.csr_matrix(rows.termination[:, None])
    begins = sparse.csr_matrix(np.append(model.initial, 0.0)[None, :])
    going_on = sparse.vstack((sparse.hstack((rows.continuation, ends)), begins), format="csr")
    return Process(
        Rows(
            first=np.append(rows.first, len(rows.owner)),
            owner=np.append(rows.owner, size),
            reward=np.append(rows.reward, 0.0),
            termination=np.zeros(len(rows.owner) + 1),
            continuation=normalise(sparse.csr_matrix(going_on)),
            origin=np.append(rows.origin, -1),
        ),
        np.append(np.ones(len(rows.owner)), 0.0),
        np.arange(size),
    )


def keep_reachable(process: Process, initial: Array) -> Process:
    """Return the part of a process that can be reached from the initial distribution [S] of its model."""
    rows, size = process.rows, len(process.rows.first)
    begins = np.zeros(size, dtype=bool)
    begins[: len(initial)] = initial > 0
    reached = find_reaching(sparse.csr_matrix(link_states(rows, np.ones(len(rows.owner), bool)).T), begins)
    kept, index = np.flatnonzero(reached[rows.owner]), np.flatnonzero(reached)
    owner = np.searchsorted(index, rows.owner[kept])
    return Process(
        Rows(
            first=np.searchsorted(owner, np.arange(len(index))),
            owner=owner,
            reward=rows.reward[kept],
            termination=rows.termination[kept],
            continuation=sparse.csr_matrix(rows.continuation[kept][:, index]),
            origin=rows.origin[kept],
        ),
        process.steps[kept],
        index[index < len(initial)],
    )


def normalise(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    """Return a matrix [R, S] whose rows sum to 1: a model's own may miss that by a little."""
    total = np.asarray(matrix.sum(axis=1)).ravel()
    exact = sparse.csr_matrix(sparse.diags(1.0 / total) @ matrix)
    exact.eliminate_zeros()
    return exact


def components_of(process: Process) -> tuple[list[Array], Structure]:
    """Return the states, int64 each, of the maximal end components, and what a process with one of them is.

    A state in none of them is left for good by every policy.
    """
    rows = process.rows
    inside, component = end_components(rows, np.ones(len(rows.owner), dtype=bool))
    found = [np.flatnonzero(component == c) for c in np.unique(component[rows.owner[inside]])]
    return found, ("communicating" if len(found[0]) == len(rows.first) else "weakly communicating")


def require_one_component(model: TabularModel) -> tuple[Process, Structure, Array]:
    """Return a model's process, in which the optimal average reward can't depend on the start.

    If the whole model has several maximal end components, the part that can be reached from its initial
    distribution is looked at alone.

    Returns:
        The process, what it is, and the states, int64, that some policy visits again and again.

    Raises:
        Multichain: there are several maximal end components; the message names a state in each of two.
    """
    process = join_episodes(model)
    found, structure = components_of(process)
    if len(found) > 1:
        process = keep_reachable(process, model.initial)
        found, structure = components_of(process)
    if len(found) > 1:
        one, other = (int(process.states[states[0]]) for states in found[:2])
        raise Multichain(
            f"multichain: no policy goes from state {one} to state {other} and back for ever, so that the optimal"
            " average reward may depend on the start (allowed: unichain and weakly communicating models)"
        )
    return process, structure, found[0]


def recurrent_classes(chain: sparse.csr_matrix) -> list[Array]:
    """Return the classes of states, int64 each, that a Markov chain [S, S] never leaves once it is in them."""
    _, label = csgraph.connected_components(chain, connection="strong")
    start = np.repeat(np.arange(len(label)), np.diff(chain.indptr))
    open_ = np.zeros(int(label.max()) + 1, dtype=bool)
    open_[label[start[label[chain.indices] != label[start]]]] = True
    return [np.flatnonzero(label == closed) for closed in np.flatnonzero(~open_)]


def lead_to(rows: Rows, chosen: Array, target: Array) -> Array:
    """Return rows int64 [S] that arrive at the target (bool [S]) from everywhere, and the chosen ones within it.

    Each row leads with positive probability to the target, or one step closer to it.
    """
    links = link_states(rows, np.ones(len(rows.owner), dtype=bool))
    links.eliminate_zeros()
    steps = csgraph.dijkstra(links.T, indices=np.flatnonzero(target), unweighted=True, min_only=True)
    assert np.isfinite(steps).all(), "with one end component every state can reach the others in it"
    matrix = rows.continuation
    ahead = np.where(matrix.data > 0, steps[matrix.indices], np.inf)
    closer = np.minimum.reduceat(ahead, matrix.indptr[:-1]) < steps[rows.owner]  # no row is empty
    return np.where(target, chosen, pick_first(rows, closer))
