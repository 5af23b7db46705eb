"""Trained policies, back from run directories."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from rl_lab.agent import Policy
from rl_lab.runs.description import read_description
from rl_lab.runs.directory import CHECKPOINTS
from rl_lab.storage.checkpoint import Checkpoints
from rl_lab.storage.errors import CheckpointMissing
from rl_lab.training.devices import limited_threads
from rl_lab.training.registry import make_learner
from rl_lab.training.setup import problem_of
from rl_lab.types import UsageError


def load_policy(run_dir: str | Path, *, best: bool = False, at_step: int | None = None) -> Policy:
    """Return the greedy policy that a run ended with, or if it hasn't ended, that of its last checkpoint.

    Its attribute `eval_gamma` is the run's, with which `rl_lab.evaluate` discounts unless it is told otherwise. The
    thread counts of torch and BLAS stay as they are, so the policy acts with those of the caller.

    Args:
        best: take the checkpoint with the best evaluation instead.
        at_step: take the kept checkpoint at this environment step instead.

    Raises:
        UsageError: there is no run, nothing was saved yet, or there is no checkpoint at this step.
        CheckpointCorrupt: no checkpoint is whole.
        FormatTooNew: a newer version wrote it.
    """
    return _load(run_dir, best, at_step)[0]


def load_newest(run_dir: str | Path) -> tuple[Policy, int]:
    """Return what `load_policy` does without options, and the environment step of the checkpoint that it is from.

    Raises:
        UsageError, CheckpointCorrupt, FormatTooNew: see `load_policy`.
    """
    return _load(run_dir, best=False, at_step=None)


def _load(run_dir: str | Path, best: bool, at_step: int | None) -> tuple[Policy, int]:
    """Return a policy and its checkpoint's environment step; see `load_policy`."""
    description = read_description(Path(run_dir))
    learner = make_learner(description.agent, **description.fields)
    weights, env_steps = _read(run_dir, best, at_step)
    with limited_threads(description.config.threads):
        policy = learner.load(problem_of(description.config, learner, for_acting=True), weights)
    return with_eval_gamma(policy, description.config.eval_gamma), env_steps


def with_eval_gamma(policy: Policy, gamma: float | None) -> Policy:
    """Return the policy of a run, which knows from now on with which discount the run is evaluated."""
    if gamma is not None:
        with suppress(AttributeError):  # a third party's policy may take no attributes
            policy.eval_gamma = gamma  # type: ignore[attr-defined]
    return policy


def kept_steps(run_dir: str | Path) -> list[int]:
    """Return the environment steps of a run's kept checkpoints, in ascending order."""
    return Checkpoints(Path(run_dir) / CHECKPOINTS).steps()


def read_weights(run_dir: str | Path, *, best: bool = False, at_step: int | None = None) -> dict[str, Any]:
    """Return the weights that a run ended with, or those of its last (or best) checkpoint; read nothing else of it.

    Args:
        best: take the checkpoint with the best evaluation.
        at_step: take the checkpoint at this environment step, with the weights that learning had reached there.

    Raises:
        UsageError: there is no run, nothing was saved yet, there is no checkpoint at this step, or `best` is asked
            for too.
        CheckpointCorrupt: no checkpoint is whole.
        FormatTooNew: a newer version wrote it.
    """
    return _read(run_dir, best, at_step)[0]


def _read(run_dir: str | Path, best: bool, at_step: int | None) -> tuple[dict[str, Any], int]:
    """Return weights and their checkpoint's environment step; see `read_weights`."""
    folder = Path(run_dir)
    read_description(folder)
    if best and at_step is not None:
        raise UsageError(f"at_step {at_step} is one checkpoint, best another (allowed: one of them)")
    checkpoints = Checkpoints(folder / CHECKPOINTS)
    try:
        # No migrations: weights are stored alike in all formats.
        env_steps, members = checkpoints.load(only=("weights", "selected"), best=best, at_step=at_step)
    except CheckpointMissing as error:
        raise UsageError(_missing(folder, checkpoints.steps(), at_step)) from error
    as_learned = best or at_step is not None
    weights = members["weights"] if as_learned else members.get("selected", members["weights"])
    return weights, env_steps


def _missing(folder: Path, steps: list[int], at_step: int | None) -> str:
    """Return in a line which checkpoint isn't there."""
    if not steps:
        return f"run directory {str(folder)!r} has no checkpoint yet"
    kept = ", ".join(map(str, steps))
    return f"run directory {str(folder)!r} has no checkpoint at step {at_step} (allowed: {kept})"
