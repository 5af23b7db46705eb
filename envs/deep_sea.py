"""Deep sea: a dive that only deep exploration finds."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from rl_lab.envs.boards import Board, BoardEnv
from rl_lab.envs.tabular import end_rows, spread_evenly
from rl_lab.mdp.model import TabularModel
from rl_lab.types import Array

MOVE_COST = 0.01  # of going right all the way


class DeepSea(BoardEnv):
    """Sink one row a step through a sea of `size` rows and columns, going left or right meanwhile.

    Going right costs 0.01 / size, and pays 1 in the rightmost column, which is reached in time only by
    going right each time: the best return is 0.99, and of the 2^size ways one leads there. Which of
    the two actions goes right is drawn for each cell from `problem_seed`; None makes it action 1
    everywhere. An episode takes `size` steps and ends on the floor, an additional row.

    Source: Osband et al., "Behaviour Suite for Reinforcement Learning", 2020,
    https://arxiv.org/abs/1908.03568, section "deep sea", in its deterministic form; and Osband,
    Van Roy, Russo and Wen, "Deep Exploration via Randomized Value Functions", 2019.
    """

    def __init__(
        self, *, size: int = 10, problem_seed: int | None = 0, render_mode: str | None = None
    ) -> None:
        if size < 2:
            raise ValueError(f"size {size} must be at least 2")
        super().__init__(_make_model(size, problem_seed), _draw_sea(size), render_mode)


def _draw_sea(size: int) -> Board:
    """Return the board [size + 1, size]; what no dive reaches is drawn as rock."""
    sea = [("." * row + ".").ljust(size, "#") for row in range(size)]
    sea[0] = "S" + sea[0][1:]
    sea[-1] = sea[-1][:-1] + "G"
    return Board((*sea, "." * size))


def choose_right(size: int, problem_seed: int | None) -> Array:
    """Return the action int64 [size, size] that goes right in each cell."""
    if problem_seed is None:
        return np.ones((size, size), dtype=np.int64)
    return np.random.default_rng(problem_seed).integers(2, size=(size, size))


@lru_cache(maxsize=8)
def _make_model(size: int, problem_seed: int | None) -> TabularModel:
    floor = np.arange(size * size, (size + 1) * size)
    row, column, action = (index.ravel() for index in np.indices((size, size, 2)))
    right = action == choose_right(size, problem_seed)[row, column]
    landing = np.clip(column + np.where(right, 1, -1), 0, size - 1)
    found = right & (column == size - 1)
    reward = found - right * (MOVE_COST / size)
    share, ends = np.ones(len(row)), row == size - 1
    rows = np.column_stack((row * size + column, action, share, (row + 1) * size + landing, reward, ends))
    states = (size + 1) * size
    return TabularModel.from_outcomes(
        np.concatenate((rows, end_rows(floor, 2))), states, 2, spread_evenly(np.array([0]), states)
    )
