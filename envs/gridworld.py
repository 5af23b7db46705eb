"""A grid world drawn as text: one MDP that is seen as a number, as coordinates or as an image."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium import spaces

from rl_lab.mdp.model import TabularModel
from rl_lab.types import Array

if TYPE_CHECKING:
    from rl_lab.envs.gridworld_picture import Picture

MAPS = {
    "default": """
        S.......
        ..#.....
        ..#..P..
        ..#.....
        .....#..
        .P...#..
        .....#P.
        .......G
    """,
    "corridor": """
        S......G
    """,
    "cliff": """
        ............
        ............
        ............
        SPPPPPPPPPPG
    """,
    "four_rooms": """
        #############
        #S....#.....#
        #.....#.....#
        #...........#
        #.....#.....#
        #.....#.....#
        ##.####.....#
        #.....###.###
        #.....#.....#
        #.....#.....#
        #...........#
        #.....#....G#
        #############
    """,
}
MOVES = np.array([(-1, 0), (0, 1), (1, 0), (0, -1)])  # up, right, down, left: neighbours are perpendicular
MIN_PIXELS = 36  # the smallest image that the usual three-layer network of the Atari games takes
TRAIL_STEPS = 24  # how far back the picture shows the way
COLOURS = {"#": (40, 44, 52), "G": (60, 190, 90), "P": (200, 60, 60), "agent": (70, 120, 255)}
FLOOR_COLOUR = (235, 230, 220)
BONUS_COLOURS = {True: (240, 190, 60), False: (150, 90, 190)}  # by whether entering pays


@dataclass(frozen=True)
class Grid:
    """A parsed map. Its states are the cells that are no wall, row by row."""

    lines: tuple[str, ...]
    """Rows of equal length, top first."""

    @cached_property
    def cells(self) -> Array:
        """Return (row, column) of each state, int64 [S, 2]."""
        return np.argwhere(self.letters != "#")

    @cached_property
    def letters(self) -> Array:
        """Return the map's characters [H, W]."""
        return np.array([list(line) for line in self.lines])

    @cached_property
    def state_letters(self) -> Array:
        """Return the character under each state [S]."""
        return self.letters[self.cells[:, 0], self.cells[:, 1]]

    @cached_property
    def neighbours(self) -> Array:
        """Return the state [S, 4] that a move leads to; walls and the border leave it where it was."""
        height, width = self.letters.shape
        index = np.full((height + 2, width + 2), -1)
        index[self.cells[:, 0] + 1, self.cells[:, 1] + 1] = np.arange(len(self.cells))
        target = self.cells[:, None, :] + MOVES + 1  # [S, 4, 2]
        reached = index[target[..., 0], target[..., 1]]
        return np.where(reached >= 0, reached, np.arange(len(self.cells))[:, None])


