"""Plays many copies of a finite MDP at once, each with its own episodes."""

from __future__ import annotations

import numpy as np

from rl_lab.environments.make import make_env
from rl_lab.mdp.model import TabularModel, extract_model
from rl_lab.types import Array


def model_of(env_id: str) -> TabularModel:
    """Return the model of an environment that has one."""
    model = extract_model(make_env(env_id))
    assert model is not None, env_id
    return model


class Lockstep:
    """Draws outcomes of a model for arrays of states and actions.

    Args:
        rng: where all draws come from.
    """

    def __init__(self, model: TabularModel, rng: np.random.Generator):
        counts = np.diff(model.indptr)
        shape = (len(counts), int(counts.max()))
        self._model, self._rng = model, rng
        self._sums = np.ones(shape)  # cumulative probabilities of a row's outcomes, padded with 1
        for row in np.flatnonzero(counts):
            span = slice(model.indptr[row], model.indptr[row + 1])
            self._sums[row, : counts[row] - 1] = np.cumsum(model.probability[span])[:-1]
        self._starts = np.cumsum(model.initial)

    def begin(self, copies: int) -> Array:
        """Return the first states of so many episodes, int64 [K]."""
        drawn = np.searchsorted(self._starts, self._rng.random(copies), side="right")
        return np.minimum(drawn, len(self._starts) - 1)

    def step(self, state: Array, action: Array) -> tuple[Array, Array, Array]:
        """Return the next states [K], the rewards [K] and whether the episodes end, bool [K]."""
        row = state * self._model.num_actions + action
        which = (self._rng.random(len(row))[:, None] >= self._sums[row]).sum(axis=1)
        at = self._model.indptr[row] + np.minimum(which, np.diff(self._model.indptr)[row] - 1)
        return self._model.successor[at].astype(np.int64), self._model.reward[at], self._model.terminated[at]
