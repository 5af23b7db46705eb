"""A grid world drawn as text: one MDP, observed as a number, as coordinates or as an image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from gymnasium import spaces

from rl_lab.envs.checks import require_action, require_finite, require_number
from rl_lab.envs.drawing.picture import Moment, Picture, start_trail
from rl_lab.envs.maps import MOVES, Grid, check_rewards, parse_map
from rl_lab.envs.pictured import PicturedEnv
from rl_lab.envs.vectorised import Shown
from rl_lab.envs.walk import Walk
from rl_lab.mdp.model import TabularModel
from rl_lab.types import Array

MIN_PIXELS = 36  # the smallest image that the usual three-layer network for Atari games accepts
COLOURS = {"#": (40, 44, 52), "G": (60, 190, 90), "P": (200, 60, 60), "agent": (70, 120, 255)}
FLOOR_COLOUR = (235, 230, 220)
BONUS_COLOURS = {True: (240, 190, 60), False: (150, 90, 190)}  # whether entering the cell pays

Observe = Callable[[Array], Array]
"""Maps states int [K] to observations [K, ...]."""


class GridWorld(PicturedEnv):
    """Walk from a start to the goal, around walls and pits.

    A map is a name in `maps.MAPS` or a text: `#` is a wall, `S` a start (with several, each is equally likely),
    `G` the goal, `P` a pit, `.` or a space floor; `rewards` may define further characters. Actions 0 to 3 go up,
    right, down and left. With probability `slip` the agent moves in one of the two perpendicular directions
    instead, each equally likely. A move into a wall or off the map has no effect.

    A step pays `step_reward` plus the reward of the cell in which it ends, even if the agent was there before.
    Goal and pit end the episode.

    Observations are the state's number, (row, column) scaled to 0..1 as float32 [2], or an image uint8 [H, W, 3]
    in which each cell, the agent's included, is a block of one colour. Blocks are large enough for both sides of
    the image to have at least 36 pixels, so that a convolutional network fits. The same seed and actions lead
    through the same states in each form.
    """

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
        """Make the grid world. Raises ValueError for a parameter outside what is allowed.

        Args:
            map: a name in `maps.MAPS`, or the rows of a map.
            step_reward: reward of every step.
            goal_reward: additional reward of reaching the goal.
            pit_reward: additional reward of falling into a pit.
            slip: probability of moving in a perpendicular direction.
            rewards: additional reward of entering a cell with a character of one's own, by that character.
            observation: "state", "coordinates" or "pixels".
            render_mode: None, "rgb_array" or "human".
        """
        if not 0.0 <= require_number("slip", slip, "a probability in 0..1") <= 1.0:
            raise ValueError(f"slip {slip} must be a probability in 0..1")
        super().__init__(render_mode)
        self.moves = MOVES
        self.rewards = check_rewards(rewards or {})
        self.grid = parse_map(map, self.rewards)
        self.slip = slip
        self.action_space = spaces.Discrete(4)
        self.observation_space, self._observe = _make_observer(observation, self.grid, self.rewards)
        letters = self.grid.state_letters
        step_reward = require_finite("step_reward", step_reward)
        ends = {
            "G": require_finite("goal_reward", goal_reward),
            "P": require_finite("pit_reward", pit_reward),
        }
        cell_reward = ends | self.rewards
        self._entering = np.array([step_reward + cell_reward.get(letter, 0.0) for letter in letters])
        self._final = np.isin(letters, ("G", "P"))
        self._starts = np.flatnonzero(letters == "S")
        # Lists, because a step is a few look-ups, and most of its time would go into numpy's scalars.
        self._neighbours: list[list[int]] = self.grid.neighbours.tolist()
        self._state = int(self._starts[0])
        self._trail = start_trail(self._state)

    @property
    def cells(self) -> Array:
        """(row, column) of each state, int64 [S, 2]."""
        return self.grid.cells

    @property
    def grid_shape(self) -> tuple[int, int]:
        """Rows and columns of the map that the picture shows."""
        return self.grid.letters.shape

    @property
    def letters(self) -> Array:
        """The character under each state, str [S]."""
        return self.grid.state_letters

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[Any, dict]:
        """Start an episode in a start cell drawn from the environment's generator."""
        super().reset(seed=seed, options=options)
        self.enter_state(int(self._starts[self.np_random.integers(len(self._starts))]))
        if self.render_mode == "human":
            self.render()
        return self._see(), {}

    def enter_state(self, state: int) -> None:
        """Go on from another cell, as if the episode had begun there; checks of the model use it."""
        self._state, self._trail = state, start_trail(state)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        """Move. Raises ValueError for an action other than 0, 1, 2 or 3."""
        direction = require_action(action, 4)
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

    def world(self, num_envs: int) -> Walk:
        """Return what so many of these grid worlds play, in arrays."""
        shown = Shown(self._observe, len(self._final), self.observation_space)
        return Walk(
            self.grid.neighbours, self._entering, self._final, self._starts, self.slip, shown, num_envs
        )

    def model(self) -> TabularModel:
        """Return the finite MDP that is played, with this form of observation."""
        neighbours, size = self.grid.neighbours, len(self._final)
        turns = ((0, 1.0 - self.slip), (1, self.slip / 2), (3, self.slip / 2))  # clockwise, with probability
        state, action = (index.ravel() for index in np.indices((size, 4)))
        parts = []
        for turn, probability in turns:
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

    def _see(self) -> Any:
        if isinstance(self.observation_space, spaces.Discrete):
            return self._state
        return self._observe(np.array([self._state]))[0]

    def _describe_moment(self) -> Moment:
        return Moment(self._state, self._trail)

    def _make_picture(self) -> Picture:
        from rl_lab.envs.drawing.grid_panel import grid_panel

        return grid_panel(self.grid.letters, self.grid.cells, rewards=self.rewards)


