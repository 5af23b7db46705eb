"""Draws numbers, actions and kinds of cells on the grid on which the states of an environment lie.

Sizes follow from the number of cells, for the size at which a page shows the picture: `DPI` dots of the file are one
inch, which a browser shows as 96 pixels, so that the numbers' `POINTS` are the size that a reader sees.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, to_rgba
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from rl_lab.environments.layout import GOAL, PIT, WALL, Layout
from rl_lab.mdp.model import TabularModel
from rl_lab.types import Array

DPI = 192
POINTS = 9.0  # of numbers in cells, and of all other texts at least
MOST_NUMBERED = 12  # columns or rows, beyond which cells are too small for numbers
MOST_ARROWS = 40  # columns or rows, beyond which they are too small for arrows
WIDEST_INCHES = 6.2  # of the grid, so that a page of 800 pixels shows it whole
TIED = 1e-6  # actions whose probabilities differ by less are all shown

GOAL_COLOUR, PIT_COLOUR, WALL_COLOUR, END_COLOUR = "#bfe8cb", "#2b1d24", "#6b7280", "#d8d8d8"
GOAL_FRAME, LOSING_FRAME, START_FRAME = "#1b7f46", "#e3001b", "#ffffff"
EDGE = 1.2  # points of white around a red frame, both sides together
OUTLINED = [patheffects.withStroke(linewidth=2.2, foreground="black")]


@dataclass(frozen=True)
class Kinds:
    """What the states are, bool [S] each."""

    live: Array
    """It isn't the end of an episode."""
    entered: Array
    """An episode can begin in it or come to it."""
    start: Array
    """Episodes begin in it; nowhere if they begin in more than half of the states."""
    goal: Array
    pit: Array
    """A pit or a cliff."""
    wall: Array

    @property
    def acting(self) -> Array:
        """An action is taken in it."""
        return self.live & (self.entered | ~(self.pit | self.wall))

    @property
    def end(self) -> Array:
        """The end of an episode of which nothing else is known."""
        return ~self.acting & ~(self.goal | self.pit | self.wall)


