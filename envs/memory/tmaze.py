"""The T-maze: a sign at the start says which way to turn at the end of a corridor."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from gymnasium import spaces

from rl_lab.envs.checks import require_whole
from rl_lab.envs.drawing.picture import Picture
from rl_lab.envs.tabular import TabularEnv, end_rows, spread_evenly
from rl_lab.envs.tabular_world import TabularWorld
from rl_lab.mdp.model import TabularModel
from rl_lab.types import Array

NORTH, EAST, SOUTH, WEST = range(4)
RIGHT_REWARD = 4.0  # of turning as the sign says
WRONG_REWARD = -0.1
STILL_REWARD = -0.1  # of walking into a wall
SIGNS = ((0, 1, 1), (1, 1, 0))  # what the start shows if the goal is north, and if it is south
CORRIDOR, JUNCTION, OVER = (1, 0, 1), (0, 1, 0), (0, 0, 0)


class TMaze(TabularEnv):
    """Walk `length` cells east to a junction, and turn there as the sign at the start said.

    Actions 0 to 3 go north, east, south and west. A turn at the junction ends the episode and pays 4 if it is right
    and -0.1 if it is wrong; walking into a wall costs 0.1; other moves are free. Observations are float32 [3]. The
    starting cell shows 011 (the goal is north) or 110 (south), each with probability 1/2. All cells of the corridor
    show 101, and the junction shows 010. Episodes are truncated after `max_steps` steps.

    The optimal expected return is 4. Without memory it is 1.95 for any length and any limit of at least length + 1
    steps: at the junction the policy is the same for both signs, so half of its turns are wrong, and standing still
    until the limit to avoid a wrong turn costs as much.

    There is no `model()` to solve, because observations don't tell the states apart.

    Source: Bakker, "Reinforcement Learning with Long Short-Term Memory", NIPS 2001,
    https://papers.nips.cc/paper/2001/hash/a38b16173474ba8b1a95bcbc30d3b8a5-Abstract.html, without noise; there the
    length is 5 to 70.
    """

    def __init__(self, *, length: int = 10, max_steps: int = 1000, render_mode: str | None = None) -> None:
        """Make the maze. Raises ValueError unless `length` >= 1 and `max_steps` > `length`, both whole numbers."""
        self.length = require_whole("length", length, 1)
        self.max_steps = require_whole("max_steps", max_steps, self.length + 1)
        space = spaces.Box(0.0, 1.0, (3,), np.float32)
        super().__init__(_make_model(self.length), render_mode=render_mode, observation_space=space)

    @property
    def optimal_return(self) -> float:
        """The best expected return, with memory."""
        return RIGHT_REWARD

    @property
    def memoryless_return(self) -> float:
        """The best expected return of a policy that sees only the current observation."""
        return (RIGHT_REWARD + WRONG_REWARD) / 2.0

    def model(self) -> None:  # type: ignore[override]
        """Return None: to solve the MDP of hidden states would be to solve a different problem."""
        return None

    def get_action_meanings(self) -> list[str]:
        """Return the names of the actions, in their order."""
        return ["north", "east", "south", "west"]

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        """Move. Raises ValueError for an action other than 0, 1, 2 or 3."""
        obs, reward, terminated, _, info = super().step(action)
        return obs, reward, terminated, not terminated and self._moment.steps >= self.max_steps, info

    def world(self, num_envs: int) -> TabularWorld:
        """Return what so many mazes play, in arrays."""
        return TabularWorld(
            self._model, self._tables.sums, self.observation_space, num_envs, limit=self.max_steps
        )

    def _make_picture(self) -> Picture:
        from rl_lab.envs.drawing.memory_panels import tmaze_panel

        return tmaze_panel(self.length)


@lru_cache(maxsize=8)
def _make_model(length: int) -> TabularModel:
    """Return the model of the hidden states: sign * (length + 1) + cell, then one for the end."""
    over = 2 * (length + 1)
    sign, cell, action = (index.ravel() for index in np.indices((2, length + 1, 4)))
    turns = (cell == length) & ((action == NORTH) | (action == SOUTH))
    right = turns & ((action == NORTH) == (sign == 0))
    landing = np.clip(cell + (action == EAST) - (action == WEST), 0, length)
    still = ~turns & (landing == cell)
    reward = RIGHT_REWARD * right + WRONG_REWARD * (turns & ~right) + STILL_REWARD * still
    state, successor = sign * (length + 1) + cell, np.where(turns, over, sign * (length + 1) + landing)
    rows = np.column_stack((state, action, np.ones(len(state)), successor, reward, turns))
    starts = spread_evenly(np.array([0, length + 1]), over + 1)
    observations = _observe_states(length)
    return TabularModel.from_outcomes(
        np.concatenate((rows, end_rows(np.array([over]), 4))),
        over + 1,
        4,
        starts,
        observe=lambda states: observations[states],
    )


def _observe_states(length: int) -> Array:
    """Return the observation of each state, float32 [S, 3]."""
    halves = [(sign, *(CORRIDOR,) * (length - 1), JUNCTION) for sign in SIGNS]
    return np.array([*halves[0], *halves[1], OVER], dtype=np.float32)
