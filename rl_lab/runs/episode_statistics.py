"""Means over the training episodes that ended since the last row of metrics."""

from __future__ import annotations

from typing import Any

from rl_lab.environments.episodes import Episode


class EpisodeStatistics:
    """Gathers the returns and lengths of finished episodes, and counts them."""

    def __init__(self) -> None:
        self.total = 0  # episodes since the run began
        self._returns: list[float] = []  # of the episodes since the last row
        self._lengths: list[int] = []

    def add(self, episode: Episode) -> None:
        """Take a finished episode in."""
        self._returns.append(episode.return_)
        self._lengths.append(episode.length)
        self.total += 1

    def take(self) -> dict[str, float]:
        """Return the columns of a row, and begin anew; there are means only if an episode has ended."""
        row: dict[str, float] = {}
        if self._returns:
            row["episode_return_mean"] = sum(self._returns) / len(self._returns)
            row["episode_length_mean"] = sum(self._lengths) / len(self._lengths)
        self._returns, self._lengths = [], []
        return row | {"episodes": self.total}

    def state_dict(self) -> dict[str, Any]:
        """Return what was gathered since the last row, and the count."""
        return {"returns": self._returns, "lengths": self._lengths, "episodes": self.total}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self._returns, self._lengths = list(state["returns"]), list(state["lengths"])
        self.total = state["episodes"]
