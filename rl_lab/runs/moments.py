"""The moments of a run at which something is due: a row, an evaluation, a checkpoint, writing ahead."""

from __future__ import annotations

from typing import NamedTuple

from rl_lab.runs.config import RunConfig
from rl_lab.schedules import crossings

FIRST_LOOK = 256  # environment steps after which it is first looked whether there is anything to write ahead


class Due(NamedTuple):
    """What is due at a moment."""

    evaluation: bool
    checkpoint: bool
    film: bool = False
    writing_ahead: bool = False  # of the next checkpoint


class Moments:
    """Says when rows, evaluations and checkpoints are due; each has a period in environment steps.

    With N environments a step goes on by N, so something is due once a multiple of its period has been
    reached or passed since the last moment. When a checkpoint's rows are to be written ahead isn't a period of
    the config: `write_ahead_in` says so each time.
    """

    def __init__(
        self, row_period: int, evaluation_period: int, checkpoint_period: int, film_period: int | None = None
    ):
        self._row, self._evaluation, self._checkpoint = row_period, evaluation_period, checkpoint_period
        self._film = film_period  # None: no films are due
        self.at = 0  # env_steps of the last moment
        self.next = 0  # env_steps before which nothing is due
        self._ahead_period = FIRST_LOOK  # of writing ahead
        self._ahead_at = FIRST_LOOK  # env_steps at which it is due

    @classmethod
    def of(cls, config: RunConfig) -> Moments:
        """Return the moments of a run with this config."""
        row, evaluation, checkpoint = map(
            config.period, ("log_every_steps", "eval_every_steps", "checkpoint_every_steps")
        )
        return cls(row, evaluation, checkpoint, config.video_every_steps)

    def row_due(self, env_steps: int) -> bool:
        """Say whether a row has become due since the last moment."""
        return crossings(self.at, env_steps, self._row) > 0

    def evaluation_was_due(self, env_steps: int, num_envs: int) -> bool:
        """Say whether an evaluation was due at a step of this many environments."""
        return crossings(env_steps - num_envs, env_steps, self._evaluation) > 0

    def after(self, env_steps: int) -> int:
        """Return the first step after `env_steps` at which something is due."""
        periods = [self._row, self._evaluation, self._checkpoint]
        periods += [] if self._film is None else [self._film]
        return min((env_steps // period + 1) * period for period in periods)

    def advance(self, env_steps: int) -> Due:
        """Go on to a new moment and return what is due there besides a row."""
        before, self.at = self.at, env_steps
        if writing_ahead := env_steps >= self._ahead_at:
            self._ahead_at = env_steps + self._ahead_period
        self.next = min(self.after(env_steps), self._ahead_at)
        return Due(
            evaluation=crossings(before, env_steps, self._evaluation) > 0,
            checkpoint=crossings(before, env_steps, self._checkpoint) > 0,
            film=self._film is not None and crossings(before, env_steps, self._film) > 0,
            writing_ahead=writing_ahead,
        )

    def write_ahead_in(self, env_steps: int) -> None:
        """Set after how many environment steps, counted from the last moment, it is due to write ahead."""
        self._ahead_period, self._ahead_at = env_steps, self.at + env_steps
        self.next = min(self.after(self.at), self._ahead_at)
