"""The exact values of the policy that acts uniformly at random, which prediction learns."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import sparse

from rl_lab.mdp.model import TabularModel, find_reaching
from rl_lab.mdp.rows import solve_values
from rl_lab.mdp.solve import follow_policy
from rl_lab.types import Array


@lru_cache(maxsize=4)
def uniform_values(model: TabularModel, gamma: float) -> tuple[Array, Array]:
    """Return the states in which the policy can be asked to act, int64 [M], and their values, [M].

    It draws legal actions uniformly; a time limit isn't counted.

    Raises:
        NeverEnds: at gamma = 1, an episode may go on for ever.
    """
    policy = model.available / model.available.sum(axis=1, keepdims=True)
    chain, reward, ends = follow_policy(model, policy)
    met = np.flatnonzero(find_reaching(sparse.csr_matrix(chain.T), model.initial > 0))
    return met, solve_values(chain[met][:, met], reward[met], ends[met], gamma)


def uniform_return(model: TabularModel, gamma: float) -> float:
    """Return the policy's expected discounted return from the start.

    Raises:
        NeverEnds: as `uniform_values`.
    """
    met, values = uniform_values(model, gamma)
    return float(model.initial[met] @ values)


def root_mean_squared_errors(model: TabularModel, tables: Array, cells: Array, gamma: float) -> Array:
    """Return by how much each of K tables of values is wrong, over the states that can be met, [K].

    Args:
        tables: [K, C].
        cells: the row of a table that shows each state, integers [S].

    Raises:
        NeverEnds: as `uniform_values`.
    """
    met, values = uniform_values(model, gamma)
    return np.sqrt(((tables[:, cells[met]] - values) ** 2).mean(axis=1))
