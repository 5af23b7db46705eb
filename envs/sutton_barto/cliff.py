"""The cliff walk of example 6.6."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from rl_lab.envs.boards import BoardEnv, build_model
from rl_lab.envs.maps import MOVES, Board
from rl_lab.mdp.model import TabularModel

BOARD = Board(("............",) * 3 + ("SPPPPPPPPPPG",))
STEP_REWARD, FALL_REWARD = -1.0, -100.0


class Cliff(BoardEnv):
    """Walk along a cliff to the goal; each step pays -1.

    Actions 0 to 3 go up, right, down and left; a step off the grid has no effect. A step into the cliff pays -100
    and leads back to the start; only the goal ends the episode. States are numbered row by row as in Gymnasium's
    CliffWalking, including the cells of the cliff (37 to 46), which are never occupied. Undiscounted; the best
    return is -13.

    Source: Sutton and Barto, "Reinforcement Learning: An Introduction", 2nd ed., example 6.6.
    """

    def __init__(self, *, render_mode: str | None = None) -> None:
        """Make the environment. Raises ValueError for an unknown render mode."""
        super().__init__(_make_model(), BOARD, render_mode, moves=MOVES)


@lru_cache(maxsize=1)
def _make_model() -> TabularModel:
    start = BOARD.find("S")
    falls = np.isin(BOARD.neighbours, BOARD.find("P"))
    target = np.where(falls, start[0], BOARD.neighbours)
    reward = np.where(falls, FALL_REWARD, STEP_REWARD)
    return build_model(BOARD, target, reward, BOARD.find("G"), start)
