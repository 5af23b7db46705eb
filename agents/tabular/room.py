"""What rules remember and draw beside the table, which depends on how many environments there are."""

from __future__ import annotations

from gymnasium import spaces

from rl_lab.mdp.learning.traces import most_traces
from rl_lab.types import EnvSpec

from .agent import rows_of
from .config import (
    MOST_ENTRIES,
    DynaConfig,
    Learning,
    NStepConfig,
    PredictionConfig,
    SweepingConfig,
    TraceConfig,
)


def refuse_number(name: str, config: Learning, spec: EnvSpec, num_envs: int) -> str | None:
    """Return why a rule would need too much memory with so many environments (one line), or None if it wouldn't.

    Args:
        name: of the agent.
        spec: of environments whose observations and actions it takes.
    """
    if isinstance(config, NStepConfig):
        field, what, each = f"n_steps {config.n_steps}", "remembered steps", config.n_steps
    elif isinstance(config, TraceConfig | PredictionConfig):
        entries, _ = rows_of(config, spec.observation_space)
        if not isinstance(config, PredictionConfig):
            assert isinstance(spec.action_space, spaces.Discrete)
            entries *= int(spec.action_space.n)
        each = most_traces(config.gamma * config.trace_decay, entries)
        field, what = f"trace_decay {config.trace_decay}", "traces"
    elif isinstance(config, DynaConfig) and not isinstance(config, SweepingConfig):
        field, what = f"planning_steps {config.planning_steps}", "imagined steps at once"
        each = config.planning_steps
    else:
        return None
    if (needed := each * num_envs) <= MOST_ENTRIES:
        return None
    return f"{name} would need {needed} {what}, of {field} and num_envs {num_envs} (allowed: up to {MOST_ENTRIES})"
