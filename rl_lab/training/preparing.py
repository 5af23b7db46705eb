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
from rl_lab.runs.directory import require_run_folder
from rl_lab.training.learner import Learner
from rl_lab.training.loading import read_weights
from rl_lab.training.readings import differing_reading
from rl_lab.training.setup import configure, problem_of, require_accepted, require_optimum, resolved
from rl_lab.types import UsageError


@dataclass(frozen=True)
class Prepared:
    """A run that nothing is refused of any more."""

    agent: str
    learner: Learner
    config: RunConfig
    problem: Problem
    description: RunDescription


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
    return Prepared(agent, learner, config, problem, description)


def _require_same_reading(learner: Learner, problem: Problem, source: str) -> None:
    """Check that the weights of a warm start come from a run that read images as this one does.

    Raises:
        UsageError: they don't.
    """
    there = read_description(Path(source)).fields
    how = differing_reading(learner.config, problem.spec.observation_space, there)
    if how is not None:
        raise UsageError(f"init_from {source!r} read images with {how} (allowed: the same)")
