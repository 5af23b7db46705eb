"""The random walks of examples 6.2 and 7.1, on which prediction methods are compared."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from rl_lab.envs.boards import BoardEnv
from rl_lab.envs.checks import require_finite, require_whole
from rl_lab.envs.maps import Board
from rl_lab.envs.tabular import end_rows, spread_evenly
from rl_lab.mdp.model import TabularModel


class RandomWalk(BoardEnv):
    """Drift left or right with equal probability until the walk leaves at one end; there is nothing to decide.

    States 1 to `states` are numbered from the left; 0 and `states + 1` are the ends. The walk starts in the middle,
    so `states` must be odd. The only action is 0. Leaving on the right pays 1, on the left `left_reward`.
    Undiscounted; if the left pays 0, the value of state k is k / (states + 1).

    Source: Sutton and Barto, "Reinforcement Learning: An Introduction", 2nd ed., example 6.2 (5 states) and example
    7.1 (19 states, leaving on the left pays -1).
    """

    def __init__(self, *, states: int = 5, left_reward: float = 0.0, render_mode: str | None = None) -> None:
        """Make the walk. Raises ValueError unless `states` is odd and positive, and `left_reward` finite."""
        if require_whole("states", states, 1) % 2 == 0:
            raise ValueError(f"states {states} must be odd and at least 1")
        left_reward = require_finite("left_reward", left_reward)
        middle = (states + 1) // 2
        labels = {k: chr(ord("A") + k - 1) if states <= 5 else str(k) for k in range(1, states + 1)}
        line = "P" + "." * (middle - 1) + "S" + "." * (middle - 1) + "G"
        super().__init__(_make_model(states, left_reward), Board((line,), labels=labels), render_mode)

    def get_action_meanings(self) -> list[str]:
        """Return the names of the actions, in their order."""
        return ["drift"]


@lru_cache(maxsize=8)
def _make_model(states: int, left_reward: float) -> TabularModel:
    last = states + 1
    rows = [end_rows(np.array([0, last]), 1)]
    for state in range(1, last):
        for target in (state - 1, state + 1):
            reward = {0: left_reward, last: 1.0}.get(target, 0.0)
            rows.append(np.array([[state, 0, 0.5, target, reward, target in (0, last)]]))
    return TabularModel.from_outcomes(
        np.concatenate(rows), last + 1, 1, spread_evenly(np.array([last // 2]), last + 1)
    )
