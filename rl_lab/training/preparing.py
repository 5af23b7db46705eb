"""Checks everything about a run that can be refused before there is a folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rl_lab.problem import Problem
from rl_lab.runs.config import RunConfig
from rl_lab.runs.description import RunDescription, describe, read_description
from rl_lab.runs.directory import make_run_folder, require_run_folder
from rl_lab.runs.open_files import refuse_open_files
from rl_lab.training.interaction import Interaction
from rl_lab.training.learner import Learner
from rl_lab.training.loading import read_weights
from rl_lab.training.readings import differing_meaning, differing_reading
from rl_lab.training.registry import config_of
from rl_lab.training.setup import (
    configs_of,
    configure,
    problem_of,
    require_accepted,
    require_optimum,
    resolved,
    warnings_before,
)
from rl_lab.training.simulation import Simulated
from rl_lab.types import UsageError

LEARN_TOGETHER = "agents that can be simulated, such as q-learning, and dqn, ppo, a2c"


@dataclass(frozen=True)
class Prepared:
    """A run that nothing is refused of any more."""

    agent: str
    learner: Learner
    config: RunConfig
    problem: Problem
    description: RunDescription
    warnings: tuple[str, ...] = ()
    """What a person should know of the fields, a line each."""


def prepare(agent: str, given: Mapping[str, Any], like: Problem | None = None) -> Prepared:
    """Check everything that can be refused before there is a folder.

    Args:
        like: the problem of a run with another seed and the same fields otherwise.

    Raises:
        UsageError: a wrong name or value.
    """
    learner, config = configure(agent, given)
    require_run_folder(config)
    problem = problem_of(config, learner) if like is None else like.with_seed(config.seed)
    if config.init_from is not None:
        problem = dataclasses.replace(problem, initial_weights=read_weights(config.init_from))
    require_accepted(learner, problem)
    if config.init_from is not None:
        _require_same_reading(learner, problem, config.init_from)
    learner = resolved(agent, learner, problem)
    problem.check()  # before there is a folder
    require_optimum(config, problem)
    description = describe(agent, learner.config, config, problem)  # W&B's settings may be refused
    told = tuple(warnings_before(learner, config, problem))
    return Prepared(agent, learner, config, problem, description, told)


def prepare_seeds(
    agent: str, given: Mapping[str, Any], num_seeds: int
) -> tuple[list[dict[str, Any]], Problem]:
    """Check a run, and make the folder for several that differ from it in the seed and learn together.

    Returns:
        The fields of each run, and the problem of the first.

    Raises:
        UsageError: a wrong name or value, and there is no folder; or none can be made.
    """
    can_be_simulated = "simulated" in {f.name for f in dataclasses.fields(config_of(agent))}
    fields = {**given, "simulated": True} if can_be_simulated else dict(given)
    _, config = configs_of(agent, fields)
    inner = {} if config.run_dir is None else {"run_dir": str(Path(config.run_dir, f"seed-{config.seed}"))}
    prepared = prepare(agent, fields | inner)
    problem = prepared.problem
    require_together(agent, prepared.learner, problem, num_seeds)
    folder = make_run_folder(config, f"{agent}-{num_seeds}seeds")
    seeds = range(config.seed, config.seed + num_seeds)
    return [fields | {"seed": seed, "run_dir": str(folder / f"seed-{seed}")} for seed in seeds], problem


def require_together(agent: str, learner: Learner, problem: Problem, num_seeds: int) -> None:
    """Check that several runs of a learner can learn together.

    Raises:
        UsageError: they can't.
    """
    if (reason := why_not_together(learner, problem, num_seeds)) is not None:
        allowed = "" if "(allowed" in reason else f" (allowed: {LEARN_TOGETHER})"
        raise UsageError(f"num_seeds {num_seeds} can't be given to agent {agent!r}: {reason}{allowed}")


def why_not_together(learner: Learner, problem: Problem, num_seeds: int = 2) -> str | None:
    """Return why so many runs of a learner can't learn together (one line), or None if they can."""
    if isinstance(learner, Simulated):
        return None
    if not isinstance(learner, Interaction):
        return "it doesn't act in environments"
    return learner.refuse_together(problem, num_seeds) or refuse_open_files(num_seeds)


def _require_same_reading(learner: Learner, problem: Problem, source: str) -> None:
    """Check that the weights of a warm start come from a run that read images as this one does, and meant the same.

    Raises:
        UsageError: they don't.
    """
    there = read_description(Path(source)).fields
    how = differing_reading(learner.config, problem.spec.observation_space, there)
    if how is not None:
        raise UsageError(f"init_from {source!r} read images with {how} (allowed: the same)")
    if (how := differing_meaning(learner.config, there)) is not None:
        raise UsageError(f"init_from {source!r} learned with {how} (allowed: the same)")
