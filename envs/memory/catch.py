"""Catch: move a paddle on the lowest row under a falling ball."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from gymnasium import spaces

from rl_lab.envs.checks import require_whole
from rl_lab.envs.drawing.picture import Picture
from rl_lab.envs.tabular import TabularEnv, end_rows, spread_evenly
from rl_lab.mdp.model import TabularModel
from rl_lab.types import Array


class Catch(TabularEnv):
    """Move a paddle left (0), not at all (1) or right (2) while a ball falls one row per step.

    The ball starts in the top row, in a column drawn uniformly. The paddle starts in the middle of the lowest row,
    and the border stops it. When the ball arrives in the lowest row the episode ends and pays 1 if it meets the
    paddle, -1 otherwise. Observations are images uint8 [rows, columns], 255 where the ball or the paddle is and 0
    elsewhere. The ball is seen in the first `visible_rows` rows only (None: in all of them).

    The optimal expected return is 1; boards too wide for the paddle to arrive in time are refused. Without memory
    it is 2 * c / columns - 1, where c is the number of columns that the paddle can have reached after
    `visible_rows` steps, at most 2 * visible_rows + 1. A policy without memory carries nothing but the position of
    the paddle into the dark. From c positions it can reach at most c different ends with certainty, and randomness
    doesn't help: the probabilities of ending under the ball, summed over all columns of the ball, are at most c.
    Staying in place achieves that. So memory is needed if columns > 2 * visible_rows + 1, as with 5 columns and
    visible_rows 1 (0.2).

    If the ball is always seen this is a finite MDP, and `model()` returns it.

    Source: Mnih, Heess, Graves and Kavukcuoglu, "Recurrent Models of Visual Attention", NIPS 2014,
    https://arxiv.org/abs/1406.6247, in the form of Osband et al., "Behaviour Suite for Reinforcement Learning",
    ICLR 2020, https://arxiv.org/abs/1908.03568.
    """

    def __init__(
        self,
        *,
        rows: int = 10,
        columns: int = 5,
        visible_rows: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        """Make the board.

        Args:
            rows: number of rows, at least 2.
            columns: number of columns, from 2 to 2 * rows - 1.
            visible_rows: number of rows, from the top, in which the ball is seen; None for all.
            render_mode: None, "rgb_array" or "human".

        Raises:
            ValueError: a parameter outside what is allowed.
        """
        self.rows = require_whole("rows", rows, 2)
        self.columns = require_whole("columns", columns, 2, 2 * self.rows - 1)
        seen = self.rows if visible_rows is None else visible_rows
        self.visible_rows = require_whole("visible_rows", seen, 1, self.rows)
        space = spaces.Box(0, 255, (self.rows, self.columns), np.uint8)
        model = _make_model(self.rows, self.columns, self.visible_rows)
        super().__init__(model, render_mode=render_mode, observation_space=space)

    def get_action_meanings(self) -> list[str]:
        """Return the names of the actions, in their order."""
        return ["left", "stay", "right"]

    @property
    def optimal_return(self) -> float:
        """The best expected return, with memory."""
        return 1.0

    @property
    def memoryless_return(self) -> float:
        """The best expected return of a policy that sees only the current observation."""
        middle, reach = self.columns // 2, min(self.visible_rows, self.rows - 1)
        places = min(middle, reach) + 1 + min(self.columns - 1 - middle, reach)
        return 2.0 * places / self.columns - 1.0

    def model(self) -> TabularModel | None:  # type: ignore[override]
        """Return the finite MDP, or None if the ball is out of sight before the last move."""
        return self._model if self.visible_rows >= self.rows - 1 else None

    def _make_picture(self) -> Picture:
        from rl_lab.envs.drawing.memory_panels import catch_panel

        return catch_panel(self.rows, self.columns, self.visible_rows)


@lru_cache(maxsize=8)
def _make_model(rows: int, columns: int, visible_rows: int) -> TabularModel:
    """Return the model, whose states are numbered (row * columns + ball) * columns + paddle."""
    shape, per_row = (rows, columns, columns), columns * columns
    row, ball, paddle, action = (index.ravel() for index in np.indices((rows - 1, columns, columns, 3)))
    landing = np.clip(paddle + action - 1, 0, columns - 1)
    ends = row == rows - 2
    reward = ends * np.where(landing == ball, 1.0, -1.0)
    state = np.ravel_multi_index((row, ball, paddle), shape)
    successor = np.ravel_multi_index((row + 1, ball, landing), shape)
    outcomes = np.column_stack((state, action, np.ones(len(state)), successor, reward, ends))
    floor = np.arange((rows - 1) * per_row, rows * per_row)
    starts = np.arange(columns) * columns + columns // 2

    def observe(states: Array) -> Array:
        images = np.zeros((len(states), rows, columns), dtype=np.uint8)
        row, ball, paddle = np.unravel_index(states, shape)
        images[np.arange(len(states)), rows - 1, paddle] = 255
        seen = np.flatnonzero(row < visible_rows)
        images[seen, row[seen], ball[seen]] = 255
        return images

    return TabularModel.from_outcomes(
        np.concatenate((outcomes, end_rows(floor, 3))),
        rows * per_row,
        3,
        spread_evenly(starts, rows * per_row),
        observe=observe,
    )
