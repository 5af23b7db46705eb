"""Which transitions are drawn: what every sampler offers, and the one that draws all alike."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from rl_lab.types import Array


class Sampler(Protocol):
    """Draws among the transitions of a replay, each known by its index in the ring."""

    def bytes_for(self, capacity: int) -> int:
        """Return the bytes that `allocate` will take."""

    def allocate(self, capacity: int) -> None:
        """Make room for indices up to `capacity`."""

    def added(self, first: int, stop: int) -> None:
        """Take in the new transitions at `first:stop`."""

    def expired(self, first: int, stop: int) -> None:
        """Never draw what was at `first:stop` again."""

    def draw(
        self, batch_size: int, rng: np.random.Generator, first: int, held: int, beta: float
    ) -> tuple[Array, Array | None]:
        """Draw indices [B] among the `held` ones from `first` on, and weights float32 [B] or None."""

    def update(self, index: Array, td_errors: Array) -> None:
        """Take in how far off the transitions' values were."""

    def state_dict(self) -> dict[str, Any]:
        """Return what has to be kept."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a state in, after `allocate`."""


class Uniform:
    """Draws uniformly with replacement; weights nothing."""

    def bytes_for(self, capacity: int) -> int:
        """Return 0."""
        return 0

    def allocate(self, capacity: int) -> None:
        """Remember where the ring ends."""
        self._capacity = capacity

    def added(self, first: int, stop: int) -> None:
        """Do nothing."""

    def expired(self, first: int, stop: int) -> None:
        """Do nothing: the caller says where those held begin."""

    def draw(
        self, batch_size: int, rng: np.random.Generator, first: int, held: int, beta: float
    ) -> tuple[Array, None]:
        """Draw indices [B] among the `held` ones from `first` on."""
        index = rng.integers(held, size=batch_size)
        return ((index + first) % self._capacity if first else index), None

    def update(self, index: Array, td_errors: Array) -> None:
        """Do nothing."""

    def state_dict(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Do nothing."""
