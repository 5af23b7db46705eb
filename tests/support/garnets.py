"""Random finite models."""

import numpy as np

from rl_lab.mdp.model import TabularModel


def garnet(
    seed: int, states: int, actions: int, branches: int, ending: float = 0.0, share: float = 0.9
) -> TabularModel:
    """Return a random model; a share `ending` of its outcomes terminates, a `share` of its actions is available."""
    rng = np.random.default_rng(seed)
    shape = (states, actions, branches)
    available = rng.random((states, actions)) < share
    available[:, 0] |= ~available.any(axis=1)
    return TabularModel.from_arrays(
        rng.dirichlet(np.ones(branches), shape[:2]),
        rng.integers(0, states, shape),
        rng.normal(size=shape),
        rng.random(shape) < ending,
        available=available,
    )
