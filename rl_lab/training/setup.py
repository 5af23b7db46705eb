"""From names and fields to a learner, a config and a problem."""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Mapping
from functools import partial
from typing import Any

from rl_lab.checks import shown, without_allowed
from rl_lab.datasets.dataset import Dataset
from rl_lab.environments.make import Layers, make_envs, other_episodes
from rl_lab.environments.vectors import VectorEnv
from rl_lab.mdp.rows import NeverEnds, NotConverged
from rl_lab.problem import Problem
from rl_lab.runs.config import RunConfig, split_fields
from rl_lab.runs.description import eval_gamma_of
from rl_lab.runs.scrubbing import supplied
from rl_lab.training.devices import resolve_device
from rl_lab.training.learner import Learner
from rl_lab.training.registry import config_of, make_config, make_learner
from rl_lab.types import UsageError


def configure(agent: str, fields: Mapping[str, Any]) -> tuple[Learner, RunConfig]:
    """Build a learner and a run's config from fields of both.

    Raises:
        UsageError: an unknown agent or field, a missing env_id, or a value that isn't allowed.
    """
    of_run, of_agent = _split(agent, fields)
    learner, config = make_learner(agent, **of_agent), RunConfig(**of_run)
    _require_served(agent, learner, config)
    return learner, config


def configs_of(agent: str, fields: Mapping[str, Any]) -> tuple[Any, RunConfig]:
    """Return the agent's config and the run's from fields of both, without building a learner.

    Raises:
        UsageError: an unknown agent or field, a missing env_id, or a value that isn't allowed.
    """
    of_run, of_agent = _split(agent, fields)
    return make_config(agent, **of_agent), RunConfig(**of_run)


