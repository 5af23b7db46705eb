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


def load_policy(run_dir: str | Path, *, best: bool = False) -> Policy:
    """Return the greedy policy that a run ended with, or if it hasn't ended, that of its last checkpoint.

    Its attribute `eval_gamma` is the run's, with which `rl_lab.evaluate` discounts unless it is told otherwise. The
    thread counts of torch and BLAS stay as they are, so the policy acts with those of the caller.

    Args:
        best: take the checkpoint with the best evaluation instead.

    Raises:
        UsageError: there is no run, or nothing was saved yet.
        CheckpointCorrupt: no checkpoint is whole.
        FormatTooNew: a newer version wrote it.
    """
    description = read_description(Path(run_dir))
    learner = make_learner(description.agent, **description.fields)
    weights = read_weights(run_dir, best=best)
    with limited_threads(description.config.threads):
        policy = learner.load(problem_of(description.config, learner, for_acting=True), weights)
    return with_eval_gamma(policy, description.config.eval_gamma)


def with_eval_gamma(policy: Policy, gamma: float | None) -> Policy:
    """Return the policy of a run, which knows from now on with which discount the run is evaluated."""
    if gamma is not None:
        with suppress(AttributeError):  # a third party's policy may take no attributes
            policy.eval_gamma = gamma  # type: ignore[attr-defined]
    return policy


def read_weights(run_dir: str | Path, *, best: bool = False) -> dict[str, Any]:
    """Return the weights that a run ended with, or those of its last (or best) checkpoint; read nothing else of it.

    Raises:
        UsageError: there is no run, or nothing was saved yet.
        CheckpointCorrupt: no checkpoint is whole.
        FormatTooNew: a newer version wrote it.
    """
    folder = Path(run_dir)
    read_description(folder)
    try:
        # No migrations: weights are stored alike in all formats.
        _, members = Checkpoints(folder / CHECKPOINTS).load(only=("weights", "selected"), best=best)
    except CheckpointMissing as error:
        raise UsageError(f"run directory {str(folder)!r} has no checkpoint yet") from error
    return members["weights"] if best else members.get("selected", members["weights"])
