"""Conversion of finite MDPs to and from files and the arrays of pymdptoolbox and QuantEcon.

Those two libraries have neither terminating outcomes nor rewards that depend on the outcome. An outcome
that terminates becomes a move to one additional, absorbing state, the last, in which nothing is earned. A
model without such outcomes gets no additional state. At gamma below 1 the values of all other states agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from scipy import sparse

from rl_lab.mdp.model import TabularModel, index_type, show_index
from rl_lab.storage.files import replacing, require_zip
from rl_lab.types import Array

FORMAT = 1
MEMBERS = ("indptr", "probability", "successor", "reward", "terminated", "initial", "available")


def save_model(model: TabularModel, path: str | Path) -> None:
    """Write a model to a .npz file without pickle; `observe` is stored as the array of all its observations.

    Raises:
        NotWritten: the file system refused; a file that was there is as it was.
    """
    arrays = {name: getattr(model, name) for name in MEMBERS}
    if model.observe is not show_index:
        arrays["observations"] = np.asarray(model.observe(np.arange(model.num_states)))
    with replacing(path, require_zip) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, format=np.array(FORMAT), **arrays)


def load_model(path: str | Path) -> TabularModel:
    """Read and check a file that `save_model` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file isn't a saved model of this format.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (EOFError, ValueError, OSError, AttributeError, TypeError, BadZipFile) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"{path} isn't a saved model: {error}") from error
    missing = [name for name in ("format", *MEMBERS) if name not in arrays]
    if missing or int(arrays["format"]) != FORMAT:
        raise ValueError(
            f"{path} isn't a saved model of format {FORMAT} (missing: {', '.join(missing) or 'nothing'})"
        )
    _check_types(path, arrays)
    observe = ObservationTable(arrays["observations"]) if "observations" in arrays else show_index
    return TabularModel(**{name: arrays[name] for name in MEMBERS}, observe=observe)


class ObservationTable:
    """Maps states to their observations, the rows of an array [S, ...]."""

    def __init__(self, observations: Array):
        self._observations = observations

    def __call__(self, states: Array) -> Array:
        """Return the observations [K, ...] of states [K]."""
        return self._observations[np.asarray(states, dtype=np.int64)]


def to_pymdptoolbox(model: TabularModel) -> tuple[Array, Array]:
    """Return a model as pymdptoolbox takes it: transitions [A, S, S] and expected rewards [S, A].

    Raises:
        ValueError: an action isn't available in some state.
    """
    if not model.available.all():
        state, action = np.argwhere(~model.available)[0]
        raise ValueError(
            f"pymdptoolbox takes every action in every state, and action {action} isn't available in state {state}"
        )
    reward, transitions, _, _ = to_quantecon(model)
    states = transitions.shape[1]
    cube = transitions.toarray().reshape(states, model.num_actions, states)
    return np.ascontiguousarray(cube.transpose(1, 0, 2)), reward.reshape(states, model.num_actions)


def to_quantecon(model: TabularModel) -> tuple[Array, sparse.csr_matrix, Array, Array]:
    """Return a model as QuantEcon's DiscreteDP takes it, as L state-action pairs.

    Returns:
        Rewards [L], transitions [L, S], and the states and actions of the pairs, int64 [L].
    """
    pairs = np.flatnonzero(model.available)
    full = bool(model.available.all())
    transitions = model.continuation if full else model.continuation[pairs]
    reward, ends = model.expected_reward.ravel()[pairs], model.termination.ravel()[pairs]
    states, actions = pairs // model.num_actions, pairs % model.num_actions
    if not ends.any():
        return reward, transitions, states, actions
    final = np.arange(model.num_actions) if full else np.zeros(1, dtype=np.int64)
    stay = sparse.csr_matrix(
        (np.ones(len(final)), (np.arange(len(final)), np.full(len(final), model.num_states)))
    )
    onward = sparse.hstack((transitions, sparse.csr_matrix(ends[:, None])))
    return (
        np.append(reward, np.zeros(len(final))),
        sparse.csr_matrix(sparse.vstack((onward, stay))),
        np.append(states, np.full(len(final), model.num_states)),
        np.append(actions, final),
    )


def from_pymdptoolbox(
    transitions: Array | Sequence[sparse.spmatrix], reward: Array, initial: Array | None = None
) -> TabularModel:
    """Build a model from pymdptoolbox's P and R.

    Args:
        transitions: [A, S, S], or A sparse matrices [S, S].
        reward: [S], [S, A] or [A, S, S].
        initial: probability of starting in each state, [S]; by default uniform.

    Raises:
        ValueError: shapes don't fit together, or the model is invalid.
    """
    matrices = [sparse.csr_matrix(matrix) for matrix in transitions]
    actions, states = len(matrices), matrices[0].shape[0]
    for a, matrix in enumerate(matrices):
        if matrix.shape != (states, states):
            raise ValueError(
                f"transitions of action {a} have the shape {matrix.shape}, not {(states, states)}"
            )
    rows = np.concatenate([np.arange(states) * actions + a for a in range(actions)])
    stacked = sparse.csr_matrix(sparse.vstack(matrices)[np.argsort(rows)])
    reward = np.asarray(reward, dtype=np.float64)
    if reward.shape == (actions, states, states):
        paid = reward.transpose(1, 0, 2).reshape(-1, states)
        row = np.repeat(np.arange(len(rows)), np.diff(stacked.indptr))
        return _build(stacked, paid[row, stacked.indices], np.ones((states, actions), bool), initial)
    if reward.shape == (states,):
        reward = np.repeat(reward[:, None], actions, axis=1)
    if reward.shape != (states, actions):
        raise ValueError(
            f"reward {reward.shape} must be [S], [S, A] or [A, S, S] with S = {states}, A = {actions}"
        )
    return _build(stacked, _spread(stacked, reward.ravel()), np.ones((states, actions), bool), initial)


