"""The 4x4 grid world of example 4.1, which illustrates policy evaluation."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from rl_lab.envs.boards import BoardEnv, build_model
from rl_lab.envs.maps import MOVES, Board
from rl_lab.mdp.model import TabularModel

BOARD = Board(("G...", "....", "....", "...G"), labels={n: str(n) for n in range(1, 15)})


class SuttonGrid4x4(BoardEnv):
    """Walk to one of two corners; each step pays -1.

    Actions 0 to 3 go up, right, down and left; a step off the grid has no effect. States 1 to 14 are numbered as in
    the book; 0 and 15 are its single terminal state. The book names no start, so each of the states 1 to 14 is an
    equally likely one. Undiscounted.

    Source: Sutton and Barto, "Reinforcement Learning: An Introduction", 2nd ed., example 4.1 (figure 4.1).
    """

    def __init__(self, *, render_mode: str | None = None) -> None:
        """Make the environment. Raises ValueError for an unknown render mode."""
        super().__init__(_make_model(), BOARD, render_mode, moves=MOVES)


@lru_cache(maxsize=1)
def _make_model() -> TabularModel:
    target = BOARD.neighbours
    return build_model(BOARD, target, np.full(target.shape, -1.0), BOARD.find("G"), np.arange(1, 15))
