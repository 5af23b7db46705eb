"""Early stopping: a rule that ends training by the returns of its evaluations."""

from __future__ import annotations

from typing import Any


class EarlyStopping:
    """Ends training once evaluation returns have reached a threshold, or no longer rise.

    Args:
        patience: stop after so many evaluations in a row without a new best (Prechelt, 1998, "Early
            Stopping - But When?"); None: never for that reason.
        threshold: stop at this return; None: never for that reason.
        min_delta: how much a return must exceed the best so far to be a new best.

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
        self.reason: str | None = None  # why to stop, after the last evaluation; None: go on

    def observe(self, mean_return: float) -> str | None:
        """Judge an evaluation by its mean return; return why to stop (one line), or None to go on. nan is no best."""
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
        """Return the best return (None before the first), the number of evaluations since, and why to stop."""
        best = None if self.best == float("-inf") else self.best
        return {"best": best, "since_best": self.since_best, "reason": self.reason}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.best = float("-inf") if state["best"] is None else state["best"]
        self.since_best, self.reason = state["since_best"], state["reason"]
