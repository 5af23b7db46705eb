"""The 5x5 grid world of example 3.5, which never ends."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from rl_lab.envs.boards import BoardEnv, build_model
from rl_lab.envs.maps import MOVES, Board
from rl_lab.mdp.model import TabularModel

JUMPS = {1: (21, 10.0), 3: (13, 5.0)}  # from A and from B: (successor, reward)
BOARD = Board((".....",) * 5, labels={1: "A +10", 21: "A'", 3: "B +5", 13: "B'"})


class SuttonGrid5x5(BoardEnv):
    """Walk on a grid in which two cells pay and lead elsewhere; the problem never terminates.

    Actions 0 to 3 go up, right, down and left. A step off the grid has no effect and pays -1. Any action in A
    (state 1) leads to A' (21) and pays 10, any action in B (3) leads to B' (13) and pays 5; everything else pays 0.
    The book discounts with 0.9. It names no start, so each of the 25 cells is an equally likely one.

    Source: Sutton and Barto, "Reinforcement Learning: An Introduction", 2nd ed., example 3.5 (figure 3.2); the
    optimal values are in example 3.8 (figure 3.5).
    """

    def __init__(self, *, render_mode: str | None = None) -> None:
        """Make the environment. Raises ValueError for an unknown render mode."""
        super().__init__(_make_model(), BOARD, render_mode, moves=MOVES)


@lru_cache(maxsize=1)
def _make_model() -> TabularModel:
    target = BOARD.neighbours.copy()
    reward = np.where(target == np.arange(25)[:, None], -1.0, 0.0)
    for state, (successor, prize) in JUMPS.items():
        target[state], reward[state] = successor, prize
    return build_model(BOARD, target, reward, final=np.empty(0, np.int64), starts=np.arange(25))
