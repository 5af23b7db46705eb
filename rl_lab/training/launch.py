"""Trains an agent by name in a run directory, and goes on with runs that were stopped or killed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

from rl_lab.checks import count, shown
from rl_lab.problem import Problem
from rl_lab.runs.callbacks import Callback, Callbacks
from rl_lab.runs.description import (
    RunDescription,
    read_description,
    upgrade_description,
)
from rl_lab.runs.directory import (
    CHECKPOINTS,
    read_summary,
)
from rl_lab.runs.progress import MakeProgress
from rl_lab.runs.signals import stop_on_signals
from rl_lab.runs.watchdog import watch_over
from rl_lab.storage.checkpoint import Checkpoints
from rl_lab.storage.locking import exclusive
from rl_lab.storage.places import require_folder
from rl_lab.storage.state_trees import weights_sha256
from rl_lab.training.devices import limited_threads
from rl_lab.training.extension import extended, write_extension
from rl_lab.training.loading import load_policy, read_weights
from rl_lab.training.preparing import Prepared, prepare, prepare_seeds, require_together
from rl_lab.training.registry import make_learner, preset_fields
from rl_lab.training.result import Result
from rl_lab.training.running import Opened, opened_run, started, telling_how_to_resume
from rl_lab.training.setup import problem_of, require_accepted, require_effect
from rl_lab.training.simulated_together import simulate_together
from rl_lab.training.simulation import Simulated
from rl_lab.training.together import train_together
from rl_lab.types import UsageError


class CannotResume(UsageError):
    """A stopped run of this kind can't go on exactly; it has to start again from zero."""


@overload
def learn(
    agent: str,
    env_id: str | None = None,
    *,
    num_seeds: None = None,
    preset: str | None = None,
    base: Mapping[str, Any] | None = None,
    progress: bool | MakeProgress | None = None,
    signals: bool = False,
    callbacks: Sequence[Callback] = (),
    **fields: Any,
) -> Result: ...


@overload
def learn(
    agent: str,
    env_id: str | None = None,
    *,
    num_seeds: int,
    preset: str | None = None,
    base: Mapping[str, Any] | None = None,
    progress: bool | MakeProgress | None = None,
    signals: bool = False,
    callbacks: Sequence[Callback] = (),
    **fields: Any,
) -> list[Result]: ...


def learn(
    agent: str,
    env_id: str | None = None,
    *,
    num_seeds: int | None = None,
    preset: str | None = None,
    base: Mapping[str, Any] | None = None,
    progress: bool | MakeProgress | None = None,
    signals: bool = False,
    callbacks: Sequence[Callback] = (),
    **fields: Any,
) -> Result | list[Result]:
    """Train an agent by name in a fresh run directory, or with several seeds in one each.

    The thread counts of torch and BLAS are those of the field `threads` while it runs; afterwards they are as before.

    Args:
        num_seeds: of runs that learn together: seed, seed + 1, ..., each in a folder seed-<seed> within run_dir, and
            each as it would be alone. Tabular agents are simulated, on all cores: their field `simulated` is set. dqn,
            ppo and a2c learn as one program, which equals single runs within rounding.
        preset: named fields of the agent; those in `base` and `fields` take precedence.
        base: fields beneath `fields`, as a file or a study holds them; what does nothing is told instead of refused.
        progress: show a bar, or plain lines without a terminal or notebook; or what makes another display; None:
            only in a terminal or notebook. Without it, lines that aren't rows become Python's warnings.
        signals: on SIGINT and SIGTERM save at a step boundary and return without a summary.
        callbacks: hear of rows, evaluations and checkpoints, and may stop the run; see `rl_lab.runs.callbacks`.
        fields: those of RunConfig and of the agent's own Config.

    Returns:
        The result; with `num_seeds` a list of them, in which simulated runs end with one that was stopped, and of the
        others all that were stopped are without a summary.

    Raises:
        UsageError: a wrong name or value, or a run directory that holds another run or can't be written into.
        NotWritten: the file system refused; what was saved before is whole.
        CallbackFailed: a callback raised an exception; the run was saved and can be resumed.
    """
    if not isinstance(base, Mapping | None) or not all(isinstance(name, str) for name in base or ()):
        raise UsageError(f"base must hold fields by name, got {shown(base)}")
    beneath = (preset_fields(agent, preset) if preset else {}) | dict(base or {})
    given = beneath | fields | ({"env_id": env_id} if env_id else {})
    require_effect(agent, fields, beneath)
    if num_seeds is not None:
        runs, like = prepare_seeds(agent, given, count("num_seeds", num_seeds))
        return learn_together(agent, runs, progress=progress, signals=signals, callbacks=callbacks, like=like)
    prepared = prepare(agent, given)
    require_effect(agent, fields, beneath, prepared.learner.config)  # with what was left to "auto"
    return _carry_out(prepared, progress, signals, Callbacks(callbacks))