def from_quantecon(
    reward: Array,
    transitions: Array | sparse.spmatrix,
    s_indices: Array | None = None,
    a_indices: Array | None = None,
    initial: Array | None = None,
) -> TabularModel:
    """Build a model from QuantEcon's R and Q, in either of its two forms.

    Args:
        reward: [S, A], where -inf marks an unavailable action; or [L], one per state-action pair.
        transitions: [S, A, S], or [L, S].
        s_indices: the state of each pair, int [L]; None for the first form.
        a_indices: the action of each pair, int [L]; None for the first form.
        initial: probability of starting in each state, [S]; by default uniform.

    Raises:
        ValueError: shapes don't fit together, a pair is out of range or occurs twice, or the model is invalid.
    """
    reward = np.asarray(reward, dtype=np.float64)
    if s_indices is None or a_indices is None:
        cube = np.asarray(transitions, dtype=np.float64)
        if reward.ndim != 2 or cube.shape != (*reward.shape, reward.shape[0]):
            raise ValueError(
                f"reward {reward.shape} and transitions {cube.shape} must be [S, A] and [S, A, S]"
            )
        keep = np.flatnonzero(~np.isneginf(reward.ravel()))
        s_indices, a_indices = keep // reward.shape[1], keep % reward.shape[1]
        reward, transitions = reward.ravel()[keep], cube.reshape(-1, len(cube))[keep]
    matrix = sparse.csr_matrix(transitions)
    s, a = np.asarray(s_indices, dtype=np.int64), np.asarray(a_indices, dtype=np.int64)
    return _place(matrix, reward, s, a, initial)


def _place(
    matrix: sparse.csr_matrix, reward: Array, s: Array, a: Array, initial: Array | None
) -> TabularModel:
    """Build a model from state-action pairs in any order."""
    states = matrix.shape[1]
    if not len(s) == len(a) == len(reward) == matrix.shape[0]:
        raise ValueError(
            f"{len(reward)} rewards, {matrix.shape[0]} rows, {len(s)} states and {len(a)} actions must agree"
        )
    wrong = (s < 0) | (s >= states) | (a < 0)
    if wrong.any():
        first = int(np.argmax(wrong))
        raise ValueError(f"(state {s[first]}, action {a[first]}) is out of range: there are {states} states")
    actions = int(a.max()) + 1
    rows = s * actions + a
    order = np.argsort(rows, kind="stable")
    twice = np.flatnonzero(np.diff(rows[order]) == 0)
    if twice.size:
        pair = order[twice[0]]
        raise ValueError(f"(state {s[pair]}, action {a[pair]}) is given twice")
    counts = np.zeros(states * actions, dtype=np.int64)
    counts[rows] = np.diff(matrix.indptr)
    available = np.zeros((states, actions), dtype=bool)
    available[s, a] = True
    ordered = matrix if np.array_equal(order, np.arange(len(order))) else sparse.csr_matrix(matrix[order])
    wide = sparse.csr_matrix(
        (ordered.data, ordered.indices, np.append(0, np.cumsum(counts))), (len(counts), states)
    )
    return _build(wide, _spread(ordered, reward[order]), available, initial)


def _spread(matrix: sparse.csr_matrix, reward: Array) -> Array:
    """Repeat each row's reward [L] for all of its outcomes, [K]."""
    return np.repeat(reward, np.diff(matrix.indptr))


def _build(matrix: sparse.csr_matrix, reward: Array, available: Array, initial: Array | None) -> TabularModel:
    states = available.shape[0]
    return TabularModel(
        indptr=matrix.indptr.astype(np.int64),
        probability=matrix.data.astype(np.float64),
        successor=matrix.indices.astype(index_type(states)),
        reward=reward,
        terminated=np.zeros(matrix.nnz, dtype=bool),
        initial=np.full(states, 1 / states) if initial is None else np.asarray(initial, dtype=np.float64),
        available=available,
    )


def _check_types(path: str | Path, arrays: dict[str, Array]) -> None:
    kinds = {"indptr": "i", "successor": "i", "terminated": "b", "available": "b"}
    for name in MEMBERS:
        kind = arrays[name].dtype.kind
        if kind != kinds.get(name, "f"):
            raise ValueError(f"{path}: {name} holds {arrays[name].dtype}, which no saved model does")
