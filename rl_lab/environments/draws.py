"""Random actions under a mask, for spaces of several parts."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from rl_lab.environments.actions import Composite, counts_of, first_of, joined_actions, leaf_spaces
from rl_lab.policies import random_parts
from rl_lab.types import Array


def draw_legal(space: spaces.Space, rng: np.random.Generator, num_envs: int, mask: Array) -> Array:
    """Draw an action for each environment, [N, ...], with every discrete entry uniform over its legal values.

    Args:
        mask: bool [N, M], the values of every discrete entry side by side.
    """
    if isinstance(space, Composite):
        leaves = leaf_spaces(space)
        ends = np.cumsum([sum(counts_of(leaf) or ()) for leaf in leaves])
        shares = np.split(mask, ends[:-1], axis=1)
        drawn = [draw_legal(leaf, rng, num_envs, share) for leaf, share in zip(leaves, shares, strict=True)]
        return np.concatenate([np.reshape(x, (num_envs, -1)).astype(np.float64) for x in drawn], axis=1)
    if (counts := counts_of(space)) is None:
        return joined_actions(space, [draw_from_space(space, rng) for _ in range(num_envs)])
    values = random_parts(rng, num_envs, counts, mask).reshape(num_envs, *(space.shape or ()))
    return (values + first_of(space)).astype(space.dtype)


def draw_from_space(space: spaces.Space, rng: np.random.Generator) -> Any:
    """Draw an action as the space describes it, after seeding the space's own generator from `rng`."""
    space.seed(int(rng.integers(2**31)))
    return space.sample()