def _split(agent: str, fields: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split fields into those of the run and those of the agent.

    Raises:
        UsageError: an unknown agent or field, or a missing env_id.
    """
    of_run, of_agent = split_fields(fields, config_of(agent))
    if "env_id" not in of_run:
        raise UsageError("env_id is missing (allowed: a Gymnasium id, namespace/id or module:id)")
    return of_run, of_agent


def require_effect(
    agent: str, fields: Mapping[str, Any], base: Mapping[str, Any] | None = None, config: Any = None
) -> None:
    """Check that each given field of the agent does something beside the others, or has its default.

    Args:
        base: fields beneath these, which nobody has given for this run alone; values taken from them pass.
        config: the config that the agent has with all of them, once what it leaves to "auto" is decided.

    Raises:
        UsageError: an unknown agent or field, a value that isn't allowed, or one that does nothing.
    """
    base = {} if base is None else base
    if config is None:
        config = make_config(agent, **split_fields({**base, **fields}, config_of(agent))[1])
    given = [name for name in fields if name not in base or fields[name] != base[name]]
    for line in _idle_lines(config, given):
        raise UsageError(line)


def _idle_lines(config: Any, names: Container[str] | None = None) -> list[str]:
    """Return a line for each field of an agent (of these, if given) that does nothing and hasn't its default."""
    idle: Mapping[str, str] = getattr(config, "idle_fields", dict)()
    return [
        f"{field.name} {shown(value)} does nothing without {idle[field.name]} (allowed: {field.default})"
        for field in dataclasses.fields(config)
        if field.name in idle and (names is None or field.name in names)
        if (value := getattr(config, field.name)) != field.default
    ]


def _require_served(agent: str, learner: Learner, config: RunConfig) -> None:
    """Check that this kind of learner can do what the run asks for.

    Raises:
        UsageError: it can't.
    """
    if config.dataset is not None and not getattr(learner, "takes_datasets", False):
        raise UsageError(
            f"agent {agent!r} can't learn from dataset {config.dataset!r}"
            " (allowed: agents that learn off-policy from steps, as dqn and q-learning do)"
        )
    if (name := config.asks_to_stop()) is not None and not getattr(learner, "stops_early", False):
        raise UsageError(
            f"agent {agent!r} isn't evaluated while it learns, so that {name} {getattr(config, name)} can't stop it"
            " (allowed: agents that learn from steps)"
        )
    if config.video_every_steps is not None and not getattr(learner, "stops_early", False):
        raise UsageError(
            f"agent {agent!r} takes no steps while it learns, so that video_every_steps {config.video_every_steps}"
            " films nothing (allowed: agents that learn from steps)"
        )
    if config.vector == "own" and config.dataset is not None:
        raise UsageError(
            f"vector own steps nothing where dataset {config.dataset!r} is learned from (allowed: sync, async)"
        )
    if config.vector == "own" and not getattr(learner, "steps_vectors", False):
        raise UsageError(
            f"agent {agent!r} doesn't step the lab's vectors, so that it can't learn in vector own"
            " (allowed: sync, async)"
        )
    if config.horizon_steps is not None and not hasattr(learner.config, "budget_fields"):
        raise UsageError(
            f"agent {agent!r} can't spread its schedules over horizon_steps {config.horizon_steps}"
            " (allowed: agents that say which of their fields depend on the budget)"
        )


def problem_of(config: RunConfig, learner: Learner, *, for_acting: bool = False) -> Problem:
    """Return the problem that a config describes, with the device resolved.

    Args:
        learner: has imported torch by now if it uses it, which decides what device "auto" is.
        for_acting: take any device that is there, and open no dataset.

    Raises:
        UsageError: the device isn't there, or there is no such dataset.
    """

    def make(n: int, *, vector: str = "sync" if config.vector == "own" else config.vector) -> VectorEnv:
        return make_envs(
            config.env_id,
            n,
            **config.env_arguments,
            life_loss_terminates=config.life_loss_terminates,
            vector="sync" if n == 1 else vector,
            env_timeout_seconds=config.env_timeout_seconds,
        )

    return Problem(
        env_id=config.env_id,
        env_kwargs=supplied(config.env_kwargs),
        num_envs=config.num_envs,
        total_steps=config.total_steps,
        horizon_steps=config.horizon_steps,
        seed=config.seed,
        device=resolve_device("auto" if for_acting else config.device),
        make=make,
        make_own=partial(make, vector="own") if config.vector == "own" else None,
        dataset=None if config.dataset is None or for_acting else Dataset(config.dataset),
        other_episodes=other_episodes_of(config),
        trial_seconds=config.env_timeout_seconds if config.vector == "async" else None,
    )


def other_episodes_of(config: RunConfig) -> str | None:
    """Return in a line why a run's environments play other episodes than single ones do; None: they are the same.

    Raises:
        UsageError: a vectorised form was asked for, and there is none that fits.
    """
    layers = Layers(config.wrappers, config.preprocess, config.life_loss_terminates)
    return other_episodes(config.env_id, config.num_envs, config.env_kwargs, layers, config.vector)


def _nothing() -> None:
    return None


def require_accepted(learner: Learner, problem: Problem, *, resuming: bool = False) -> None:
    """Check that a learner takes a problem, and that its dataset fits its environment.

    Args:
        resuming: the fields are those of a run that has begun, which may hold what new ones can't.

    Raises:
        UsageError: with the reason.
    """
    if not resuming and (reason := getattr(learner.config, "refuse_new", _nothing)()) is not None:
        raise UsageError(reason)
    if (reason := learner.refuse(problem)) is not None:
        raise UsageError(reason)
    if problem.dataset is not None and (reason := problem.dataset.refuse(problem.spec)) is not None:
        raise UsageError(reason)


def require_optimum(config: RunConfig, problem: Problem) -> None:
    """Check that an undiscounted optimum, if it was asked for with `eval_gamma`, is finite where the model is known.

    Raises:
        UsageError: it isn't; the line names a state.
    """
    if config.eval_gamma != 1.0 or problem.model is None:
        return
    from rl_lab.evaluation.exact import optimum

    try:
        optimum(problem.model, 1.0)
    except NeverEnds as error:
        raise UsageError(
            f"eval_gamma 1.0 gives {problem.env_id} no optimum to compare with: {error}"
        ) from error
    except NotConverged:  # there may be one: `warnings_before` tells
        pass


def warnings_before(learner: Learner, config: RunConfig, problem: Problem) -> list[str]:
    """Return what a person should know of a run's fields before it begins, a line each."""
    lines = map(without_allowed, _idle_lines(learner.config))
    without = _without_optimum(config, problem, eval_gamma_of(config, learner.config))
    return [
        f"warning: {line}"
        for line in (
            *lines,
            without,
            _without_learning(learner, problem),
            _shortened_returns(learner, problem),
        )
        if line is not None
    ]


def _without_learning(learner: Learner, problem: Problem) -> str | None:
    """Return why a run ends before it learns (one line); None if it doesn't, or its config doesn't tell.

    A budget that is rounded up, to a whole number of updates, may hold the first of them.
    """
    starts = getattr(learner.config, "learning_starts_env_steps", None)
    total = problem.total_steps
    if starts is None or starts <= total:
        return None
    return f"little or nothing will be learned: learning_starts_env_steps {starts} lies beyond total_steps {total}"


def _shortened_returns(learner: Learner, problem: Problem) -> str | None:
    """Return how long the returns of a replay are instead of n_steps (one line); None if it holds that many."""
    steps, capacity = (getattr(learner.config, name, None) for name in ("n_steps", "replay_capacity"))
    if steps is None or capacity is None or (held := max(1, capacity // problem.num_envs)) >= steps:
        return None
    return (
        f"returns are cut at {held} steps: of replay_capacity {capacity} that is the share of each of"
        f" {problem.num_envs} environments, and n_steps is {steps}"
    )


def _without_optimum(config: RunConfig, problem: Problem, gamma: float) -> str | None:
    """Return why an undiscounted run has no optimum to be compared with (one line); None if it has one."""
    if gamma != 1.0 or problem.model is None:
        return None
    from rl_lab.evaluation.exact import optimum

    try:
        optimum(problem.model, gamma)
    except (NeverEnds, NotConverged) as error:
        name = "gamma" if config.eval_gamma is None else "eval_gamma"
        return f"{name} 1.0 gives {problem.env_id} no optimum to compare with (regret stays empty): {error}"
    return None


def resolved(agent: str, learner: Learner, problem: Problem) -> Learner:
    """Return the learner with what its config leaves to "auto" decided, so that a resumed run finds it decided.

    A learner that can't do this itself is built again if its config has a method `resolve(problem)`.
    """
    if (own := getattr(learner, "resolved", None)) is not None:
        return own(problem)
    resolve = getattr(learner.config, "resolve", None)
    if resolve is None:
        return learner
    return make_learner(agent, **dataclasses.asdict(resolve(problem)))
