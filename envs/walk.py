"""Many walks through one grid world at once, in arrays."""

from __future__ import annotations

import numpy as np

from rl_lab.environments.forms import Generators
from rl_lab.envs.vectorised import Draws, Shown
from rl_lab.types import Array


class Walk:
    """What N `GridWorld`s of one map play.

    Args:
        neighbours: the state that each direction leads to, int64 [S, 4].
        entering: the reward of entering each state, float64 [S].
        final: states that end the episode, bool [S].
        starts: int64 [K], each equally likely.
        slip: probability of moving in a perpendicular direction.
        shown: maps states to observations.
    """

    def __init__(
        self,
        neighbours: Array,
        entering: Array,
        final: Array,
        starts: Array,
        slip: float,
        shown: Shown,
        num_envs: int,
    ) -> None:
        self._neighbours, self._entering, self._final = neighbours, entering, final
        self._starts, self._slip, self._shown = starts, slip, shown
        self._places = np.arange(num_envs)
        self._draws = Draws(num_envs)
        self._states = np.zeros(num_envs, np.int64)

    def open(self, i: int, generators: Generators) -> None:
        """Start in a start cell drawn from the generator."""
        several = len(self._starts) > 1  # otherwise numpy would draw nothing
        self._states[i] = self._starts[generators[i].integers(len(self._starts)) if several else 0]
        self._draws.open(i, generators)

    def step(self, actions: Array) -> tuple[Array, Array, Array]:
        """Move, or slip, in each environment."""
        if self._slip:
            drawn = self._draws.take(self._places)
            turned = np.where(drawn < self._slip / 2, 1, 3)
            actions = np.where(drawn < self._slip, (actions + turned) % 4, actions)
        self._states = self._neighbours[self._states, actions]
        terminated = self._final[self._states]
        return self._entering[self._states], terminated, np.zeros_like(terminated)

    def see(self) -> Array:
        """Return the observations, [N, ...]."""
        return self._shown(self._states)

    def masks(self) -> None:
        """Return None: all moves are legal."""
