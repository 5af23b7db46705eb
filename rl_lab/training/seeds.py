"""Simulates an agent by name with many seeds, in memory: curves of regret rather than run directories."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from rl_lab.checks import count, shown
from rl_lab.mdp.simulate import Simulated, evaluated
from rl_lab.runs.config import RunConfig
from rl_lab.runs.progress import tell_watcher
from rl_lab.training import simulation
from rl_lab.training.registry import config_of
from rl_lab.training.setup import configure, problem_of, require_accepted, require_effect
from rl_lab.training.simulated_session import to_tell
from rl_lab.types import UsageError

MOST_EVALUATIONS = 1_000_000  # of each seed
MOST_SEEDS = 10_000_000
OF_RUN = (
    "env_id", "env_kwargs", "wrappers", "preprocess", "life_loss_terminates", "num_envs", "vector",
    "env_timeout_seconds", "total_steps", "horizon_steps", "eval_gamma", "dataset",
)  # fmt: skip
"""Fields of RunConfig that say what is simulated or are refused by themselves; all others are about runs."""


def simulate(
    agent: str,
    env_id: str,
    *,
    seeds: int | Sequence[int] = 100,
    evaluate_every: int | None = None,
    **fields: Any,
) -> Simulated:
    """Let a tabular agent learn in a compiled simulation of the environment's model, with many seeds on all cores.

    Nothing is written. Each seed learns what a run with `simulated` and this seed learns, to the bit.

    Args:
        seeds: their number, from 0 on, or the seeds themselves.
        evaluate_every: environment steps between evaluations, which are exact; by default a tenth of the budget.
        fields: of the agent's Config, and of RunConfig those in OF_RUN, such as env_kwargs, total_steps and eval_gamma.

    Raises:
        UsageError: a wrong name or value, or an agent or environment that can't be simulated.
        NeverEnds, NotConverged: the model can't be solved with this discount.
        FloatingPointError: a learner's values have become infinite or nan.
    """
    if "num_seeds" in fields:
        raise UsageError(f"num_seeds {shown(fields['num_seeds'])} is not a field here (allowed: seeds)")
    if not isinstance(agent, str):
        raise UsageError(f"agent must be text, got {shown(agent)}")
    if "simulated" not in {field.name for field in dataclasses.fields(config_of(agent))}:
        raise UsageError(f"agent {agent!r} can't be simulated (allowed: tabular agents, such as q-learning)")
    require_effect(agent, fields)
    learner, config = configure(agent, fields | {"env_id": env_id, "simulated": True})
    _require_simulated(config)
    if not isinstance(learner, simulation.Simulated):
        raise UsageError(f"agent {agent!r} can't be simulated")
    chosen = _seeds_of(seeds)
    every = None if evaluate_every is None else count("evaluate_every", evaluate_every)
    if every is not None and config.total_steps > MOST_EVALUATIONS * every:
        least = -(-config.total_steps // MOST_EVALUATIONS)
        raise UsageError(
            f"evaluate_every {every} is too small for {config.total_steps} steps (allowed: from {least})"
        )
    problem = problem_of(config, learner)
    require_accepted(learner, problem)
    simulated = learner.simulation(problem, chosen)
    if told := to_tell(simulated):
        tell_watcher(told)
    return evaluated(
        simulated,
        config.total_steps,
        evaluate_every=every,
        eval_gamma=config.eval_gamma,
    )


def _require_simulated(config: RunConfig) -> None:
    """Check that the fields of a run are those of what is simulated.

    Raises:
        UsageError: one is about what runs write and evaluate, and hasn't its default.
    """
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name not in OF_RUN and value != field.default:
            allowed = "seeds" if field.name == "seed" else "in rl_lab.learn with num_seeds"
            raise UsageError(
                f"{field.name} {shown(value)} does nothing in rl_lab.simulate (allowed: {allowed})"
            )


def _seeds_of(seeds: Any) -> list[int]:
    """Return the seeds that are asked for by their number or one by one.

    Raises:
        UsageError: they aren't such, or none, or too many.
    """
    if isinstance(seeds, Iterable):
        chosen = [count("seed", seed, 0) for seed in seeds]
        if not chosen:
            raise UsageError(f"seeds must be one or more, got {shown(seeds)}")
        return chosen
    number = count("seeds", seeds)
    if number > MOST_SEEDS:
        raise UsageError(f"seeds must be at most {MOST_SEEDS}, got {number}")
    return list(range(number))
