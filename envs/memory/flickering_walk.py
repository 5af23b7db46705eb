"""Many walks through one grid world at once, whose pictures are sometimes black."""

from __future__ import annotations

import numpy as np

from rl_lab.environments.forms import Generators
from rl_lab.envs.vectorised import Draws
from rl_lab.envs.walk import Walk
from rl_lab.types import Array


class FlickeringWalk:
    """What N `FlickeringGridWorld`s of one map play.

    Args:
        walk: through the grid world, in pictures.
        blank_probability: that a picture is black.
    """

    def __init__(self, walk: Walk, blank_probability: float, num_envs: int) -> None:
        self._walk, self._probability = walk, blank_probability
        self._places = np.arange(num_envs)
        self._draws = Draws(num_envs)
        self._blank = np.zeros(num_envs, np.bool_)

    def open(self, i: int, generators: Generators) -> None:
        """Start a walk, and draw whether the start is seen from a stream of its own."""
        self._draws.open(i, {i: generators[i].spawn(1)[0]})
        self._walk.open(i, generators)
        self._flicker(np.array([i]))

    def step(self, actions: Array) -> tuple[Array, Array, Array]:
        """Move in each environment, and draw what is seen."""
        moved = self._walk.step(actions)
        self._flicker(self._places)
        return moved

    def _flicker(self, places: Array) -> None:
        self._blank[places] = self._draws.take(places) < self._probability

    def see(self) -> Array:
        """Return the pictures, uint8 [N, H, W, 3]."""
        pictures = self._walk.see()
        pictures[self._blank] = 0
        return pictures

    def masks(self) -> None:
        """Return None: all moves are legal."""
