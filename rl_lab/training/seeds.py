"""Simulates an agent by name with many seeds, in memory: curves of regret rather than run directories."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rl_lab.checks import count
from rl_lab.mdp.simulate import Simulated, evaluated
from rl_lab.runs.progress import tell_watcher
from rl_lab.training import simulation
from rl_lab.training.setup import configure, problem_of, require_accepted
from rl_lab.training.simulated_session import to_tell
from rl_lab.types import UsageError


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
        fields: of the agent's Config, and of RunConfig env_kwargs, total_steps, horizon_steps, eval_gamma and the like.

    Raises:
        UsageError: a wrong name or value, or an agent or environment that can't be simulated.
        NeverEnds, NotConverged: the model can't be solved with this discount.
        FloatingPointError: a learner's values have become infinite or nan.
    """
    learner, config = configure(agent, fields | {"env_id": env_id, "simulated": True})
    if not isinstance(learner, simulation.Simulated):
        raise UsageError(f"agent {agent!r} can't be simulated")
    if isinstance(seeds, Iterable):
        chosen: Sequence[int] = [count("seed", seed, 0) for seed in seeds]
    else:
        chosen = range(count("seeds", seeds))
    problem = problem_of(config, learner)
    require_accepted(learner, problem)
    simulated = learner.simulation(problem, list(chosen))
    if told := to_tell(simulated):
        tell_watcher(told)
    return evaluated(
        simulated,
        config.total_steps,
        evaluate_every=None if evaluate_every is None else count("evaluate_every", evaluate_every),
        eval_gamma=config.eval_gamma,
    )
