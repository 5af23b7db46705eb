"""The last transitions of linear learners, in ring buffers."""

from __future__ import annotations

from typing import Any

import numpy as np

from rl_lab.storage.state_trees import LoadedRing, Ring
from rl_lab.types import Array

from .features import Features, matrix_of
from .least_squares import Samples
from .transitions import Transitions


class SampleStore:
    """Holds up to `capacity` transitions; the oldest give way.

    Args:
        dimensions: of a point.
    """

    def __init__(self, capacity: int, dimensions: int, num_actions: int):
        self._capacity, self._written = capacity, 0
        self._columns = {
            "points": np.zeros((capacity, dimensions)),
            "action": np.zeros(capacity, np.int64),
            "reward": np.zeros(capacity),
            "terminated": np.zeros(capacity, np.bool_),
            "next_points": np.zeros((capacity, dimensions)),
            "next_weight": np.zeros((capacity, num_actions)),
        }

    def __len__(self) -> int:
        return min(self._written, self._capacity)

    def add(self, transitions: Transitions, next_weight: Array) -> None:
        """Add transitions.

        Args:
            next_weight: what is to be remembered of each next action, [N, A]: its probability, or whether it is legal.
        """
        place = (self._written + np.arange(len(transitions.reward))) % self._capacity
        for name in ("points", "action", "reward", "terminated", "next_points"):
            self._columns[name][place] = getattr(transitions, name)
        self._columns["next_weight"][place] = next_weight
        self._written += len(place)

    @property
    def next_weight(self) -> Array:
        """What is remembered of the next actions, [K, A]."""
        return self._columns["next_weight"][: len(self)]

    def samples(self, features: Features, gamma: float) -> Samples:
        """Return all transitions held."""
        held = {name: column[: len(self)] for name, column in self._columns.items()}
        x, next_x = (matrix_of(features, held[name]) for name in ("points", "next_points"))
        discount = np.where(held["terminated"], 0.0, gamma)
        return Samples(x, held["action"], held["reward"], discount, next_x)

    def state_dict(self) -> dict[str, Any]:
        """Return the columns, of which a checkpoint adds what is new."""
        return {
            "written": self._written,
            "columns": {name: Ring(column, self._written) for name, column in self._columns.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what `state_dict` returned, in place."""
        self._written = state["written"]
        rings: dict[str, LoadedRing] = state["columns"]
        for name, ring in rings.items():
            ring.copy_into(self._columns[name])
