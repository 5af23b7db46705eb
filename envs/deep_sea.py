"""Deep sea: a treasure that only deep exploration finds."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from rl_lab.envs.boards import BoardEnv
from rl_lab.envs.checks import require_whole
from rl_lab.envs.maps import Board
from rl_lab.envs.tabular import end_rows, spread_evenly
from rl_lab.mdp.model import TabularModel
from rl_lab.types import Array

MOVE_COST = 0.01  # of going right at every step


class DeepSea(BoardEnv):
    """Sink one row per step through a sea of `size` rows and columns, moving left or right.

    Going right costs 0.01 / size, and pays 1 in the rightmost column, which can only be reached in time by going
    right at every step. So the best return is 0.99, and one of 2^size action sequences earns it. Which of the two
    actions goes right is drawn for each cell from `problem_seed`; with None it is action 1 everywhere. An episode
    takes `size` steps and ends on the floor, which is one more row.

    Source: Osband et al., "Behaviour Suite for Reinforcement Learning", ICLR 2020,
    https://arxiv.org/abs/1908.03568, section "deep sea", the deterministic form; and Osband, Van Roy, Russo and
    Wen, "Deep Exploration via Randomized Value Functions", JMLR 2019, https://arxiv.org/abs/1703.07608.
    """

    def __init__(
        self, *, size: int = 10, problem_seed: int | None = 0, render_mode: str | None = None
    ) -> None:
        """Make the environment. Raises ValueError unless `size` is a whole number of at least 2."""
        size = require_whole("size", size, 2)
        if problem_seed is not None:
            problem_seed = require_whole("problem_seed", problem_seed, 0)
        super().__init__(
            _make_model(size, problem_seed),
            _make_board(size),
            render_mode,
            moves=_aims(_draw_right(size, problem_seed)),
        )


def _make_board(size: int) -> Board:
    """Return the board [size + 1, size]; cells that can't be reached are drawn as walls."""
    sea = [("." * row + ".").ljust(size, "#") for row in range(size)]
    sea[0] = "S" + sea[0][1:]
    sea[-1] = sea[-1][:-1] + "G"
    return Board((*sea, "." * size))


def _draw_right(size: int, problem_seed: int | None) -> Array:
    """Return the action that goes right in each cell, int64 [size, size]."""
    if problem_seed is None:
        return np.ones((size, size), dtype=np.int64)
    return np.random.default_rng(problem_seed).integers(2, size=(size, size))


def _aims(right: Array) -> Array:
    """Return (rows, columns) by which each action aims to move, float64 [S, 2, 2]; on the floor nan, as it is the end.

    Args:
        right: the action that goes right in each cell, int64 [size, size].
    """
    sideways = np.where(right.reshape(-1, 1) == np.arange(2), 1.0, -1.0)  # [size * size, 2]
    aims = np.stack((np.ones_like(sideways), sideways), axis=2)
    return np.concatenate((aims, np.full((len(right), 2, 2), np.nan)))


@lru_cache(maxsize=8)
def _make_model(size: int, problem_seed: int | None) -> TabularModel:
    floor = np.arange(size * size, (size + 1) * size)
    row, column, action = (index.ravel() for index in np.indices((size, size, 2)))
    right = action == _draw_right(size, problem_seed)[row, column]
    landing = np.clip(column + np.where(right, 1, -1), 0, size - 1)
    found = right & (column == size - 1)
    reward = found - right * (MOVE_COST / size)
    share, ends = np.ones(len(row)), row == size - 1
    rows = np.column_stack((row * size + column, action, share, (row + 1) * size + landing, reward, ends))
    states = (size + 1) * size
    return TabularModel.from_outcomes(
        np.concatenate((rows, end_rows(floor, 2))), states, 2, spread_evenly(np.array([0]), states)
    )
