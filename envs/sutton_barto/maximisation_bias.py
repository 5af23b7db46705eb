"""The small problem of example 6.7 in which maximising over estimates misleads."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from rl_lab.envs.boards import BoardEnv
from rl_lab.envs.checks import require_whole
from rl_lab.envs.maps import Board
from rl_lab.envs.sutton_barto.bandit import LEVELS, slice_normal
from rl_lab.envs.tabular import end_rows, spread_evenly
from rl_lab.mdp.model import TabularModel

MEAN = -0.1  # of the rewards of state B
B, A, END = range(3)


class MaximisationBias(BoardEnv):
    """Go right from A and end with nothing, or left to B, where each of `actions` ways out costs 0.1 on average.

    States are B (0), A (1), where an episode begins, and the end (2). In A action 0 goes left and 1 right, both for
    nothing; the others are unavailable there, and count as 1. In B each action ends the episode with -0.1 plus noise:
    one of 200 equally likely values, the means of 200 equally likely slices of the normal distribution scaled to
    variance 1, so that the problem is finite. Going right is always best; the largest of many estimates in B says
    otherwise for long. Undiscounted. The book names no number of actions; here it is 10.

    Source: Sutton and Barto, "Reinforcement Learning: An Introduction", 2nd ed., example 6.7 (figure 6.5).
    """

    def __init__(self, *, actions: int = 10, render_mode: str | None = None) -> None:
        """Make the problem. Raises ValueError unless `actions` is a whole number of at least 2."""
        model = _make_model(require_whole("actions", actions, 2))
        super().__init__(model, Board((".SG",), labels={B: "B", A: "A"}), render_mode)


@lru_cache(maxsize=8)
def _make_model(actions: int) -> TabularModel:
    left, right = [A, 0, 1.0, B, 0.0, 0], [[A, action, 1.0, END, 0.0, 1] for action in range(1, actions)]
    noise = [
        [B, action, 1.0 / LEVELS, END, MEAN + level, 1]
        for action in range(actions)
        for level in slice_normal(LEVELS)
    ]
    rows = np.concatenate((np.array([left, *right, *noise]), end_rows(np.array([END]), actions)))
    available = np.ones((3, actions), np.bool_)
    available[A, 2:] = False
    return TabularModel.from_outcomes(rows, 3, actions, spread_evenly(np.array([A]), 3), available)
