"""Opens what belongs to a run (its directory, display and mirror), and closes it after the run or what ended it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shlex import quote
from typing import Self

from rl_lab.agent import Policy
from rl_lab.evaluation.evaluator import RunEvaluator
from rl_lab.problem import Problem
from rl_lab.runs.callbacks import Callbacks
from rl_lab.runs.clock import Clock
from rl_lab.runs.description import RunDescription, write_description
from rl_lab.runs.directory import (
    CHECKPOINTS,
    RunDirectory,
    make_run_folder,
    remove_failed_start,
    require_no_run,
)
from rl_lab.runs.progress import MakeProgress, NullProgress, Progress, make_progress
from rl_lab.runs.run import Members, Run
from rl_lab.runs.tracking import Mirror, NullMirror, start_mirror
from rl_lab.runs.wandb_settings import resolve_mode
from rl_lab.runs.watched import is_watched
from rl_lab.storage.checkpoint import Checkpoints
from rl_lab.storage.errors import NotWritten
from rl_lab.storage.locking import exclusive
from rl_lab.training.learner import Learner
from rl_lab.training.loading import with_eval_gamma
from rl_lab.training.migrations import member_migrations
from rl_lab.training.preparing import Prepared
from rl_lab.training.result import Result
from rl_lab.types import EnvironmentFault


@dataclass
class Opened:
    """A run in its directory, ready to learn."""

    learner: Learner
    description: RunDescription
    problem: Problem
    folder: Path
    run: Run
    shown: Progress
    policy: Policy | None = None
    """The last greedy policy, once something has been learned."""

    def result(self) -> Result:
        """Return what the run leaves behind."""
        run, config = self.run, self.description.config
        policy = run.final_policy or self.policy
        assert policy is not None
        return Result(
            self.folder, with_eval_gamma(policy, config.eval_gamma), run.summary, self.learner.resumes,
            agent=self.description.agent, env_id=config.env_id, stopped_by=run.stopped_by,
            env_steps=run.stopped_at if run.summary is None else run.summary["env_steps"],
        )  # fmt: skip


@contextmanager
def started(
    prepared: Prepared,
    progress: bool | MakeProgress | None,
    callbacks: Callbacks,
    clock: Clock | None = None,
) -> Iterator[Opened]:
    """Open a run in a fresh run directory; arguments and errors are those of `opened_run`."""
    learner, problem, description = prepared.learner, prepared.problem, prepared.description
    folder = make_run_folder(prepared.config, prepared.agent)
    with exclusive(folder):
        require_no_run(folder)
        write_description(folder, description)
        try:
            with (
                telling_how_to_resume(learner, folder),
                opened_run(learner, description, problem, folder, progress, callbacks, clock=clock) as opened,
            ):
                for line in prepared.warnings:
                    opened.shown.note(line)
                yield opened
        except Exception:
            remove_failed_start(folder)
            if prepared.config.run_dir is None:  # a folder of our own naming
                with suppress(OSError):  # it holds something
                    folder.rmdir()
            raise


@contextmanager
def opened_run(
    learner: Learner,
    description: RunDescription,
    problem: Problem,
    folder: Path,
    progress: bool | MakeProgress | None,
    callbacks: Callbacks,
    *,
    resuming: bool = False,
    clock: Clock | None = None,
) -> Iterator[Opened]:
    """Open a run in a directory that this process has locked.

    Args:
        progress: as for `launch.learn`.
        clock: of the run; by default one that takes all of this process's time for the run's.

    Raises:
        CallbackFailed: a callback raised an exception, which ended the run.
    """
    config = description.config
    callbacks.run_dir = folder
    with (
        _Showing(progress) as showing,
        _Mirroring(showing) as mirroring,  # around the run's files: its end may take a minute
        closing(RunDirectory(folder, config.keep_checkpoints, config.keep_best)) as directory,
    ):
        restored = _restored(directory, problem) if resuming else None
        shown = showing.start(config.total_steps, restored["run"]["at"] if restored else 0)
        for line in problem.warnings:
            shown.note(line)
        evaluator = RunEvaluator(config, problem, folder)
        run = Run(
            description, directory, evaluator, restored=restored, progress=shown, callbacks=callbacks,
            load=partial(learner.load, problem), frames_per_step=problem.spec.frames_per_step, clock=clock,
        )  # fmt: skip
        mirroring.start(folder, description)  # now that the rows are cut back
        yield Opened(learner, description, problem, folder, run, shown)
        mirroring.ending = "stopped" if run.summary is None else "finished"
    if callbacks.error is not None:
        raise callbacks.error


def _restored(directory: RunDirectory, problem: Problem) -> Members | None:
    """Return the members of the last checkpoint, in the current format; None if there is none yet."""
    return directory.load(member_migrations(problem.spec))


@contextmanager
def telling_how_to_resume(learner: Learner, folder: Path) -> Iterator[None]:
    """Add to what ends a run from outside, its environment or the file system, how the run goes on, if it can."""
    try:
        yield
    except (EnvironmentFault, NotWritten) as error:
        if learner.resumes and (env_steps := Checkpoints(folder / CHECKPOINTS).last_step()) is not None:
            command = f"rl-lab train --resume --run-dir={quote(str(folder))}"
            error.add_note(
                f"it was saved at {env_steps} environment steps; continue from there with: {command}"
            )
        raise


class _Showing:
    """Holds the display that was asked for once it is started, and closes it at the end of a `with` block."""

    def __init__(self, progress: bool | MakeProgress | None):
        self.display: Progress = NullProgress()
        self._wanted = is_watched() if progress is None else progress

    def start(self, total_steps: int, at: int) -> Progress:
        """Return the display."""
        if self._wanted:
            make = make_progress if self._wanted is True else self._wanted
            self.display = make(total_steps, at)
        return self.display

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.display.close()


class _Mirroring:
    """Mirrors a run once it is started, and tells the mirror at the end of a `with` block how the run ended."""

    def __init__(self, showing: _Showing) -> None:
        self.ending = "failed"
        self._showing = showing
        self._mirror: Mirror | NullMirror = NullMirror()

    def start(self, folder: Path, description: RunDescription) -> None:
        """Start mirroring, as W&B's settings say now, on resume too."""
        self._mirror = start_mirror(folder, resolve_mode(description.requested_wandb).mode)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self.ending = "stopped"
        self._mirror.close(self.ending, doing=self._showing.display.doing)
        self._showing.display.doing("")
