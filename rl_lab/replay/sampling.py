"""Samplers, which choose the transitions or windows that are drawn: their protocol, and the uniform ones."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from rl_lab.types import Array


class Sampler(Protocol):
    """Draws among the transitions of a replay, which are identified by their indices in the ring."""

    def bytes_for(self, capacity: int) -> int:
        """Return how many bytes `allocate` will take."""

    def allocate(self, capacity: int) -> None:
        """Make room for indices below `capacity`."""

    def added(self, first: int, stop: int) -> None:
        """Take note of new transitions at the indices `first:stop`."""

    def expired(self, first: int, stop: int) -> None:
        """Never draw the transitions at `first:stop` again."""

    def draw(
        self, batch_size: int, rng: np.random.Generator, first: int, held: int, beta: float
    ) -> tuple[Array, Array | None]:
        """Draw indices among the `held` transitions that begin at index `first` of the ring.

        Args:
            beta: exponent of the importance weights.

        Returns:
            Indices int64 [B], and weights float32 [B] or None.
        """

    def update(self, index: Array, td_errors: Array) -> None:
        """Take note of the TD errors [B] of the transitions at indices [B]."""

    def state_dict(self) -> dict[str, Any]:
        """Return what has to be saved."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a state, after `allocate`."""


class Uniform:
    """Draws uniformly with replacement, without weights. It needn't be told what is added or expires."""

    def bytes_for(self, capacity: int) -> int:
        """Return 0."""
        return 0

    def allocate(self, capacity: int) -> None:
        """Remember the size of the ring."""
        self._capacity = capacity

    def added(self, first: int, stop: int) -> None:
        """Do nothing."""

    def expired(self, first: int, stop: int) -> None:
        """Do nothing: `draw` is told where the held transitions begin."""

    def draw(
        self, batch_size: int, rng: np.random.Generator, first: int, held: int, beta: float
    ) -> tuple[Array, None]:
        """Draw indices int64 [B] among the `held` transitions from `first` on."""
        index = rng.integers(held, size=batch_size)
        return ((index + first) % self._capacity if first else index), None

    def update(self, index: Array, td_errors: Array) -> None:
        """Do nothing."""

    def state_dict(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Do nothing."""


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