class GridWorld(gymnasium.Env):
    """Walk from a start to the goal past walls and pits.

    A map is a name in `MAPS` or text: `#` wall, `S` start (several: one is drawn evenly), `G` goal,
    `P` pit, `.` or space floor, and any further character that `rewards` knows. Actions 0 to 3 go
    up, right, down and left; with probability `slip` the move goes to one of its two perpendicular
    directions instead, each with half of it. Moves into walls stay.

    A step pays `step_reward` plus what the cell it ends in pays, also where it stayed in that cell.
    Goal and pit end the episode.

    Observations are the state's number, (row, column) scaled to 0..1 as float32 [2], or an image
    uint8 [H, W, 3] in which each cell is a block of equal colour, the agent's block included. Blocks
    are as large as it takes for both sides to have 36 pixels, so that cells stay sharp and a
    convolutional network fits. The same seed and actions lead through the same states in each form.
    """

    metadata = {"render_modes": ["rgb_array", "human"], "render_fps": 8}  # noqa: RUF012

    def __init__(
        self,
        map: str = "default",
        *,
        step_reward: float = -0.01,
        goal_reward: float = 1.0,
        pit_reward: float = -1.0,
        slip: float = 0.0,
        rewards: Mapping[str, float] | None = None,
        observation: str = "state",
        render_mode: str | None = None,
    ) -> None:
        if not 0.0 <= slip <= 1.0:
            raise ValueError(f"slip {slip} must be a probability in 0..1")
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise ValueError(f"render_mode {render_mode!r} must be None, 'rgb_array' or 'human'")
        self.rewards = _check_rewards(rewards or {})
        self.grid = parse_map(map, self.rewards)
        self.slip = slip
        self.render_mode = render_mode
        self.action_space = spaces.Discrete(4)
        self.observation_space, self._observe = _observer(observation, self.grid, self.rewards)
        cell_reward = {"G": goal_reward, "P": pit_reward, **self.rewards}
        self._entering = np.array([step_reward + cell_reward.get(c, 0.0) for c in self.grid.state_letters])
        self._final = np.isin(self.grid.state_letters, ("G", "P"))
        self._starts = np.flatnonzero(self.grid.state_letters == "S")
        # Plain lists: a step is a few look-ups, and numpy scalars would be most of its time.
        self._neighbours: list[list[int]] = self.grid.neighbours.tolist()
        self._state = int(self._starts[0])
        self._trail: deque[int] = deque([self._state], maxlen=TRAIL_STEPS)
        self._picture: Picture | None = None

    @property
    def cells(self) -> Array:
        """(row, column) of each state, int64 [S, 2]."""
        return self.grid.cells

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[Any, dict]:
        """Start an episode in a start cell drawn from the environment's generator."""
        super().reset(seed=seed, options=options)
        self._state = int(self._starts[self.np_random.integers(len(self._starts))])
        self._trail = deque([self._state], maxlen=TRAIL_STEPS)
        if self.render_mode == "human":
            self.render()
        return self._see(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        """Move. Raises ValueError for an action other than 0, 1, 2 or 3."""
        direction = int(action)
        if not 0 <= direction < 4 or direction != action:
            raise ValueError(f"action {action} must be 0, 1, 2 or 3")
        if self._final[self._state]:
            return self._see(), 0.0, True, False, {}
        draw = self.np_random.random() if self.slip else 1.0
        if draw < self.slip:
            direction = (direction + (1 if draw < self.slip / 2 else 3)) % 4
        self._state = self._neighbours[self._state][direction]
        self._trail.append(self._state)
        if self.render_mode == "human":
            self.render()
        return self._see(), float(self._entering[self._state]), bool(self._final[self._state]), False, {}

    def model(self) -> TabularModel:
        """Return the finite MDP that is played, with this form of observation."""
        neighbours, size = self.grid.neighbours, len(self._final)
        spread = ((0, 1.0 - self.slip), (1, self.slip / 2), (3, self.slip / 2))
        state, action = (index.ravel() for index in np.indices((size, 4)))
        parts = []
        for turn, probability in spread:
            if probability == 0.0:
                continue
            over = self._final[state]
            target = np.where(over, state, neighbours[state, (action + turn) % 4])
            reward = np.where(over, 0.0, self._entering[target])
            share = np.full(len(state), probability)
            parts.append(np.column_stack((state, action, share, target, reward, self._final[target])))
        initial = np.zeros(size)
        initial[self._starts] = 1.0 / len(self._starts)
        return TabularModel.from_outcomes(np.concatenate(parts), size, 4, initial, observe=self._observe)

    def render(self) -> Any:
        """Return the picture uint8 [H, W, 3], or show it in a window; None without a render mode."""
        if self.render_mode is None:
            return None
        if self._picture is None:
            from rl_lab.envs.gridworld_picture import Picture

            self._picture = Picture(self.grid, self.rewards, TRAIL_STEPS)
        if self.render_mode == "human":
            return self._picture.show(self._state, self._trail, self.metadata["render_fps"])
        return self._picture.draw(self._state, self._trail)

    def close(self) -> None:
        """Close the window, if there is one."""
        if self._picture is not None:
            self._picture.close()
            self._picture = None

    def _see(self) -> Any:
        if isinstance(self.observation_space, spaces.Discrete):
            return self._state
        return self._observe(np.array([self._state]))[0]


def parse_map(text: str, rewards: Mapping[str, float]) -> Grid:
    """Read a map's name or text. Raises ValueError for a ragged, unknown or startless one."""
    known = "#SGP. " + "".join(rewards)
    if text not in MAPS and "\n" not in text and not set(text) <= set(known):
        raise ValueError(f"map {text!r} must be one of {sorted(MAPS)} or rows of {known!r}")
    lines = _cut_margin(MAPS.get(text, text))
    unknown = sorted(set("".join(lines)) - set(known))
    if unknown:
        raise ValueError(f"map has the character {unknown[0]!r}, which must be one of {known!r}")
    ragged = [number for number, line in enumerate(lines, 1) if len(line) != len(lines[0])]
    if ragged:
        length = len(lines[ragged[0] - 1])
        raise ValueError(
            f"map row {ragged[0]} has {length} cells and must have {len(lines[0])} like the first"
        )
    if not any("S" in line for line in lines):
        raise ValueError(f"map {lines} has no start and must have at least one 'S'")
    return Grid(tuple(lines))


def _cut_margin(text: str) -> list[str]:
    """Return the rows of an indented block of text; spaces within the block are floor."""
    lines = text.split("\n")
    while lines and not lines[0].strip():
        lines.pop(0)
    while lines and not lines[-1].strip():
        lines.pop()
    margin = min((len(line) - len(line.lstrip(" ")) for line in lines), default=0)
    return [line[margin:] for line in lines]


def _check_rewards(rewards: Mapping[str, float]) -> dict[str, float]:
    for letter, reward in rewards.items():
        if len(letter) != 1 or letter in "#SGP. \n":
            raise ValueError(f"rewards key {letter!r} must be one character other than '#SGP. '")
        if not np.isfinite(reward):
            raise ValueError(f"rewards of {letter!r} is {reward} and must be finite")
    return dict(rewards)


def _observer(
    form: str, grid: Grid, rewards: Mapping[str, float]
) -> tuple[spaces.Space, Callable[[Array], Array]]:
    """Return the observation space and a function from states [K] to observations [K, ...]."""
    forms = {"state": _see_state, "coordinates": _see_coordinates, "pixels": _see_pixels}
    if form not in forms:
        raise ValueError(f"observation {form!r} must be one of {sorted(forms)}")
    return forms[form](grid, rewards)


def _see_state(grid: Grid, rewards: Mapping[str, float]) -> tuple[spaces.Space, Callable[[Array], Array]]:
    return spaces.Discrete(len(grid.cells)), lambda states: np.asarray(states, dtype=np.int64)


def _see_coordinates(
    grid: Grid, rewards: Mapping[str, float]
) -> tuple[spaces.Space, Callable[[Array], Array]]:
    extent = np.maximum(np.array(grid.letters.shape) - 1, 1)
    table = (grid.cells / extent).astype(np.float32)  # [S, 2]
    return spaces.Box(0.0, 1.0, (2,), np.float32), lambda states: table[states]


def _see_pixels(grid: Grid, rewards: Mapping[str, float]) -> tuple[spaces.Space, Callable[[Array], Array]]:
    block = -(-MIN_PIXELS // min(grid.letters.shape))  # rounded up
    small = np.array([[cell_colour(c, rewards) for c in line] for line in grid.lines], dtype=np.uint8)

    def observe(states: Array) -> Array:
        images = np.repeat(small[None], len(states), axis=0)  # [K, rows, columns, 3]
        rows, columns = grid.cells[states].T
        images[np.arange(len(states)), rows, columns] = COLOURS["agent"]
        return images.repeat(block, axis=1).repeat(block, axis=2)

    shape = (small.shape[0] * block, small.shape[1] * block, 3)
    return spaces.Box(0, 255, shape, np.uint8), observe


def cell_colour(letter: str, rewards: Mapping[str, float]) -> tuple[int, int, int]:
    """Return the colour (red, green, blue) that stands for a cell of the map."""
    if letter in rewards:
        return BONUS_COLOURS[rewards[letter] > 0]
    return COLOURS.get(letter, FLOOR_COLOUR)
