"""Figure 8.2: Dyna-Q in a maze, with more or fewer planning steps; and a film of its values while it learns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.quiver import Quiver

from rl_lab.environments.layout import WALL, Layout, layout_of
from rl_lab.environments.make import make_env
from rl_lab.textbook.axes import BLUE, GREEN, INK, RED, book_scale, legend, make_figure, name
from rl_lab.textbook.control import Q_LEARNING, Settings, learn
from rl_lab.textbook.lockstep import model_of
from rl_lab.types import Array

MAZE, GAMMA = "lab/DynaMaze-v0", 0.95
PLANNING = (0, 5, 50)
SHORTEST = 14  # steps from the start to the goal
EPISODES = 50


@dataclass(frozen=True)
class Maze:
    """Mean steps per episode, [E] for each number of planning steps."""

    steps: dict[int, Array]


def compute(runs: int = 30, seed: int = 0, episodes: int = EPISODES) -> Maze:
    """Let `runs` runs learn with each number of planning steps."""
    model = model_of(MAZE)
    found = {}
    for planning in PLANNING:
        played = learn(model, _settings(runs, planning), episodes, np.random.default_rng([seed, planning]))
        found[planning] = played.steps.mean(axis=0)
    return Maze(found)


def _settings(runs: int, planning: int) -> Settings:
    return Settings(np.full(runs, Q_LEARNING), np.full(runs, 0.1), 0.1, GAMMA, planning)


def draw(found: Maze) -> Figure:
    """Draw by how many steps an episode is longer than the shortest, with its length as the scale on the right."""
    figure, (axes,) = make_figure("Figure 8.2   Dyna-Q in the maze of example 8.1", width=7.6, height=4.4)
    for (planning, steps), colour in zip(found.steps.items(), (BLUE, GREEN, RED), strict=True):
        label = f"{planning} planning steps" + (" (direct learning only)" if planning == 0 else "")
        axes.plot(
            np.arange(2, len(steps) + 1), steps[1:] - SHORTEST, color=colour, linewidth=1.7, label=label
        )
    name(
        axes,
        "Planning spreads what was found over the whole maze",
        "episode",
        "regret: excess steps",
    )
    axes.set_xlim(2, len(found.steps[0]))
    axes.set_ylim(0, 800 - SHORTEST)
    scale = book_scale(
        axes, "steps per episode", lambda more: more + SHORTEST, lambda steps: steps - SHORTEST
    )
    scale.set_yticks([SHORTEST, 200, 400, 600, 800])
    legend(axes, "upper right")
    return figure


def film(
    seed: int = 0,
    planning: int = 20,
    episodes: int = 20,
    frames: int = 120,
    told: Callable[[int, int], None] = lambda done, of: None,
) -> Iterator[Array]:
    """Yield pictures uint8 [H, W, 3] of the largest action value of each cell while one run learns.

    Steps are skipped evenly, so that about `frames` pictures come.

    Args:
        told: takes how many pictures have been used, and of how many, after each.
    """
    env = make_env(MAZE)
    layout = layout_of(env)
    assert layout is not None
    values: list[Array] = []
    learn(
        model_of(MAZE), _settings(1, planning), episodes, np.random.default_rng(seed),
        lambda q: values.append(q[0].copy()),
    )  # fmt: skip
    # Early steps change nothing yet: pictures are spread over the changes of the values rather than over time.
    changed = np.cumsum([1e-3, *(np.abs(b - a).sum() + 1e-3 for a, b in pairwise(values))])
    wanted = np.linspace(changed[0], changed[-1], min(frames, len(values)))
    picture = _Picture(layout, planning)
    steps = np.unique(np.searchsorted(changed, wanted))
    for number, step in enumerate(steps, 1):
        yield picture.of(values[step], int(step) + 1)
        told(number, len(steps))


class _Picture:
    """One figure, which shows one moment after the other."""

    def __init__(self, layout: Layout, planning: int):
        self._layout, self._planning = layout, planning
        figure = Figure(figsize=(6.4, 4.6), dpi=100, layout="constrained")
        self._canvas, self._axes = FigureCanvasAgg(figure), figure.subplots()
        self._rows, self._columns = layout.cells.max(axis=0) + 1
        self._image = self._axes.imshow(
            np.full((self._rows, self._columns), np.nan), cmap="viridis", norm=PowerNorm(0.4, 0.0, 1.0)
        )
        self._arrows: Quiver | None = None
        self._title = self._axes.set_title(" ", fontsize=12, color=INK, loc="left")
        self._set_up()
        figure.colorbar(
            self._image,
            ax=self._axes,
            label="value of the best action",
            shrink=0.85,
            ticks=[0, 0.01, 0.1, 0.3, 0.6, 1],
        )
        self._canvas.draw()
        figure.set_layout_engine("none")  # laid out once: every picture has its parts at the same place

    def _set_up(self) -> None:
        """Draw what stays as it is."""
        axes = self._axes
        axes.set_facecolor("#6b7280")
        axes.set_xticks(np.arange(-0.5, self._columns), minor=True)
        axes.set_yticks(np.arange(-0.5, self._rows), minor=True)
        axes.grid(which="minor", color="white", linewidth=0.8, alpha=0.35)
        axes.tick_params(which="both", length=0, labelbottom=False, labelleft=False)
        for letter in ("S", "G"):
            for row, column in self._layout.cells[self._layout.states(letter)]:
                axes.text(
                    column,
                    row,
                    letter,
                    ha="center",
                    va="center",
                    color="white",
                    fontsize=14,
                    fontweight="bold",
                )

    def of(self, q: Array, step: int) -> Array:
        """Return the picture of one moment with the values q [S, A], uint8 [H, W, 3]."""
        layout = self._layout
        best = np.full((self._rows, self._columns), np.nan)
        best[tuple(layout.cells.T)] = np.where(layout.states(WALL), np.nan, q.max(axis=1))
        self._image.set_data(best)
        known = np.flatnonzero((q.max(axis=1) > 0) & ~layout.states(WALL + "SG"))
        moves = layout.moves_of(q.shape[1])[known, q[known].argmax(axis=1)]
        cells = layout.cells[known]
        if self._arrows is not None:
            self._arrows.remove()
        self._arrows = self._axes.quiver(
            cells[:, 1], cells[:, 0], moves[:, 1], -moves[:, 0],
            color="white", scale=1 / 0.55, units="x", scale_units="x", width=0.05, pivot="mid", angles="uv",
        )  # fmt: skip
        self._title.set_text(f"Dyna-Q, {self._planning} planning steps: step {step:,}")
        self._canvas.draw()
        return np.asarray(self._canvas.buffer_rgba())[:, :, :3].copy()
