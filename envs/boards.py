"""Grid worlds whose every cell is a state, and how they are drawn: shared by the book's examples.

Unlike in `gridworld.py`, states are numbered row by row with the walls counted in, so that a
cell keeps its number when a wall is moved.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from rl_lab.envs.gridworld import MOVES, Grid
from rl_lab.envs.tabular import TabularEnv, end_rows, spread_evenly
from rl_lab.mdp.model import TabularModel
from rl_lab.types import Array

if TYPE_CHECKING:
    from rl_lab.envs.board_picture import BoardPicture


@dataclass(frozen=True)
class Board(Grid):
    """A map of which every cell is a state, and what is written on its cells."""

    labels: Mapping[int, str] = field(default_factory=dict)
    """Text on some cells, by state."""

    @cached_property
    def cells(self) -> Array:
        """Return (row, column) of each state, int64 [S, 2]."""
        return np.argwhere(np.ones(self.letters.shape, dtype=bool))

    @cached_property
    def neighbours(self) -> Array:
        """Return the state [S, 4] that a move leads to; walls and the border leave it where it was."""
        return self.shift(MOVES)

    def shift(self, moves: Array) -> Array:
        """Return the state [S, M] that each move [M, 2] (or [S, M, 2]) leads to, cut at the border."""
        height, width = self.letters.shape
        target = self.cells[:, None, :] + moves  # [S, M, 2]
        row, column = np.clip(target[..., 0], 0, height - 1), np.clip(target[..., 1], 0, width - 1)
        blocked = self.letters[row, column] == "#"
        return np.where(blocked, np.arange(len(self.cells))[:, None], row * width + column)

    def find(self, letters: str) -> Array:
        """Return the states [K] under any of some characters."""
        return np.flatnonzero(np.isin(self.state_letters, list(letters)))


def build_model(board: Board, target: Array, reward: Array, final: Array, starts: Array) -> TabularModel:
    """Return the deterministic model of moves on a board.

    Args:
        target: the state [S, A] that each action leads to.
        reward: what that earns, [S, A].
        final: states [K] that end the episode when entered.
        starts: states of which one is drawn evenly.
    """
    size, actions = target.shape
    state, action = (index.ravel() for index in np.indices(target.shape))
    over = np.union1d(final, board.find("#"))
    one = np.ones(len(state))
    ends = np.isin(target.ravel(), over)
    rows = np.column_stack((state, action, one, target.ravel(), reward.ravel(), ends))
    rows = np.concatenate((rows[~np.isin(state, over)], end_rows(over, actions)))
    return TabularModel.from_outcomes(rows, size, actions, spread_evenly(starts, size))


class BoardEnv(TabularEnv):
    """A finite MDP that is played on a board."""

    def __init__(self, model: TabularModel, board: Board, render_mode: str | None = None) -> None:
        super().__init__(model, render_mode=render_mode)
        self.board = board

    @property
    def cells(self) -> Array:
        """(row, column) of each state, int64 [S, 2]."""
        return self.board.cells

    def _make_picture(self) -> BoardPicture:
        from rl_lab.envs.board_picture import BoardPicture

        return BoardPicture(self.board)
