"""The windy grid world of example 6.5, with the moves of exercise 6.9 and the wind of exercise 6.10."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from rl_lab.envs.boards import BoardEnv
from rl_lab.envs.checks import require_flag
from rl_lab.envs.maps import MOVES, Board
from rl_lab.envs.tabular import end_rows
from rl_lab.mdp.model import TabularModel

WIND = np.array([0, 0, 0, 1, 1, 1, 2, 2, 1, 0])  # cells upwards, by the column from which the agent moves
DIAGONALS = [(-1, 1), (1, 1), (1, -1), (-1, -1)]
ALL_MOVES = np.array([*MOVES.tolist(), *DIAGONALS, (0, 0)])
ROWS = ("..........",) * 3 + ("S......G..",) + ("..........",) * 3
BOARD = Board(ROWS, labels={60 + column: f"wind {wind}" for column, wind in enumerate(WIND) if wind})


class WindyGrid(BoardEnv):
    """Walk to the goal through a wind that blows upwards; each step pays -1.

    Actions 0 to 3 go up, right, down and left. With `moves` 8, actions 4 to 7 go diagonally (exercise 6.9); with 9,
    the last action doesn't move. In the same step the wind of the column from which the agent moves pushes it up;
    the border of the grid holds it back. A `stochastic` wind, wherever there is any, is one cell weaker, as stated
    or one cell stronger with probability 1/3 each (exercise 6.10). Undiscounted; the shortest way takes 15 steps, 7
    with diagonal moves.

    Source: Sutton and Barto, "Reinforcement Learning: An Introduction", 2nd ed., example 6.5.
    """

    def __init__(self, *, moves: int = 4, stochastic: bool = False, render_mode: str | None = None) -> None:
        """Make the environment. Raises ValueError unless `moves` is 4, 8 or 9."""
        if moves not in (4, 8, 9):
            raise ValueError(f"moves {moves} must be 4, 8 or 9")
        stochastic = require_flag("stochastic", stochastic)
        super().__init__(_make_model(moves, stochastic), BOARD, render_mode, moves=ALL_MOVES[:moves])


@lru_cache(maxsize=8)
def _make_model(moves: int, stochastic: bool) -> TabularModel:
    wind = WIND[BOARD.cells[:, 1]]  # [S]
    gusts = (-1, 0, 1) if stochastic else (0,)
    parts = [end_rows(BOARD.find("G"), moves)]
    state, action = (index.ravel() for index in np.indices((len(wind), moves)))
    live = ~np.isin(state, BOARD.find("G"))
    for gust in gusts:
        lift = np.where(wind > 0, wind + gust, 0)
        shift = ALL_MOVES[None, :moves] - np.stack((lift, 0 * lift), axis=1)[:, None]  # [S, moves, 2]
        target = BOARD.shift(shift).ravel()
        share = np.full(len(state), 1.0 / len(gusts))
        ends = np.isin(target, BOARD.find("G"))
        parts.append(np.column_stack((state, action, share, target, 0.0 * share - 1.0, ends))[live])
    initial = (BOARD.state_letters == "S").astype(np.float64)
    return TabularModel.from_outcomes(np.concatenate(parts), len(wind), moves, initial)