def kinds_of(model: TabularModel, layout: Layout | None, live: Array) -> Kinds:
    """Return what the states of a model are; `live` says which aren't the end of an episode, bool [S].

    Args:
        layout: tells goals, pits and walls; without one there are none.
    """
    entered = model.initial > 0
    entered[model.successor[model.probability > 0]] = True
    start = model.initial > 0
    start &= start.sum() <= max(1, model.num_states // 2)
    none = np.zeros(model.num_states, bool)
    goal, pit, wall = (none if layout is None else layout.states(letter) for letter in (GOAL, PIT, WALL))
    return Kinds(live, entered, start, goal, pit, wall)


class GridMap:
    """A figure of values on a grid; `figure` is complete once `finish` was called.

    Args:
        values: [S]; shown only where an action is taken.
        limits: of the colours; by default from the least value to the largest.
    """

    def __init__(
        self,
        values: Array,
        layout: Layout,
        kinds: Kinds,
        title: str,
        colours: str,
        limits: tuple[float, float] | None = None,
    ):
        self._cells, self._kinds = layout.cells, kinds
        self._layout = layout
        self._height, self._width = (int(n) for n in layout.cells.max(axis=0) + 1)
        self.numbered = max(self._height, self._width) <= MOST_NUMBERED
        self._side = _side_inches(self._height, self._width, self.numbered)
        self._legend: list[Patch | Line2D] = []
        self._painted = np.zeros((self._height, self._width, 4))  # red, green, blue, opacity
        self.figure = Figure(dpi=DPI, layout="constrained")
        self.axes: Axes = self.figure.subplots()
        shown = np.where(kinds.acting, values, np.nan)
        self._image = self._colour(shown, colours, limits or limits_of(shown))
        self._fill()
        self.axes.set_title(title, fontsize=POINTS + 2)
        self.axes.set(xticks=[], yticks=[])
        if self.numbered:
            self._write_numbers(shown)
        self._mark_start()

    def _colour(self, shown: Array, colours: str, limits: tuple[float, float]) -> AxesImage:
        grid = np.full((self._height, self._width), np.nan)
        grid[self._cells[:, 0], self._cells[:, 1]] = shown
        image = self.axes.imshow(grid, cmap=colours, norm=Normalize(*limits))
        bar = self.figure.colorbar(image, ax=self.axes, shrink=0.85)
        bar.ax.tick_params(labelsize=POINTS)
        return image

    def _fill(self) -> None:
        """Paint the cells in which no action is taken by what they are."""
        kinds, rest = self._kinds, ~self._kinds.acting
        self._paint("goal", kinds.goal & rest, GOAL_COLOUR, "*", GOAL_FRAME)
        self._paint("pit or cliff", kinds.pit & rest, PIT_COLOUR, "x", "white")
        self._paint("wall", kinds.wall & rest, WALL_COLOUR)
        self._paint("end of an episode", kinds.end, END_COLOUR)
        if self._painted[..., 3].sum() + kinds.acting.sum() < self._height * self._width:
            walled = self._layout.letters is not None  # the lab's maps have no states for walls
            named = any(patch.get_label() == "wall" for patch in self._legend)
            self.axes.set_facecolor(WALL_COLOUR if walled else "white")
            if not (walled and named):
                colour = WALL_COLOUR if walled else "white"
                self._legend.append(_patch("wall" if walled else "no state", colour))
        self.axes.imshow(self._painted)
        self._frame(kinds.goal & kinds.acting, GOAL_FRAME, "goal")

    def _paint(self, name: str, which: Array, colour: str, marker: str = "", ink: str = "") -> None:
        """Paint cells in one colour, with a mark that grows with them."""
        rows, columns = self._cells[which].T
        if not len(rows):
            return
        self._painted[rows, columns] = to_rgba(colour)
        if marker:
            size = (72 * self._side * 0.34) ** 2
            self.axes.scatter(columns, rows, s=size, marker=marker, color=ink, zorder=3, gid=name)
        self._legend.append(_patch(name, colour))

    def _write_numbers(self, shown: Array) -> None:
        for (row, column), value in zip(self._cells, shown, strict=True):
            if np.isfinite(value):
                red, green, blue, _ = self._image.cmap(self._image.norm(value))
                dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.55
                self.axes.text(
                    column, row + 0.3, short(value), ha="center", va="center", fontsize=POINTS,
                    color="white" if dark else "black", gid="number",
                )  # fmt: skip

    def _mark_start(self) -> None:
        """Mark where episodes begin, by an S in the corner, or a frame where cells are too small for it."""
        if not self.numbered:
            self._frame(self._kinds.start, START_FRAME, "start")
            return
        for row, column in self._cells[self._kinds.start]:
            self.axes.text(
                column - 0.36, row - 0.34, "S", ha="center", va="center", fontsize=POINTS, fontweight="bold",
                color="white", path_effects=OUTLINED, gid="start",
            )  # fmt: skip
        if self._kinds.start.any():
            self._explain("start", marker=r"$\mathbf{S}$")

    def _frame(self, which: Array, colour: str, name: str) -> None:
        """Draw frames into cells."""
        if not which.any():
            return
        rows, columns = self._cells[which].T
        side = 72 * self._side * 0.9  # points
        line = float(np.clip(72 * self._side * 0.05, 0.5, 2.0))
        losing = colour == LOSING_FRAME
        if losing:  # on a white edge, so that it stands out from any colour of a cell
            line = float(np.clip(72 * self._side * 0.055, 0.9, 2.4))
            side = max(72 * self._side * 0.98 - line - EDGE, 1.0)  # around the number
        self.axes.scatter(
            columns,
            rows,
            s=side**2,
            marker="s",
            facecolors="none",
            edgecolors=colour,
            linewidths=line,
            path_effects=[patheffects.withStroke(linewidth=line + EDGE, foreground="white")]
            if losing
            else None,
            gid=name,
        )
        face = "#444444" if colour == START_FRAME else "none"
        self._legend.append(_patch(name, face, colour))

    def frame_losing(self, losing: Array) -> None:
        """Frame the states, bool [S], in which the policy may take an action that isn't optimal."""
        self.frame(losing, LOSING_FRAME, "may lose: an action that isn't optimal")

    def frame(self, states: Array, colour: str, name: str) -> None:
        """Frame those of some states, bool [S], in which an action is taken; the legend calls the frame `name`."""
        self._frame(states & self._kinds.acting, colour, name)

    def draw_actions(self, probabilities: Array, first_action: int = 0) -> None:
        """Draw the most likely actions of each state, all of them if several are equally likely.

        An action is an arrow in the direction in which it aims, whatever then happens; a dot if it aims to stay; its
        number if its direction isn't known.

        Args:
            probabilities: the policy, [S, A].
            first_action: the number of the environment's first action.
        """
        if max(self._height, self._width) > MOST_ARROWS:
            return
        chosen = probabilities >= probabilities.max(axis=1, keepdims=True) - TIED
        chosen &= self._kinds.acting[:, None]
        moves = self._layout.moves_of(probabilities.shape[1])
        known = np.isfinite(moves).all(axis=2)
        length = np.linalg.norm(moves, axis=2)
        self._draw_arrows(chosen & known & (length > 0), moves)
        self._draw_dots(chosen & known & (length == 0))
        if self.numbered:
            self._write_actions(chosen & ~known, first_action)

    def _draw_arrows(self, which: Array, moves: Array) -> None:
        states, actions = np.nonzero(which)
        if not len(states):
            return
        rows, columns = self._cells[states].T
        aim = moves[states, actions] / np.linalg.norm(moves[states, actions], axis=1, keepdims=True)
        tied = (which.sum(axis=1)[states] > 1)[:, None]  # shorter, and apart from one another
        origin, aim = np.where(tied, 0.19, 0.0) * aim, np.where(tied, 0.6, 1.0) * aim
        self.axes.quiver(
            columns + origin[:, 1], rows + origin[:, 0] - self._lift, aim[:, 1], -aim[:, 0],
            angles="uv", pivot="mid", units="xy", scale_units="xy", scale=1 / 0.44, width=0.075, headwidth=3.4,
            headlength=3.2, headaxislength=3.0, facecolor="white", edgecolor="black", linewidth=0.5, gid="actions",
        )  # fmt: skip
        self._explain("action taken", marker=r"$\rightarrow$")

    def _draw_dots(self, which: Array) -> None:
        rows, columns = self._cells[which.any(axis=1)].T
        if len(rows):
            size = (72 * self._side * 0.16) ** 2
            self.axes.scatter(
                columns,
                rows - self._lift,
                s=size,
                facecolors="white",
                edgecolors="black",
                linewidths=0.6,
                gid="stay",
            )
            self._explain("action taken: stay", marker="o")

    def _write_actions(self, which: Array, first_action: int) -> None:
        for state in np.flatnonzero(which.any(axis=1)):
            row, column = self._cells[state]
            actions = np.flatnonzero(which[state])
            text = (
                "any"
                if len(actions) == which.shape[1] > 1
                else ",".join(str(a + first_action) for a in actions)
            )
            self.axes.text(
                column, row - self._lift, text, ha="center", va="center", fontsize=POINTS + 1, fontweight="bold",
                color="white", path_effects=OUTLINED, gid="action",
            )  # fmt: skip
        if which.any():
            self._explain("bold: number of the action taken", marker=r"$\mathbf{0}$")

    @property
    def _lift(self) -> float:
        """How far above the middle of its cell an action is drawn, to leave room for the number."""
        return 0.14 if self.numbered else 0.0

    def _explain(self, label: str, marker: str) -> None:
        self._legend.append(
            Line2D([], [], linestyle="", marker=marker, markersize=9, color="black", label=label)
        )

    @property
    def legend_rows(self) -> int:
        """How many rows the legend has, with what was drawn so far."""
        return -(-len(self._legend) // self._legend_columns)

    @property
    def _legend_columns(self) -> int:
        return 2 if self._width * self._side < 4.5 else 3

    def finish(self, legend_rows: int = 0) -> Figure:
        """Add the legend and choose the size; return the figure.

        Args:
            legend_rows: for how many rows of the legend there is to be room at least, so that the grids of several
                figures lie at the same place.
        """
        columns, rows = self._legend_columns, max(self.legend_rows, legend_rows)
        padding = [Patch(alpha=0.0, label="x")] * (rows * columns - len(self._legend))
        left_out = [] if self.numbered else [f"numbers are left out beyond {MOST_NUMBERED} rows or columns"]
        width = max(self._width * self._side + 1.1, 4.2)
        height = self._height * self._side + 0.45 + 0.22 * (rows + len(left_out)) + 0.1
        self.figure.set_size_inches(width, height)
        if self._legend:
            legend = self.figure.legend(
                handles=[*self._legend, *padding], loc="outside lower center", ncols=columns, fontsize=POINTS,
                frameon=False, handletextpad=0.5, columnspacing=1.2, title="\n".join(left_out) or None,
                title_fontsize=POINTS,
            )  # fmt: skip
            for text in legend.get_texts()[len(self._legend) :]:
                text.set_alpha(0.0)
        return self.figure


def limits_of(shown: Array) -> tuple[float, float]:
    """Return the limits of the colours for values, nan where none is shown; a constant is compared with zero."""
    finite = shown[np.isfinite(shown)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if low < high:
        return low, high
    return (min(low, 0.0), max(high, 0.0)) if low else (0.0, 1.0)


def limits_of_errors(shown: Array, rounding: float = 1e-9) -> tuple[float, float]:
    """Return the limits of the colours for errors: from 0 to the largest, or to 1 if there is none beyond rounding."""
    finite = shown[np.isfinite(shown)]
    largest = float(finite.max()) if finite.size else 0.0
    return 0.0, largest if largest > rounding else 1.0


def short(value: float) -> str:
    """Return a number in at most six characters where that is possible."""
    size = abs(value)
    if size < 1e-9:
        return "0"
    if size < 0.005 or size >= 1e5:
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
    decimals = 2 if size < 9.995 else 1 if size < 99.95 else 0
    return f"{value:.{decimals}f}"


def _patch(name: str, colour: str, frame: str = "#888888") -> Patch:
    return Patch(facecolor=colour, edgecolor=frame, linewidth=1.6 if colour == "none" else 1.0, label=name)


def _side_inches(height: int, width: int, numbered: bool) -> float:
    """Return the side of a cell."""
    return min(0.62, WIDEST_INCHES / width) if numbered else min(0.4, WIDEST_INCHES / width, 8.0 / height)
