"""Samplers of windows, each of which draws all windows with the same probability."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from rl_lab.replay.transitions import Sampler, Uniform
from rl_lab.types import Array


class WindowSampler(Sampler, Protocol):
    """Draws among the windows of a replay, which are identified by the indices of their first steps."""

    @property
    def is_empty(self) -> bool:
        """Whether there is no window to draw, however many rows are held."""


class UniformRows(Uniform):
    """Draws a row, then one of the N environments: for windows that may begin at every step."""

    is_empty = False  # `draw` is told how many windows there are

    def __init__(self, num_envs: int):
        self._num_envs = num_envs

    def draw(
        self, batch_size: int, rng: np.random.Generator, first: int, held: int, beta: float
    ) -> tuple[Array, None]:
        """Draw indices int64 [B] among the `held` windows from `first` on."""
        row = rng.integers(held // self._num_envs, size=batch_size)
        env = rng.integers(self._num_envs, size=batch_size)
        return (first + row * self._num_envs + env) % self._capacity, None


class UniformQueue:
    """Draws uniformly among the indices that were added, which must expire in the order in which they came.

    It saves nothing: a replay that is loaded adds its windows again.
    """

    def __init__(self) -> None:
        self._head, self._count = 0, 0

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to draw."""
        return self._count == 0

    def bytes_for(self, capacity: int) -> int:
        """Return the size of the queue in bytes."""
        return 8 * capacity

    def allocate(self, capacity: int) -> None:
        """Create the queue."""
        self._queue = np.zeros(capacity, np.int64)

    def added(self, first: int, stop: int) -> None:
        """Append the indices `first:stop`."""
        places = (self._head + self._count + np.arange(stop - first)) % len(self._queue)
        self._queue[places] = np.arange(first, stop)
        self._count += stop - first

    def expired(self, first: int, stop: int) -> None:
        """Drop the indices within `first:stop` from the front of the queue."""
        while self._count and first <= self._queue[self._head] < stop:
            self._head = (self._head + 1) % len(self._queue)
            self._count -= 1

    def draw(
        self, batch_size: int, rng: np.random.Generator, first: int, held: int, beta: float
    ) -> tuple[Array, None]:
        """Draw indices int64 [B] from the queue."""
        place = rng.integers(self._count, size=batch_size)
        return self._queue[(self._head + place) % len(self._queue)], None

    def update(self, index: Array, td_errors: Array) -> None:
        """Do nothing."""

    def state_dict(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Do nothing."""
