"""The mazes of chapter 8, which illustrate planning with a learned model."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from rl_lab.envs.boards import BoardEnv, build_model
from rl_lab.envs.checks import require_flag
from rl_lab.envs.maps import MOVES, Board
from rl_lab.mdp.model import TabularModel

OPEN = "........."
TOP, BOTTOM = ("........G", OPEN, OPEN), (OPEN, "...S.....")
LEFT_GAP, RIGHT_GAP, BOTH_GAPS = ".########", "########.", ".#######."
MAZES = {  # (name, changed) -> rows
    ("dyna", False): (".......#G", "..#....#.", "S.#....#.", "..#......", ".....#...", OPEN),
    ("blocking", False): (*TOP, RIGHT_GAP, *BOTTOM),
    ("blocking", True): (*TOP, LEFT_GAP, *BOTTOM),
    ("shortcut", False): (*TOP, LEFT_GAP, *BOTTOM),
    ("shortcut", True): (*TOP, BOTH_GAPS, *BOTTOM),
}


class DynaMaze(BoardEnv):
    """Walk through a maze to the goal, which pays 1; everything else pays 0.

    Actions 0 to 3 go up, right, down and left; a move into a wall or off the grid has no effect. `maze` is "dyna"
    (example 8.1: the shortest way takes 14 steps), "blocking" (example 8.2: 10 steps, 16 once `changed`) or
    "shortcut" (example 8.3: 16 steps, 10 once `changed`). A maze never changes while it is played, so that each is
    an MDP. Cells keep their numbers, so that what was learned in one maze can be carried over to its changed form.
    States are the 54 cells row by row, including walls, which are never occupied. The book discounts with 0.95.

    Source: Sutton and Barto, "Reinforcement Learning: An Introduction", 2nd ed., examples 8.1 to 8.3 (figures 8.2,
    8.4 and 8.5).
    """

    def __init__(self, *, maze: str = "dyna", changed: bool = False, render_mode: str | None = None) -> None:
        """Make the maze. Raises ValueError for an unknown maze, or one that has no changed form."""
        changed = require_flag("changed", changed)
        if not isinstance(maze, str) or (maze, False) not in MAZES:
            raise ValueError(f"maze {maze!r} must be one of {sorted({name for name, _ in MAZES})}")
        if (maze, changed) not in MAZES:
            raise ValueError(f"changed {changed} must be False for the maze {maze!r}, which never changes")
        board = Board(MAZES[maze, changed])
        super().__init__(_make_model(board.lines), board, render_mode, moves=MOVES)


@lru_cache(maxsize=8)
def _make_model(lines: tuple[str, ...]) -> TabularModel:
    board = Board(lines)
    goal = board.find("G")
    reward = np.isin(board.neighbours, goal).astype(np.float64)
    return build_model(board, board.neighbours, reward, goal, board.find("S"))
