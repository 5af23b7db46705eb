"""How boards are drawn: the picture of the grid world, with the labels of the cells."""

from __future__ import annotations

from rl_lab.envs.boards import Board
from rl_lab.envs.canvas import INK, write
from rl_lab.envs.gridworld_picture import Picture
from rl_lab.envs.pictured import Moment
from rl_lab.envs.tabular import TRAIL_STEPS
from rl_lab.types import Array


class BoardPicture:
    """Draws one board: its cells and labels once, then the trail and the agent on top."""

    def __init__(self, board: Board) -> None:
        self.picture = Picture(board, {}, TRAIL_STEPS)
        for state, text in board.labels.items():
            self._label(self.picture.centres[state], text)

    def draw(self, moment: Moment) -> Array:
        """Return the picture uint8 [H, W, 3]."""
        return self.picture.draw(moment.state, moment.trail)

    def show(self, moment: Moment, frames_per_second: int) -> None:
        """Show the picture in a window, at most so many a second."""
        self.picture.show(moment.state, moment.trail, frames_per_second)

    def close(self) -> None:
        """Close the window, if there is one."""
        self.picture.close()

    def _label(self, centre: tuple[int, int], text: str) -> None:
        side = self.picture.side
        corner = (centre[0] + side // 2 - max(3, side // 12), centre[1] - side // 2 + max(2, side // 12))
        write(
            self.picture.background,
            text,
            corner,
            max(14, side // 3) if side < 80 else side // 4,
            INK,
            anchor="topright",
        )
