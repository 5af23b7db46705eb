"""One run, as learners see it: they push rows and episodes into it, and ask it what to do next."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

from rl_lab.agent import Policy
from rl_lab.environments.episodes import Episode
from rl_lab.runs.callbacks import Callbacks, Kind
from rl_lab.runs.clock import Clock
from rl_lab.runs.config import RunConfig
from rl_lab.runs.description import RunDescription
from rl_lab.runs.directory import RunDirectory
from rl_lab.runs.early_stopping import EarlyStopping
from rl_lab.runs.episode_statistics import EpisodeStatistics
from rl_lab.runs.evaluations import Evaluations, Evaluator, Figures
from rl_lab.runs.moments import Moments
from rl_lab.runs.progress import NullProgress, Progress
from rl_lab.runs.rows import read_rows
from rl_lab.runs.selection import Selection
from rl_lab.runs.spending import Spending
from rl_lab.runs.summary import summarise
from rl_lab.seeding import untouched_torch

Members = dict[str, Any]  # the state trees of a checkpoint, by name; "weights" is all that acting needs


class _End(NamedTuple):
    """What a run ends with."""

    policy: Policy
    weights: Any
    figures: Figures
    score: float | None  # mean return of the last policy, which goes with the checkpoint


class Run:
    """Takes rows, episodes and moments from a learner; writes the run directory.

    A learner reads `restored`, `config`, `stop_requested` and `stopped`, and sets `total_steps` if it rounds
    its budget up. It calls `start_clock` (or `catch_up` after a restore) when set-up is over, then
    `episode`, `row` and `moment` as it learns, and `finish` at the end unless `stopped`.

    Args:
        description: what is run.
        directory: where it is written.
        evaluator: measures policies and shows the final one.
        restored: the members of the checkpoint to go on from; None for a new run.
        progress: shows rows to a person.
        callbacks: hear of rows, evaluations and checkpoints, and may ask the run to stop.
        load: makes a policy of weights; needed where a run may end with another policy than the last.
        frames_per_step: frames of an Atari or MinAtar game for which an action is held; None for others.
        clock: measures the run's seconds; by default one that takes all of this process's time for the run's.
    """

    def __init__(
        self,
        description: RunDescription,
        directory: RunDirectory,
        evaluator: Evaluator,
        *,
        restored: Members | None = None,
        progress: Progress | None = None,
        callbacks: Callbacks | None = None,
        load: Callable[[Any], Policy] | None = None,
        frames_per_step: int | None = None,
        clock: Clock | None = None,
    ):
        config = description.config
        self._frames_per_step = frames_per_step
        self.restored = restored
        self.stop_requested = False  # a signal sets it; it is honoured at the next step boundary
        # Set by a callback, and honoured at the next step boundary too; it doesn't count as the first of two signals.
        self._callback_asks = False
        self.stopped = False  # saved and to be resumed later, so not to be finished now
        self.stopped_at = 0  # env_steps, if it is stopped
        self.summary: dict[str, Any] | None = None  # once the run is finished
        self._description, self._directory = description, directory
        self._evaluator, self._progress = evaluator, progress or NullProgress()
        self._total_steps = config.total_steps
        self._seen = self._signs = 0  # the step and the question that came last, for a watchdog
        self._told_of_films = False
        self._callbacks = callbacks or Callbacks()
        self._callback_stops: list[dict[str, Any]] = []  # of all sessions: env_steps and reason
        self._clock, self._moments, self._episodes = clock or Clock(), Moments.of(config), EpisodeStatistics()
        self._spending = Spending()
        self._selection, self._load = Selection(config.final_policy), load
        self.final_policy: Policy | None = None  # that the run has ended with
        rule = EarlyStopping(config.stop_after_evals, config.stop_at_return, config.stop_min_delta)
        self._evaluations = Evaluations(
            evaluator, rule, directory.rows, self._clock, self._progress,
            lambda row: self._tell("evaluation", row),
        )  # fmt: skip
        if restored is not None:
            self._restore(restored["run"])
        else:
            directory.rows.cut_back({})  # a run that was killed before its first checkpoint left these rows

    @property
    def stopped_by(self) -> str | None:
        """Why the run has stopped before its end, in one line; None if it hasn't."""
        if not self.stopped:
            return None
        return self._callbacks.asked if self._callback_asks else "a signal"

    @property
    def config(self) -> RunConfig:
        """What the run was asked to do, with "auto" resolved."""
        return self._description.config

    @property
    def total_steps(self) -> int:
        """The number of environment steps at which the run ends."""
        return self._total_steps

    @total_steps.setter
    def total_steps(self, steps: int) -> None:
        self._total_steps = steps
        self._progress.aim(steps)

    @property
    def pulse(self) -> tuple[int, int]:
        """The last step and the number of signs of life beside steps; unchanged while nothing happens."""
        return self._seen, self._signs

    def start_clock(self) -> None:
        """Count training time from now on: what came before was set-up."""
        self._clock.start()

    def add_seconds(self, seconds: float) -> None:
        """Count training that was done for this run before its clock started."""
        self._clock.add(seconds)

    def pause(self) -> AbstractContextManager[None]:
        """Stop counting training time for the length of a `with` block; blocks may be nested."""
        return self._clock.pause()

    def compiling(self) -> AbstractContextManager[None]:
        """Count the length of a `with` block as compiling, a part of the training time."""
        return self._clock.compiling()

    @contextmanager
    def setting_up(self, what: str) -> Iterator[None]:
        """Show what keeps training from its start for the length of a `with` block; "" for nothing."""
        self._progress.doing(what)
        try:
            yield
        finally:
            self._progress.doing("")

    def _signalled(self) -> bool:
        self._signs += 1  # evaluations ask at every step
        return self.stop_requested

    def _asked_to_stop(self) -> bool:
        return self._signalled() or self._callback_asks

    def _tell(self, kind: Kind, row: dict[str, Any]) -> None:
        """Let callbacks know of a row, an evaluation or a checkpoint; they may ask the run to stop."""
        if self._callbacks.tell(kind, row, self.total_steps):
            self._callback_asks = True

    # What learners push ------------------------------------------------------------------------------

    def episode(self, episode: Episode) -> None:
        """Take a finished training episode."""
        self._directory.rows.episode(episode)
        self._episodes.add(episode)

    def row(self, env_steps: int, values: dict[str, Any]) -> None:
        """Append a row of metrics; time and the means of the episodes since the last row are added."""
        with self.pause():
            row = {"env_steps": env_steps, "train_seconds": round(self._clock.train_seconds, 4), **values}
            row |= self._episodes.take()
            written = self._directory.rows.row(row)
            self._signs += 1
            self._spending.add(written)
            self._progress.show(written, self._spending.split(self._clock.spent()))
            self._tell("row", written)

    def due(self, env_steps: int) -> bool:
        """Say whether `row` or `moment` has anything to do; cheap enough to be asked at every step."""
        self._seen = env_steps
        return env_steps >= self._moments.next or self.stop_requested or self._callback_asks

    def due_after(self, env_steps: int) -> int:
        """Return the first step after `env_steps` at which a row, an evaluation or a checkpoint is due."""
        return self._moments.after(env_steps)

    def row_due(self, env_steps: int) -> bool:
        """Say whether a row has become due since the last moment."""
        return self._moments.row_due(env_steps)

    def moment(self, env_steps: int, policy: Policy, members: Callable[[], Members]) -> bool:
        """Evaluate and save where due; return whether to stop.

        If it says to stop and `stopped` is set, the run will be resumed later; otherwise call `finish`.

        Args:
            policy: the greedy policy.
            members: returns the state trees of a checkpoint; called only when one is due, or to be written ahead.
        """
        due = self._moments.advance(env_steps)
        if env_steps >= self.total_steps:
            return False  # `finish` evaluates and saves
        with self.pause():
            self._evaluations.pending = due.evaluation
            figures = self._evaluations.play_pending(env_steps, policy, self._asked_to_stop)
            if self._evaluations.end is not None:
                return True  # `finish` saves, whether a signal came or not
            self._selection.offer(env_steps, figures, lambda: members()["weights"])
            if self._asked_to_stop():
                self._stop(env_steps)
            score = None if figures is None else figures["eval_return_mean"]
            if self.stopped or due.checkpoint or self._directory.is_best(score):
                self.save(env_steps, members(), score)
            elif due.writing_ahead:
                self._write_ahead(env_steps, members())
            if due.film and not self.stopped:
                self._film(env_steps, policy)
        return self.stopped

    def _film(self, env_steps: int, policy: Policy) -> None:
        """Film the policy as it is now, and tell once what is missing; a signal ends the film early."""
        self._progress.doing("filming")
        missing = self._evaluator.film(env_steps, policy, self._asked_to_stop)
        self._progress.doing("")
        if missing is not None and not self._told_of_films:
            self._told_of_films = True
            self._progress.note(f"warning: {missing}")

    def _stop(self, env_steps: int) -> None:
        """Stop now, to be resumed later; if a callback asked for it, the checkpoint and the summary say so."""
        self.stopped, self.stopped_at = True, env_steps
        if self._callback_asks:
            self._callback_stops.append({"env_steps": env_steps, "reason": self._callbacks.asked})

    def catch_up(self, env_steps: int, policy: Policy, members: Callable[[], Members]) -> bool:
        """After a restore, play the evaluation that a stop cut short; then start the clock.

        Only a signal cuts it short again. A callback that asks the run to stop is heard at the next moment, which
        saves a checkpoint with its reason.

        Args:
            policy: the greedy policy.
            members: returns the state trees of a checkpoint, as for `moment`.

        Returns:
            Whether to stop, as `moment` does: the evaluation was cut short again, or ends the run.
        """
        figures = self._evaluations.play_pending(env_steps, policy, self._signalled)
        if self._evaluations.end is None:
            self._selection.offer(env_steps, figures, lambda: members()["weights"])
        if self._evaluations.pending:  # the checkpoint restored from is still up to date
            self.stopped, self.stopped_at = True, env_steps
        self.start_clock()
        return self.stopped or self._evaluations.end is not None

    # Checkpoints -------------------------------------------------------------------------------------

    def save(self, env_steps: int, members: Members, score: float | None = None) -> None:
        """Write a checkpoint of these members and of the run's own state.

        Raises:
            NotWritten: the file system refused; the previous checkpoint is whole.
        """
        members = members | {"run": self._state(env_steps)}
        if kept := self._selection.state_dict():
            members["selection"] = kept
        with self._clock.saving():
            path = self._directory.checkpoints.save(env_steps, members, {"score": score})
        self._tell("checkpoint", {"env_steps": env_steps, "score": score, "path": str(path)})

    def _write_ahead(self, env_steps: int, members: Members) -> None:
        """Start to write what is large of the next checkpoint, so that it won't be waited for."""
        with self._clock.saving():
            self._moments.write_ahead_in(self._directory.checkpoints.write_ahead(env_steps, members))

    def _state(self, env_steps: int) -> dict[str, Any]:
        return {
            "positions": self._directory.rows.positions(),
            "at": env_steps,
            **self._clock.state_dict(),
            **self._episodes.state_dict(),
            **self._evaluations.state_dict(),
        } | ({"callback_stops": self._callback_stops} if self._callback_stops else {})

    def _restore(self, state: dict[str, Any]) -> None:
        self._directory.rows.cut_back(state["positions"])
        self._moments.at = state["at"]
        self._clock.load_state_dict(state)
        self._episodes.load_state_dict(state)
        self._evaluations.load_state_dict(state)
        self._callback_stops = list(state.get("callback_stops", ()))  # written only if there are any
        self._selection.load_state_dict((self.restored or {}).get("selection", {}))
        self._evaluations.pending |= self._owes_evaluation(state["at"])

    def _owes_evaluation(self, env_steps: int) -> bool:
        """Say whether an evaluation that was due at this step was left to the run's end, before it was extended.

        The end may have been cut short before its evaluation or its summary was written. So what counts is whether
        the evaluation has a row, of those that were there at the checkpoint.
        """
        ended = any(extension.total_steps <= env_steps for extension in self._description.extended_from)
        if not ended or env_steps >= self.total_steps:
            return False
        due = self._moments.evaluation_was_due(env_steps, self.config.num_envs)
        return due and not any(
            row["env_steps"] == env_steps and "eval_returns" in row
            for row in read_rows(self._directory.folder)
        )

    # The end -----------------------------------------------------------------------------------------

    def finish(
        self,
        env_steps: int,
        policy: Policy,
        members: Members,
        gradient_steps: int,
        results: Mapping[str, Any] | None = None,
    ) -> None:
        """Evaluate and save for the last time, write summary.json, then draw and film the policy.

        With `final_policy` best the policy may be an earlier one; its weights are the member "selected" of the last
        checkpoint, where `load_policy` looks first.

        Args:
            policy: the last greedy policy.
            members: the state trees of the last checkpoint.
            results: what the learner itself adds to the summary.
        """
        with self.pause():
            end = self._end(env_steps, policy, members["weights"])
            if end is None:
                self._stop(env_steps)
                self.save(env_steps, members)  # a resumed run comes here again at once
                return
            self._progress.finish(env_steps)
            # Saved before the row is written: after a kill the end is done again, and the row stands once.
            selected = {} if end.weights is members["weights"] else {"selected": end.weights}
            self.save(env_steps, members | selected, end.score)
            self._tell("evaluation", self._directory.rows.row({"env_steps": env_steps, **end.figures}))
            figures = {**(results or {}), **end.figures}
            self.summary = self._summarise(env_steps, gradient_steps, figures, end.weights)
            self._directory.write_summary(self.summary)
            self.final_policy = end.policy
            self._show(env_steps, end.policy)  # last: what can't be drawn costs no result

    def _end(self, env_steps: int, policy: Policy, weights: Any) -> _End | None:
        """Evaluate the last policy, or the better one that was kept; None if a signal cut it short."""
        if (figures := self._evaluations.play_last(policy, self._signalled)) is None:
            return None
        last = figures["eval_return_mean"]
        better = self._selection.better_than(figures)
        if better is None:
            return _End(policy, weights, figures | self._selection.told(env_steps), last)
        assert self._load is not None
        with untouched_torch():
            policy = self._load(better.weights)
        if (figures := self._evaluations.measure(policy, self._signalled)) is None:
            return None
        return _End(policy, better.weights, figures | self._selection.told(better.env_steps), last)

    def _summarise(
        self, env_steps: int, gradient_steps: int, figures: Figures, weights: Any
    ) -> dict[str, Any]:
        return summarise(
            self._description,
            env_steps=env_steps,
            stopped_early=self._evaluations.end,
            gradient_steps=gradient_steps,
            seconds=self._clock.state_dict(),  # of training as they stood when the pause began
            episodes=self._episodes.total,
            figures=figures,
            weights=weights,
            callback_stops=self._callback_stops,
            frames_per_step=self._frames_per_step,
        )

    def _show(self, env_steps: int, policy: Policy) -> None:
        """Draw and film the policy, and tell a person what is worth knowing about the end."""
        missing = self._evaluator.show(policy, self._progress.doing)
        self._progress.doing("")
        for line in missing:
            self._progress.note(f"warning: {line}")
        if self._evaluations.end is not None:
            self._progress.note(f"stopped early at {env_steps} steps: {self._evaluations.end}")
        if not self._episodes.total and env_steps:
            self._progress.note(f"no training episode ended within {env_steps} steps")
