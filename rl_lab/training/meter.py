"""Averages of an agent's metrics between two rows."""

from __future__ import annotations

from typing import Any

from rl_lab.types import Metrics


class Meter:
    """Averages metrics over the updates since the last row; for names that end in _max it keeps the maximum."""

    def __init__(self) -> None:
        self._values: dict[str, list[float]] = {}  # name: [count, sum or maximum]
        self._maxima: set[str] = set()  # names of maxima, of those that have come

    def add(self, metrics: Metrics) -> None:
        """Take the metrics of one update in."""
        for name, value in metrics.items():
            entry = self._values.get(name)
            if entry is None:
                entry = self._values[name] = [0, float("-inf") if name.endswith("_max") else 0.0]
                if name.endswith("_max"):
                    self._maxima.add(name)
            entry[0] += 1
            entry[1] = max(entry[1], value) if name in self._maxima else entry[1] + value

    def take(self) -> dict[str, float]:
        """Return the averages and maxima, and begin anew."""
        out = {n: v if n.endswith("_max") else v / count for n, (count, v) in self._values.items()}
        self._values = {}
        return out

    def state_dict(self) -> dict[str, Any]:
        """Return what has been added since the last row."""
        return {name: list(entry) for name, entry in self._values.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self._values = {name: list(entry) for name, entry in state.items()}
        self._maxima = {name for name in state if name.endswith("_max")}
