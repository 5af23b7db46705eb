"""The evaluations of a run: which are still to be played, what they write, and when they end the run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from rl_lab.agent import Policy
from rl_lab.runs.clock import Clock
from rl_lab.runs.early_stopping import EarlyStopping
from rl_lab.runs.progress import NullProgress, Progress
from rl_lab.runs.rows import RowFiles

Figures = dict[str, Any]  # "eval_returns", "eval_return_mean" (None without episodes), ...: columns of a row


class Evaluator(Protocol):
    """Measures what a policy is worth, and shows the final one."""

    def measure(self, policy: Policy, should_stop: Callable[[], bool]) -> Figures | None:
        """Return the figures of a policy; None if `should_stop`, asked at every step, cut the evaluation short."""

    def film(self, env_steps: int, policy: Policy, should_stop: Callable[[], bool]) -> str | None:
        """Film a policy that learning has reached; return in a line what is missing, or None."""

    def show(self, policy: Policy, doing: Callable[[str], None]) -> list[str]:
        """Draw and film the final policy, telling what is begun; return what is missing and why, a line each."""


def told_of_limit(figures: Figures) -> str:
    """Return in a line how many evaluation episodes were cut off, and why."""
    capped, played = figures["eval_capped_episodes"], len(figures["eval_returns"])
    return (
        f"evaluation: {capped} of {played} episodes were cut off, at {figures['eval_limit']}"
        " (eval_max_steps and eval_total_steps set these limits)"
    )


class Evaluations:
    """Plays the evaluations of a run and lets its early stopping judge them.

    Args:
        evaluator: measures a policy.
        rule: says when the returns end the run.
        rows: takes one row for each evaluation.
        clock: counts the seconds of evaluations.
        progress: tells that one is under way, and once that one was cut off.
        heard: called with each row that was written.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        rule: EarlyStopping,
        rows: RowFiles,
        clock: Clock | None = None,
        progress: Progress | None = None,
        heard: Callable[[dict[str, Any]], None] = lambda row: None,
    ):
        self.pending = False  # an evaluation is due that wasn't played to its end
        self._evaluator, self._rule, self._rows = evaluator, rule, rows
        self._last: Figures | None = None  # of the evaluation that ends the run
        self._clock, self._progress = clock or Clock(), progress or NullProgress()
        self._heard = heard
        self._told = False  # that episodes were cut off

    @property
    def end(self) -> str | None:
        """Why the evaluations end the run, in one line; None if they don't."""
        return self._rule.reason

    def play_pending(self, env_steps: int, policy: Policy, should_stop: Callable[[], bool]) -> Figures | None:
        """Play the pending evaluation and write its row; one that is cut short stays pending.

        The row of an evaluation that ends the run is left to the run's end, which saves a checkpoint first:
        so the row stands once, even after a kill.

        Args:
            should_stop: asked at every step; if it says so, the evaluation is cut short.

        Returns:
            Its figures; None if no evaluation was played to its end.
        """
        if not self.pending or (figures := self.measure(policy, should_stop)) is None:
            return None
        self.pending = False
        mean_return: float | None = figures["eval_return_mean"]
        if mean_return is not None and self._rule.observe(mean_return) is not None:
            self._last = figures
        else:
            self._heard(self._rows.row({"env_steps": env_steps, **figures}))
        return figures

    def play_last(self, policy: Policy, should_stop: Callable[[], bool]) -> Figures | None:
        """Return the figures of the run's last evaluation, played now unless they ended the run; None if cut short."""
        return self._last or self.measure(policy, should_stop)

    def measure(self, policy: Policy, should_stop: Callable[[], bool]) -> Figures | None:
        """Return the figures of a policy; None if `should_stop` cut the evaluation short."""
        self._progress.doing("evaluation")
        with self._clock.evaluating():
            figures = self._evaluator.measure(policy, should_stop)
        self._progress.doing("")
        if figures is not None:
            self._progress.evaluated(figures)
        if figures is not None and figures.get("eval_limit") is not None and not self._told:
            self._progress.note(told_of_limit(figures))
            self._told = True
        return figures

    def state_dict(self) -> dict[str, Any]:
        """Return whether an evaluation is pending, and the state of early stopping."""
        return {"evaluation_pending": self.pending, "early_stopping": self._rule.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.pending = state["evaluation_pending"]
        self._rule.load_state_dict(state["early_stopping"])
