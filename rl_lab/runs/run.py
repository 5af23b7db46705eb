"""A run directory: what learners push into while they learn, and what is left when they are done."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rl_lab.agent import Policy
from rl_lab.environments.episodes import Episode
from rl_lab.evaluation.evaluate import Evaluation, Interrupted, evaluate
from rl_lab.problem import Problem
from rl_lab.runs.config import RunConfig
from rl_lab.runs.early_stopping import EarlyStopping
from rl_lab.runs.progress import NullProgress, Progress
from rl_lab.runs.rows import RowFiles
from rl_lab.runs.tracking import Mirror, NullMirror
from rl_lab.schedules import crossings
from rl_lab.storage.checkpoint import Checkpoints
from rl_lab.storage.files import write_atomically
from rl_lab.storage.state_trees import weights_sha256
from rl_lab.storage.versions import versions

Members = dict[str, Any]


class Run:
    """Takes rows, episodes and moments from a learner; writes the run directory.

    Its clock counts acting, stepping and learning: evaluation, checkpoints and rows stop it.
    """

    def __init__(
        self,
        folder: Path,
        config: RunConfig,
        described: dict[str, Any],
        problem: Problem,
        checkpoints: Checkpoints,
        *,
        restored: Members | None = None,
        progress: Progress | None = None,
    ):
        self.folder, self.config, self.restored = folder, config, restored
        self.total_steps = config.total_steps  # a learner that rounds its budget up says so here
        self.stop_requested = False  # set by a signal; honoured at the next step boundary
        self.stopped = False
        self._described, self._problem = described, problem
        self.summary: dict[str, Any] | None = None  # once the run is finished
        self._progress: Progress = progress or NullProgress()
        self._mirror: Mirror | NullMirror = NullMirror()
        self._files = RowFiles(folder)
        self._checkpoints = checkpoints  # the object that loaded knows what is on disk already
        self._returns: list[float] = []  # of the episodes since the last row
        self._lengths: list[int] = []
        self._episodes = 0
        self._at = 0  # env_steps at the last moment
        self._pending = False  # an evaluation at that moment is due
        self._rule = EarlyStopping(config.stop_after_evals, config.stop_at_return, config.stop_min_delta)
        self._last_figures: dict[str, Any] | None = None  # of the evaluation that ends the run early
        self._wall_before = 0.0
        self._seconds_before, self._paused = 0.0, 0.0
        self._pause_began: float | None = None
        if restored is not None:
            self._restore(restored["run"])
        else:
            self._files.cut_back({})  # of a run that was killed before its first checkpoint
        self._started = time.perf_counter()
        self._wall_started = time.time()
        self._next_due = 0

    # The clock ---------------------------------------------------------------------------------------

    @property
    def train_seconds(self) -> float:
        """Seconds of acting, stepping and learning, over all sessions of the run."""
        now = time.perf_counter() if self._pause_began is None else self._pause_began
        return self._seconds_before + now - self._started - self._paused

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Stop the training clock for what is not training; pauses may nest."""
        outermost = self._pause_began is None
        begun = self._pause_began = time.perf_counter() if outermost else self._pause_began
        try:
            yield
        finally:
            if outermost:
                self._pause_began = None
                self._paused += time.perf_counter() - (begun or 0.0)

    def start_clock(self) -> None:
        """Begin counting now: what came before was set-up."""
        self._started, self._paused = time.perf_counter(), 0.0

    def mirror(self, mirror: Mirror | NullMirror) -> None:
        """Let this mirror follow the rows; it is closed with the run."""
        self._mirror = mirror

    # What learners push ------------------------------------------------------------------------------

    def episode(self, episode: Episode) -> None:
        """Take one finished training episode."""
        self._files.episode(episode)
        self._returns.append(episode.return_)
        self._lengths.append(episode.length)
        self._episodes += 1

    def row(self, env_steps: int, values: dict[str, Any]) -> None:
        """Append a row of metrics; the returns of the episodes since the last one are added."""
        with self.pause():
            row = {"env_steps": env_steps, "train_seconds": round(self.train_seconds, 4), **values}
            if self._returns:
                row["episode_return_mean"] = sum(self._returns) / len(self._returns)
                row["episode_length_mean"] = sum(self._lengths) / len(self._lengths)
            row["episodes"] = self._episodes
            self._returns, self._lengths = [], []
            self._files.row(row)
            self._progress.show(row)

    def due(self, env_steps: int) -> bool:
        """Say whether `row` or `moment` has anything to do; cheap enough for every step."""
        return env_steps >= self._next_due or self.stop_requested

    def row_due(self, env_steps: int) -> bool:
        """Say whether a row falls into the steps since the last moment."""
        return crossings(self._at, env_steps, self.config.period("log_every_steps")) > 0

    def moment(self, env_steps: int, policy: Policy, members: Callable[[], Members]) -> bool:
        """Evaluate and save where due; return whether to stop: for now if `stopped`, else for good, with `finish`.

        Args:
            policy: the greedy policy.
            members: gives the state trees of a checkpoint; called only when one is due.
        """
        before, self._at = self._at, env_steps
        self._next_due = min(
            (env_steps // p + 1) * p
            for p in map(
                self.config.period, ("eval_every_steps", "log_every_steps", "checkpoint_every_steps")
            )
        )
        over = env_steps >= self.total_steps
        if over:
            return False  # `finish` evaluates and saves
        with self.pause():
            self._pending = crossings(before, env_steps, self.config.period("eval_every_steps")) > 0
            score = self._evaluate_pending(env_steps, policy)
            if self._rule.reason is not None:
                return True  # `finish` saves, a signal or not
            self.stopped = self.stop_requested
            due = crossings(before, env_steps, self.config.period("checkpoint_every_steps"))
            if self.stopped or due or self._is_best(score):
                self.save(env_steps, members(), score)
        return self.stopped

    def catch_up(self, env_steps: int, policy: Policy) -> bool:
        """After a restore, play the evaluation that a stop cut short; then begin to count time.

        Returns whether to stop, as `moment` does: the evaluation was cut short again, or ended the run.
        """
        self._evaluate_pending(env_steps, policy)
        self.stopped = self._pending  # what was restored is still what is saved
        self.start_clock()
        return self.stopped or self._rule.reason is not None

    def _evaluate_pending(self, env_steps: int, policy: Policy) -> float | None:
        """Evaluate if it is due and return the score; one that a stop cuts short stays pending."""
        if not self._pending:
            return None
        try:
            score = self.evaluate(env_steps, policy)["eval_return_mean"]
        except Interrupted:
            return None
        self._pending = False
        return score

    def _is_best(self, score: float | None) -> bool:
        """Say whether a score beats those of all checkpoints that are kept as the best."""
        if score is None or not self.config.keep_best:
            return False
        best = self._checkpoints.best_score()
        return best is None or score > best

    # Evaluation and checkpoints ------------------------------------------------------------------------

    def evaluate(self, env_steps: int, policy: Policy) -> dict[str, Any]:
        """Play the evaluation episodes, find the exact figures, and append them as a row.

        If they end the run, the row is left to `finish`, which saves before it: so it stands once after a kill.
        """
        figures = self._measure(policy)
        mean_return = figures["eval_return_mean"]
        if mean_return is not None and self._rule.observe(mean_return) is not None:
            self._last_figures = figures
        else:
            self._files.row({"env_steps": env_steps, **figures})
        return figures

    def _measure(self, policy: Policy) -> dict[str, Any]:
        with _untouched_torch():
            return self._played(policy) | self._exact(policy)

    def _played(self, policy: Policy) -> dict[str, Any]:
        if not self.config.eval_episodes:
            return {"eval_returns": [], "eval_return_mean": None, "eval_return_iqm": None}
        envs = self._problem.make(min(self.config.eval_envs, self.config.eval_episodes))
        try:
            played: Evaluation = evaluate(
                policy,
                envs,
                episodes=self.config.eval_episodes,
                seed=self.config.seed,
                gamma=self._described["eval_gamma"],
                max_steps=self.config.eval_max_steps,
                should_stop=lambda: self.stop_requested,
            )
        finally:
            envs.close()
        return {"eval_returns": played.returns.tolist(), **played.figures()}

    def _exact(self, policy: Policy) -> dict[str, Any]:
        from rl_lab.evaluation.exact import FIGURES, exact_figures

        if self._problem.model is None:
            return dict.fromkeys(FIGURES)
        return exact_figures(
            policy,
            self._problem.model,
            self._described["eval_gamma"],
            self._problem.spec.max_episode_steps,
            self.config.eval_envs,
        )

    def save(self, env_steps: int, members: Members, score: float | None = None) -> None:
        """Write a checkpoint of these members and of the run's own state."""
        self._checkpoints.save(env_steps, members | {"run": self._state(env_steps)}, {"score": score})

    def _state(self, env_steps: int) -> dict[str, Any]:
        return {
            "positions": self._files.positions(),
            "train_seconds": self.train_seconds,
            "returns": self._returns,
            "lengths": self._lengths,
            "episodes": self._episodes,
            "at": env_steps,
            "evaluation_pending": self._pending,
            "early_stopping": self._rule.state_dict(),
            "wall_seconds": self._wall_seconds(),
        }

    def _wall_seconds(self) -> float:
        """Return the seconds from start to now, over all sessions of the run."""
        return self._wall_before + time.time() - self._wall_started

    def _restore(self, state: dict[str, Any]) -> None:
        self._files.cut_back(state["positions"])
        self._seconds_before = state["train_seconds"]
        self._returns, self._lengths = list(state["returns"]), list(state["lengths"])
        self._episodes, self._at = state["episodes"], state["at"]
        self._pending, self._wall_before = state["evaluation_pending"], state["wall_seconds"]
        if (rule := state.get("early_stopping")) is not None:  # runs that began without it have none
            self._rule.load_state_dict(rule)

    # The end -------------------------------------------------------------------------------------------

    def finish(
        self,
        env_steps: int,
        policy: Policy,
        members: Members,
        gradient_steps: int,
        results: Mapping[str, Any] | None = None,
    ) -> None:
        """Evaluate and save for the last time, write summary.json with the learner's own results, film the policy."""
        with self.pause():
            seconds = self.train_seconds
            try:
                figures = self._last_figures or self._measure(policy)
            except Interrupted:  # a resumed run comes here again at once
                self.save(env_steps, members)
                self.stopped = True
                return
            # saved before the row is written: after a kill the end is done again, and stands once
            self.save(env_steps, members, figures["eval_return_mean"])
            self._files.row({"env_steps": env_steps, **figures})
            figures = {**(results or {}), **figures}
            self.summary = self._summarise(env_steps, gradient_steps, seconds, figures, members["weights"])
            write_atomically(self.folder / "summary.json", json.dumps(self.summary, indent=1).encode())
            self._draw(policy)
            self._film(policy)  # last: what can't be drawn costs no result
        if self._rule.reason is not None:
            self._progress.note(f"stopped early at {env_steps} steps: {self._rule.reason}")
        if not self._episodes and env_steps:
            self._progress.note(f"no training episode ended within {env_steps} steps")

    def _summarise(
        self, env_steps: int, gradient_steps: int, seconds: float, figures: dict[str, Any], weights: Any
    ) -> dict[str, Any]:
        return {
            **{k: self._described[k] for k in ("agent", "env_id", "seed", "total_steps", "eval_gamma")},
            "env_steps": env_steps,
            "stopped_early": self._rule.reason,
            "gradient_steps": gradient_steps,
            "train_seconds": seconds,
            "env_steps_per_second": env_steps / seconds if seconds > 0 else 0.0,
            "wall_seconds": self._wall_seconds(),
            "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            "episodes": self._episodes,
            **figures,
            "versions": versions(),
            "config_sha256": self._described["config_sha256"],
            "weights_sha256": weights_sha256(weights),
        }

    def _draw(self, policy: Policy) -> None:
        from rl_lab.evaluation.pictures import draw_run

        if self.config.pictures and self._problem.model is not None:
            draw_run(
                self.folder,
                policy,
                self._problem.model,
                self._problem.cells,
                gamma=self._described["eval_gamma"],
                width=self.config.eval_envs,
            )

    def _film(self, policy: Policy) -> None:
        from rl_lab.evaluation.watch import film

        if self.config.video_episodes:
            path = self.folder / "videos" / "final.mp4"
            if (reason := film(path, policy, self._described, self.config.video_episodes)) is not None:
                self._progress.note(f"no video: {reason}")

    def close(self) -> None:
        """Close the files and let the mirror finish."""
        self._files.close()
        self._progress.close()
        self._mirror.close()


@contextmanager
def _untouched_torch() -> Iterator[None]:
    """Keep torch's global generator as it is, without importing torch."""
    import sys

    torch = sys.modules.get("torch")
    if torch is None:
        yield
    else:
        with torch.random.fork_rng(devices=[]):
            yield
