"""The base class of finite MDPs that are played on a `Board`, and the model of deterministic moves on one."""

from __future__ import annotations

import numpy as np

from rl_lab.envs.drawing.picture import Picture
from rl_lab.envs.maps import Board
from rl_lab.envs.tabular import TabularEnv, end_rows, spread_evenly
from rl_lab.mdp.model import TabularModel
from rl_lab.types import Array


class BoardEnv(TabularEnv):
    """A finite MDP whose states are the cells of a board."""

    def __init__(
        self,
        model: TabularModel,
        board: Board,
        render_mode: str | None = None,
        *,
        moves: Array | None = None,
    ) -> None:
        """Make an environment that plays `model` and is drawn as `board`.

        Args:
            model: the finite MDP.
            board: the map.
            render_mode: None, "rgb_array" or "human".
            moves: (rows, columns) by which each action aims to move, [A, 2], or [S, A, 2] where it differs between
                states; None if actions don't aim anywhere.
        """
        super().__init__(model, render_mode=render_mode)
        self.board, self.moves = board, moves

    @property
    def cells(self) -> Array:
        """(row, column) of each state, int64 [S, 2]."""
        return self.board.cells

    @property
    def grid_shape(self) -> tuple[int, int]:
        """Rows and columns of the map that the picture shows."""
        return self.board.letters.shape

    @property
    def letters(self) -> Array:
        """The character under each state, str [S]."""
        return self.board.state_letters

    def _make_picture(self) -> Picture:
        from rl_lab.envs.drawing.grid_panel import grid_panel

        return grid_panel(self.board.letters, self.board.cells, labels=self.board.labels)


def build_model(board: Board, target: Array, reward: Array, final: Array, starts: Array) -> TabularModel:
    """Return the model of deterministic moves on a board.

    Args:
        board: the map; its walls are never entered.
        target: the state that each action leads to, int [S, A].
        reward: the reward of each action, float [S, A].
        final: the states that end the episode when they are entered, int [K].
        starts: the states in which an episode starts, each equally likely, int [K].
    """
    size, actions = target.shape
    state, action = (index.ravel() for index in np.indices(target.shape))
    over = np.union1d(final, board.find("#"))
    one = np.ones(len(state))
    ends = np.isin(target.ravel(), over)
    rows = np.column_stack((state, action, one, target.ravel(), reward.ravel(), ends))
    rows = np.concatenate((rows[~np.isin(state, over)], end_rows(over, actions)))
    return TabularModel.from_outcomes(rows, size, actions, spread_evenly(starts, size))
