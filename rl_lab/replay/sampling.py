"""Samplers of windows, each of which draws all windows with the same probability."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from rl_lab.replay.transitions import Sampler, Uniform
from rl_lab.types import Array


class WindowSampler(Sampler, Protocol):
    """Draws among the windows of a replay, each known by the index of its first step."""

    @property
    def is_empty(self) -> bool:
        """Say that there is nothing to draw, however many rows are held."""


class UniformRows(Uniform):
    """Draws a row, then one of the N environments: windows that may begin at every step."""

    is_empty = False  # the caller says how many there are

    def __init__(self, num_envs: int):
        self._num_envs = num_envs

    def draw(
        self, batch_size: int, rng: np.random.Generator, first: int, held: int, beta: float
    ) -> tuple[Array, None]:
        """Draw indices [B] among the `held` ones from `first` on."""
        row = rng.integers(held // self._num_envs, size=batch_size)
        env = rng.integers(self._num_envs, size=batch_size)
        return (first + row * self._num_envs + env) % self._capacity, None


class UniformQueue:
    """Draws uniformly among the indices that were added; they expire in the order in which they came.

    It keeps nothing across a save: whoever loads a replay adds anew what is still there.
    """

    def __init__(self) -> None:
        self._head, self._count = 0, 0

    @property
    def is_empty(self) -> bool:
        """Say whether there is nothing to draw."""
        return self._count == 0

    def bytes_for(self, capacity: int) -> int:
        """Return the bytes of the queue."""
        return 8 * capacity

    def allocate(self, capacity: int) -> None:
        """Make the queue."""
        self._queue = np.zeros(capacity, np.int64)

    def added(self, first: int, stop: int) -> None:
        """Take in `first:stop`."""
        places = (self._head + self._count + np.arange(stop - first)) % len(self._queue)
        self._queue[places] = np.arange(first, stop)
        self._count += stop - first

    def expired(self, first: int, stop: int) -> None:
        """Let go of those of `first:stop` that are in front."""
        while self._count and first <= self._queue[self._head] < stop:
            self._head = (self._head + 1) % len(self._queue)
            self._count -= 1

    def draw(
        self, batch_size: int, rng: np.random.Generator, first: int, held: int, beta: float
    ) -> tuple[Array, None]:
        """Draw indices [B] among those in the queue."""
        place = rng.integers(self._count, size=batch_size)
        return self._queue[(self._head + place) % len(self._queue)], None

    def update(self, index: Array, td_errors: Array) -> None:
        """Do nothing."""

    def state_dict(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Do nothing."""
