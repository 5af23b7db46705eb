"""When to stop: a rule over the returns of evaluations."""

from __future__ import annotations

from typing import Any


class EarlyStopping:
    """Says when evaluation returns have reached what was wanted, or don't rise any more.

    Args:
        patience: evaluations in a row without a new best after which to stop (Prechelt, 1998, "Early
            Stopping - But When?"); None: never for that reason.
        threshold: return at which to stop; None: never for that reason.
        min_delta: by how much a new best has to exceed the old one.

    Raises:
        ValueError: a patience below 1 or a min_delta below 0.
    """

    def __init__(self, patience: int | None = None, threshold: float | None = None, min_delta: float = 0.0):
        if patience is not None and patience < 1:
            raise ValueError(f"patience must be at least 1 evaluation, got {patience}")
        if not min_delta >= 0:
            raise ValueError(f"min_delta must be at least 0, got {min_delta}")
        self.patience, self.threshold, self.min_delta = patience, threshold, min_delta
        self.best, self.since_best = float("-inf"), 0
        self.reason: str | None = None  # what the last evaluation was answered with

    def observe(self, mean_return: float) -> str | None:
        """Take in an evaluation's mean return; say in a line why to stop, or None to go on. A nan is no new best."""
        if mean_return > self.best + self.min_delta:
            self.best, self.since_best = mean_return, 0
        else:
            self.since_best += 1
        self.reason = self._judge(mean_return)
        return self.reason

    def _judge(self, mean_return: float) -> str | None:
        if self.threshold is not None and mean_return >= self.threshold:
            return f"the evaluation return {mean_return:g} has reached {self.threshold:g}"
        if self.patience is not None and self.since_best >= self.patience:
            return (
                f"no evaluation return above {self.best + self.min_delta:g} in {self.since_best} evaluations"
            )
        return None

    def state_dict(self) -> dict[str, Any]:
        """Return the best return (None before the first), how many evaluations ago it was, and why to stop."""
        best = None if self.best == float("-inf") else self.best
        return {"best": best, "since_best": self.since_best, "reason": self.reason}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a state in."""
        self.best = float("-inf") if state["best"] is None else state["best"]
        self.since_best, self.reason = state["since_best"], state["reason"]
