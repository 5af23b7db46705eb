"""The 5x5 grid world of example 3.5, in which every policy goes on for ever."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from rl_lab.envs.boards import Board, BoardEnv, build_model
from rl_lab.mdp.model import TabularModel

JUMPS = {1: (21, 10.0), 3: (13, 5.0)}  # from A and B: to where, at what reward
BOARD = Board((".....",) * 5, labels={1: "A +10", 21: "A'", 3: "B +5", 13: "B'"})


class SuttonGrid5x5(BoardEnv):
    """Walk on a grid with two springboards; nothing ever ends.

    Actions 0 to 3 go up, right, down and left. A step off the grid stays and pays -1. Any action
    in A = state 1 leads to A' = 21 and pays 10, any in B = 3 leads to B' = 13 and pays 5; all else
    pays 0. The book discounts with 0.9 and names no start: one of the 25 cells is drawn evenly.

    Source: Sutton and Barto, "Reinforcement Learning: An Introduction", 2nd ed., example 3.5
    (figure 3.2), whose optimal values are those of example 3.8 (figure 3.5).
    """

    def __init__(self, *, render_mode: str | None = None) -> None:
        super().__init__(_make_model(), BOARD, render_mode)


@lru_cache(maxsize=1)
def _make_model() -> TabularModel:
    target = BOARD.neighbours.copy()
    reward = np.where(target == np.arange(25)[:, None], -1.0, 0.0)
    for state, (landing, prize) in JUMPS.items():
        target[state], reward[state] = landing, prize
    return build_model(BOARD, target, reward, final=np.empty(0, np.int64), starts=np.arange(25))