def learn_together(
    agent: str,
    runs: Sequence[Mapping[str, Any]],
    *,
    progress: bool | MakeProgress | Sequence[bool | MakeProgress | None] | None = None,
    signals: bool = False,
    callbacks: Sequence[Callback] = (),
    failed: Callable[[Mapping[str, Any], Exception], None] | None = None,
    like: Problem | None = None,
) -> list[Result]:
    """Train an agent in several runs that are simulated together or learn as one program, each as it would be alone.

    Args:
        runs: the fields of each run; they differ in seed and run_dir alone.
        progress: as for `learn`, for all runs or for each one.
        failed: takes the fields of a run and the exception that ended it, and the others go on; None: it is raised.
        like: the problem of one of the runs, where it is known.

    Returns:
        The results, in order; simulated ones end with a run that was stopped. Other arguments and errors are those of
        `learn`.
    """
    if not runs:
        return []
    first = prepare(agent, runs[0], like)
    require_together(agent, first.learner, first.problem, len(runs))
    others = (prepare(agent, fields, first.problem) for fields in runs[1:])
    prepared = [
        first,
        *(dataclasses.replace(other, warnings=()) for other in others),
    ]  # they would say the same
    shown = list(progress) if isinstance(progress, Sequence) else [progress] * len(runs)

    def fail(number: int, error: Exception) -> None:
        if failed is None:
            raise error
        failed(runs[number], error)

    if not isinstance(first.learner, Simulated):
        heard = [Callbacks(callbacks) for _ in runs]
        return train_together(prepared, shown, heard, signals=signals, failed=fail)
    results: list[Result] = []
    parts = simulate_together(first.learner, first.problem, [one.config for one in prepared])
    for number, (one, show, ahead) in enumerate(zip(prepared, shown, parts, strict=True)):
        assert isinstance(one.learner, Simulated)
        learner = one.learner if ahead is None else one.learner.from_ahead(ahead)
        try:
            results.append(
                _carry_out(dataclasses.replace(one, learner=learner), show, signals, Callbacks(callbacks))
            )
        except Exception as error:
            fail(number, error)
            continue
        if results[-1].summary is None:
            break
    return results


def _carry_out(
    prepared: Prepared, progress: bool | MakeProgress | None, signals: bool, callbacks: Callbacks
) -> Result:
    """Learn in a fresh run directory; errors are those of `learn`."""
    with limited_threads(prepared.config.threads), started(prepared, progress, callbacks) as opened:
        _learn(opened, signals)
    return opened.result()


def _learn(opened: Opened, signals: bool) -> None:
    """Let the learner of a run learn in the run directory that this process has locked."""
    run, learner, stall_seconds = opened.run, opened.learner, opened.description.config.stall_seconds
    with stop_on_signals(run, enabled=signals), watch_over(run, opened.shown.note, stall_seconds):
        opened.policy = learner.learn(opened.problem, run)


def resume(
    run_dir: str | Path,
    *,
    total_steps: int | None = None,
    progress: bool | MakeProgress | None = None,
    signals: bool = False,
    callbacks: Sequence[Callback] = (),
) -> Result:
    """Go on with a run that was stopped or killed, from its last whole checkpoint; a finished one is left as it is.

    A run of an older format is one of the current format from then on. The arguments are those of `learn`; callbacks
    aren't part of a run, so they are given again.

    Args:
        total_steps: a larger budget, for a finished run too. It then goes on as if it had had this budget from the
            beginning, except that the periods that were shares of the budget and what "auto" was resolved to stay as
            they were.

    Raises:
        CannotResume: the learner's runs can't go on exactly.
        UsageError: no run there, nothing can be written there, a learner that can't run here, or a budget with which
            the run would have learned something else from the beginning.
        FormatTooNew: a newer version wrote it.
        CallbackFailed: a callback raised an exception; the run was saved and can be resumed.
    """
    budget = None if total_steps is None else count("total_steps", total_steps)
    folder, heard = require_folder(run_dir, "run_dir"), Callbacks(callbacks)
    description = read_description(folder)
    learner = make_learner(description.agent, **description.fields)
    if not learner.resumes:
        raise CannotResume(f"agent {description.agent!r} can't resume exactly: start a new run from zero")
    longer = None if budget is None else extended(description, learner, folder, budget)
    if longer is None and (summary := read_summary(folder)) is not None:
        return Result(
            folder, load_policy(folder), summary, True, agent=description.agent, env_id=description.config.env_id,
            env_steps=summary["env_steps"], finished_before=True,
        )  # fmt: skip
    with exclusive(folder):
        description = longer or description
        problem = _with_initial_weights(problem_of(description.config, learner), description, folder)
        _require_same_dataset(problem, description)
        require_accepted(learner, problem, resuming=True)
        upgrade_description(folder)
        if longer is not None:
            write_extension(folder, longer)
        with (
            telling_how_to_resume(learner, folder),
            limited_threads(description.config.threads),
            opened_run(learner, description, problem, folder, progress, heard, resuming=True) as opened,
        ):
            _learn(opened, signals)
        return opened.result()


def _with_initial_weights(problem: Problem, description: RunDescription, folder: Path) -> Problem:
    """Read the weights of a warm start again if the run was killed before its first checkpoint.

    Raises:
        UsageError: they are gone, or not those that the run began with.
    """
    source = description.config.init_from
    if source is None or Checkpoints(folder / CHECKPOINTS).manifests():
        return problem
    weights = read_weights(source)
    if weights_sha256(weights) != description.init_from_weights_sha256:
        raise UsageError(f"init_from {source!r} has other weights than the run began with")
    return dataclasses.replace(problem, initial_weights=weights)


def _require_same_dataset(problem: Problem, description: RunDescription) -> None:
    """Check that the recorded transitions are those that the run began with.

    Raises:
        UsageError: they aren't.
    """
    began_with = str(description.dataset_sha256)
    if problem.dataset is not None and problem.dataset.sha256 != began_with:
        raise UsageError(
            f"dataset {str(problem.dataset.path)!r} has SHA-256 {problem.dataset.sha256[:12]}...,"
            f" the run began with {began_with[:12]}... (allowed: the same)"
        )
