"""The exact returns of many deterministic policies of one model at once."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import sparse

from rl_lab.mdp.differential import Chain
from rl_lab.mdp.model import TabularModel, find_reaching
from rl_lab.mdp.recurring import normalise, recurrent_classes
from rl_lab.mdp.rows import NeverEnds, solve_values
from rl_lab.types import Array

DENSE_UP_TO = 150  # states: below it the equations of many policies are solved together, as dense arrays
BLOCK_BYTES = 2**25  # of dense equations that are solved together


def greedy_actions(q: Array, available: Array) -> Array:
    """Return the first best available action, int64 [..., S], of action values [..., S, A]; `available` is [S, A]."""
    return np.where(available, q, -np.inf).argmax(axis=-1)


def greedy_returns(model: TabularModel, policies: Array, gamma: float) -> Array:
    """Return the expected discounted return of each policy from the start, without a time limit, float64 [B].

    At gamma = 1 a policy may go on for ever. Then it is minus or plus infinity if the policy loses or earns on average
    wherever it stays, and nan if that differs, or if what it earns and loses comes to nothing on average.

    Args:
        policies: an action for each state, integers [B, S].

    Raises:
        ValueError: gamma is out of range.
    """
    if not 0.0 <= gamma <= 1.0:
        raise ValueError(f"gamma {gamma} must be in 0..1")
    policies, which = np.unique(policies, axis=0, return_inverse=True)  # late ones are often the same
    if gamma < 1.0 and model.num_states <= DENSE_UP_TO:
        size = max(1, BLOCK_BYTES // (8 * model.num_states**2))
        blocks = [_dense(model, policies[i : i + size], gamma) for i in range(0, len(policies), size)]
        found = np.concatenate(blocks) if blocks else np.zeros(0)
    else:
        found = np.array([_sparse(model, policy, gamma) for policy in policies])
    return found[which.ravel()]


def _dense(model: TabularModel, policies: Array, gamma: float) -> Array:
    """Solve the equations of policies [B, S] in one call, [B]."""
    states = np.arange(model.num_states)
    systems = np.eye(model.num_states) - gamma * _continuation(model)[states, policies]  # [B, S, S]
    values = np.linalg.solve(systems, model.expected_reward[states, policies][..., None])
    return values[..., 0] @ model.initial


@lru_cache(maxsize=4)
def _continuation(model: TabularModel) -> Array:
    """Return the probabilities of going on as a dense array [S, A, S]."""
    shape = (model.num_states, model.num_actions, model.num_states)
    return model.continuation.toarray().reshape(shape)


def _sparse(model: TabularModel, policy: Array, gamma: float) -> float:
    """Solve the equations of one policy, int64 [S], for the states that it meets."""
    rows = np.arange(model.num_states) * model.num_actions + policy
    chain = model.continuation[rows]
    met = find_reaching(sparse.csr_matrix(chain.T), model.initial > 0)
    inner = np.flatnonzero(met)
    reward, ends = model.expected_reward.ravel()[rows], model.termination.ravel()[rows]
    try:
        values = solve_values(chain[inner][:, inner], reward[inner], ends[inner], gamma)
    except NeverEnds:
        return _without_end(chain[inner][:, inner], reward[inner], ends[inner])
    return float(model.initial[inner] @ values)


def _without_end(chain: sparse.csr_matrix, reward: Array, ends: Array) -> float:
    """Return what a policy that rewards go on for ever gets undiscounted: minus or plus infinity, or nan.

    Args:
        chain: the states that it meets, [M, M]; their rewards and probabilities of ending are [M].
    """
    signs: set[float] = set()
    chain = sparse.csr_matrix(chain)
    chain.eliminate_zeros()
    for states in recurrent_classes(chain):
        own = reward[states]
        if (ends[states] == 0).all() and own.any():
            stays = Chain(normalise(chain[states][:, states]), np.ones(len(states)))
            gain, bias = stays.solve(own)
            signs.add(float(np.sign(gain)) if abs(gain) > stays.residual(own, gain, bias) else 0.0)
    return signs.pop() * np.inf if len(signs) == 1 else float("nan")