def _make_observer(form: str, grid: Grid, rewards: Mapping[str, float]) -> tuple[spaces.Space, Observe]:
    """Return the observation space of a form, and the function that shows states in it."""
    forms = {"state": _show_numbers, "coordinates": _show_coordinates, "pixels": _show_pixels}
    if form not in list(forms):
        raise ValueError(f"observation {form!r} must be one of {sorted(forms)}")
    return forms[form](grid, rewards)


def _show_numbers(grid: Grid, rewards: Mapping[str, float]) -> tuple[spaces.Space, Observe]:
    return spaces.Discrete(len(grid.cells)), lambda states: np.asarray(states, dtype=np.int64)


def _show_coordinates(grid: Grid, rewards: Mapping[str, float]) -> tuple[spaces.Space, Observe]:
    extent = np.maximum(np.array(grid.letters.shape) - 1, 1)
    table = (grid.cells / extent).astype(np.float32)  # [S, 2]
    return spaces.Box(0.0, 1.0, (2,), np.float32), lambda states: table[states]


def _show_pixels(grid: Grid, rewards: Mapping[str, float]) -> tuple[spaces.Space, Observe]:
    block = -(-MIN_PIXELS // min(grid.letters.shape))  # rounded up
    small = np.array([[_cell_colour(c, rewards) for c in line] for line in grid.lines], dtype=np.uint8)

    def observe(states: Array) -> Array:
        images = np.repeat(small[None], len(states), axis=0)  # [K, rows, columns, 3]
        rows, columns = grid.cells[states].T
        images[np.arange(len(states)), rows, columns] = COLOURS["agent"]
        return images.repeat(block, axis=1).repeat(block, axis=2)

    shape = (small.shape[0] * block, small.shape[1] * block, 3)
    return spaces.Box(0, 255, shape, np.uint8), observe


def _cell_colour(letter: str, rewards: Mapping[str, float]) -> tuple[int, int, int]:
    if letter in rewards:
        return BONUS_COLOURS[rewards[letter] > 0]
    return COLOURS.get(letter, FLOOR_COLOUR)
