"""How the states of an environment lie on a grid, and where its actions aim: what maps are drawn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.toy_text.cliffwalking import CliffWalkingEnv
from gymnasium.envs.toy_text.frozen_lake import FrozenLakeEnv

from rl_lab.types import Array

UP, RIGHT, DOWN, LEFT = (-1, 0), (0, 1), (1, 0), (0, -1)
TOY_TEXT_MOVES = {FrozenLakeEnv: (LEFT, DOWN, RIGHT, UP), CliffWalkingEnv: (UP, RIGHT, DOWN, LEFT)}
START, GOAL, PIT, WALL, FLOOR = "S", "G", "P", "#", "."


@dataclass(frozen=True)
class Layout:
    """Where the states of an environment lie, and what is known of its cells and actions."""

    cells: Array
    """(row, column) of each state, int64 [S, 2]; no two states share a cell."""
    moves: Array | None = None
    """(rows, columns) by which each action aims to move, float64 [A, 2], or [S, A, 2] where it differs between
    states; nan where that isn't known, None where nothing is."""
    letters: Array | None = None
    """What each state's cell is, str [S]: `S` start, `G` goal, `P` pit or cliff, `#` wall, `.` anything else; None
    if it isn't known."""

    def moves_of(self, num_actions: int) -> Array:
        """Return (rows, columns) by which each action aims to move in each state, [S, A, 2]; nan where unknown."""
        shape = (len(self.cells), num_actions, 2)
        if self.moves is None or self.moves.shape[-2:] != shape[1:]:
            return np.full(shape, np.nan)
        return np.broadcast_to(self.moves, shape)

    def states(self, letters: str) -> Array:
        """Return on which states one of these letters stands, bool [S]."""
        if self.letters is None:
            return np.zeros(len(self.cells), bool)
        return np.isin(self.letters, list(letters))


def layout_of(env: gymnasium.Env) -> Layout | None:
    """Return how an environment's states lie on a grid; None if they don't.

    The lab's environments tell it in attributes `cells`, `moves` and `letters`; Gymnasium's toy-text grids number
    their states row by row, and those whose actions and map are known are named here.
    """
    base = env.unwrapped
    cells = _cells(base)
    if cells is None or len(np.unique(cells, axis=0)) < len(cells):
        return None
    return Layout(cells, _moves(base, len(cells)), _letters(base, len(cells)))


@dataclass(frozen=True)
class DrawnGrid:
    """Where the cells of a grid lie in the picture of its environment."""

    rows: int
    columns: int
    area: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    """Left edge, upper edge, width and height of the grid, as shares of the picture's width and height."""


def drawn_grid_of(env: gymnasium.Env, layout: Layout) -> DrawnGrid:
    """Return where the cells of an environment's grid lie in its picture, which it fills unless more is known.

    Environments may tell it in attributes `grid_shape` (rows, columns; walls at the edges, which are no states,
    included) and `grid_area` (as in `DrawnGrid`).
    """
    base = env.unwrapped
    rows, columns = (
        getattr(base, "grid_shape", None) or _shape(base) or (layout.cells.max(axis=0) + 1).tolist()
    )
    area = getattr(base, "grid_area", None)
    if area is None and isinstance(
        base, FrozenLakeEnv
    ):  # its cells have whole pixels, and the last ones stay empty
        width, height = base.window_size
        area = 0.0, 0.0, base.cell_size[0] * columns / width, base.cell_size[1] * rows / height
    return DrawnGrid(int(rows), int(columns), *(() if area is None else (tuple(area),)))


def cells_of(env: gymnasium.Env) -> Array | None:
    """Return (row, column) of each state, int64 [S, 2]; None if the environment's states don't form a grid."""
    found = layout_of(env)
    return None if found is None else found.cells


def _cells(base: Any) -> Array | None:
    cells = getattr(base, "cells", None)
    if isinstance(cells, np.ndarray) and cells.ndim == 2 and cells.shape[1] == 2:
        return cells
    shape = _shape(base)
    return None if shape is None else np.argwhere(np.ones(shape, bool))


def _shape(base: Any) -> tuple[int, int] | None:
    """Return rows and columns of a toy-text grid; None for others."""
    shape = getattr(base, "shape", None)
    if not isinstance(shape, tuple):
        shape = (getattr(base, "nrow", 0), getattr(base, "ncol", 0))
    states = getattr(base.observation_space, "n", 0)
    return shape if len(shape) == 2 and states == np.prod(shape) > 0 else None


def _moves(base: Any, states: int) -> Array | None:
    if type(base) in TOY_TEXT_MOVES:  # a subclass may number its actions otherwise
        return np.array(TOY_TEXT_MOVES[type(base)], np.float64)
    moves = getattr(base, "moves", None)
    if not isinstance(moves, np.ndarray) or moves.ndim not in (2, 3) or moves.shape[-1] != 2:
        return None
    return moves.astype(np.float64) if moves.ndim == 2 or len(moves) == states else None


def _letters(base: Any, states: int) -> Array | None:
    """Return what each state's cell is, str [S]; None if it isn't known."""
    if isinstance(base, FrozenLakeEnv):
        desc = np.asarray(base.desc).astype(str).ravel()
        return np.select([desc == "H", desc == "F"], [PIT, FLOOR], desc)
    if isinstance(base, CliffWalkingEnv):
        letters = np.where(np.ravel(getattr(base, "_cliff", np.zeros(base.shape, bool))), PIT, FLOOR)
        letters[base.start_state_index], letters[-1] = START, GOAL
        return letters
    found = getattr(base, "letters", None)
    if not isinstance(found, np.ndarray) or found.shape != (states,) or found.dtype.kind != "U":
        return None
    return np.where(np.isin(found, [START, GOAL, PIT, WALL]), found, FLOOR)
