"""What all agents of a study share, so that it compares them and nothing else: checked before anything runs.

Environment, wrappers and evaluation have to be the same. Budgets may differ, as those of presets do, and are told; so
are beginnings, ends and processors that differ, and agents that ignore action masks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, NamedTuple

from rl_lab.checks import shown
from rl_lab.problem import Problem
from rl_lab.runs.config import RunConfig
from rl_lab.studies.running import learner_of
from rl_lab.training.learner import Learner, ignores_masks
from rl_lab.training.loading import read_weights
from rl_lab.training.setup import (
    configure,
    problem_of,
    require_accepted,
    require_optimum,
    resolved,
    warnings_before,
)
from rl_lab.types import UsageError

# Fields of the run by which its environment, its evaluation, or the choice of its final policy would differ. That of
# eval_gamma is checked apart.
SHARED = (
    "env_kwargs", "wrappers", "preprocess", "eval_episodes", "eval_cvar_level", "eval_max_steps",
    "eval_total_steps", "final_policy", "selection_episodes",
)  # fmt: skip
# Fields of the run in which agents may differ, but not unnoticed: where training begins, when it ends, what it has.
TOLD = ("init_from", "dataset", "stop_at_return", "stop_after_evals", "threads", "device")


def shared_terms(
    env_id: str,
    fields: Mapping[str, Mapping[str, Any]],
    tell: Callable[[str], None],
    *,
    begun: Container[str] = (),
) -> dict[str, Any]:
    """Check that agents take an environment, on the same terms; return fields that make their evaluations alike.

    Args:
        fields: of each agent's runs on this environment.
        tell: called with lines about the environment and about what differs between agents.
        begun: agents all of whose runs here have begun, so that what only a new run needs isn't asked for.

    Raises:
        UsageError: a value is wrong, an agent can't learn the environment, or a field differs that may not.
    """
    checked = {
        agent: _accepted(agent, {**given, "env_id": env_id}, agent not in begun)
        for agent, given in fields.items()
    }
    configs = {agent: found.config for agent, found in checked.items()}
    for line in dict.fromkeys(line for found in checked.values() for line in found.warnings):
        tell(line)
    require_same_terms(env_id, configs)
    tell_budgets(env_id, configs, tell)
    tell_differences(env_id, configs, tell)
    tell_choices(env_id, configs, tell)
    masked = [agent for agent, found in checked.items() if ignores_masks(found.learner, found.problem)]
    tell_without_masks(env_id, masked, tell)
    limit = shared_limit(configs, lambda: next(iter(checked.values())).problem.spec.max_episode_steps)
    return {} if limit is None else {"eval_total_steps": limit}


class _Accepted(NamedTuple):
    """An agent's runs on an environment, and what a person should know of them."""

    learner: Learner
    config: RunConfig
    problem: Problem
    warnings: list[str]


def _accepted(agent: str, fields: dict[str, Any], begins: bool) -> _Accepted:
    learner, config = configure(learner_of(agent), fields)
    require_accepted(learner, problem := problem_of(config, learner))
    require_optimum(config, problem)
    if begins:  # each run is refused the same: here it is before any has begun
        learner = resolved(learner_of(agent), learner, problem)
        if config.init_from is not None:
            read_weights(config.init_from)
    own = [line.replace(": ", f": {agent}: ", 1) for line in warnings_before(learner, config, problem)]
    return _Accepted(learner, config, problem, problem.warnings + own)


def require_same_terms(env_id: str, configs: Mapping[str, RunConfig]) -> None:
    """Check that all agents play the same environment and are evaluated alike.

    Args:
        configs: the run's config of each agent on this environment.

    Raises:
        UsageError: a field differs; the message names it, the agents and their values.
    """
    for name in SHARED:
        values = {agent: getattr(config, name) for agent, config in configs.items()}
        if any(value != next(iter(values.values())) for value in values.values()):
            listed = ", ".join(f"{agent} {shown(value)}" for agent, value in values.items())
            raise UsageError(
                f"{env_id}: {name} differs between agents: {listed} (allowed: the same, such as {name}=... for all)"
            )


def shared_limit(configs: Mapping[str, RunConfig], time_limit: Callable[[], int | None]) -> int | None:
    """Return the `eval_total_steps` that all runs on an environment get; None if evaluations end alike without it.

    Where an environment has no time limit, an evaluation is cut off by default after the steps between evaluations, if
    these are more than it is allowed otherwise. That would differ where budgets do; then the largest serves for all.

    Args:
        time_limit: returns the environment's own, in steps of an episode; None without one.
    """
    periods = {config.period("eval_every_steps") for config in configs.values()}
    if len(periods) == 1 or time_limit() is not None:
        return None
    limits = {config.eval_steps(None) for config in configs.values()}
    return max(limits) if len(limits) > 1 else None


def tell_budgets(env_id: str, configs: Mapping[str, RunConfig], tell: Callable[[str], None]) -> None:
    """Tell a line if the agents' budgets differ."""
    by_budget: dict[int, list[str]] = {}
    for agent, config in configs.items():
        by_budget.setdefault(config.total_steps, []).append(agent)
    if len(by_budget) > 1:
        parts = [f"{in_words(agents)} {budget:,} steps" for budget, agents in sorted(by_budget.items())]
        tell(f"{env_id}: budgets differ: {', '.join(parts)}")


def tell_differences(env_id: str, configs: Mapping[str, RunConfig], tell: Callable[[str], None]) -> None:
    """Tell a line for each field in `TOLD` that differs between agents."""
    for name in TOLD:
        values = {agent: shown(getattr(config, name)) for agent, config in configs.items()}
        if len(set(values.values())) > 1:
            tell(
                f"{env_id}: {name} differs: {', '.join(f'{agent} {value}' for agent, value in values.items())}"
            )


def tell_choices(env_id: str, configs: Mapping[str, RunConfig], tell: Callable[[str], None]) -> None:
    """Tell a line if the best policy is chosen among more evaluations of some agents than of others."""
    counts = {
        agent: math.ceil(config.total_steps / config.period("eval_every_steps"))
        for agent, config in configs.items()
        if config.final_policy == "best"
    }
    if len(set(counts.values())) > 1:
        parts = [f"{count:,} of {agent}" for agent, count in counts.items()]
        tell(
            f"{env_id}: the best policy is chosen among different numbers of evaluations: {', '.join(parts)}"
        )


def tell_without_masks(env_id: str, agents: Sequence[str], tell: Callable[[str], None]) -> None:
    """Tell a line if agents ignore the environment's action masks."""
    if agents:
        verb = "ignores" if len(agents) == 1 else "ignore"
        tell(f"{env_id}: {in_words(agents)} {verb} action masks and may act illegally")


def in_words(words: Sequence[Any]) -> str:
    """Return words as a list in a sentence."""
    *first, last = map(str, words)
    return f"{', '.join(first)} and {last}" if first else last
