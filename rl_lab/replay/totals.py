"""The sum of a step's rewards, for a look at all of them at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rl_lab.types import Array


def total_of(num_envs: int) -> Callable[[Array], float]:
    """Return a function that adds up the rewards [N] of `num_envs` environments, the fastest way for that number."""
    alone: Any = np.ndarray.item
    return alone if num_envs == 1 else lambda rewards: sum(rewards.tolist())
