"""What agents that learn from rollouts share: the values of successors, the form of minibatches, and their state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from rl_lab.replay.rollout import Rollout
from rl_lab.trees import map_leaves
from rl_lab.types import Array, Obs, State, Step
from rl_lab.updates.advantages import trace_stops
from rl_lab.updates.trained import Trained

Evaluate = Callable[[Obs, State, Array, "Array | None"], Array]
"""Maps obs [K, ...], carry, is_first [K] and masks [K, A] (or None) to values [K]."""


def stops_of(columns: dict[str, Any]) -> Array:
    """Return the steps of a rollout after which no return may look further, bool [T, N]."""
    return trace_stops(*(columns[name] for name in ("terminated", "truncated", "is_first")))


def next_values(columns: dict[str, Any], value: Array, bootstraps: Array, evaluate: Evaluate) -> Array:
    """Return the values [T, N] of the true successors.

    They are those of the next row, except where `bootstraps`: there they are evaluated.

    Args:
        columns: the rollout's.
        value: of each step's observation, [T, N].
        bootstraps: bool [T, N]; True in the last row where its successors' values count.
    """
    found = np.zeros_like(value)
    found[:-1] = value[1:]
    if bootstraps.any():
        obs, state, mask = (
            map_leaves(lambda x: x[bootstraps], columns.get(name, otherwise))
            for name, otherwise in (("next_obs", ()), ("next_state", ()), ("next_mask", None))
        )
        goes_on = np.zeros(np.count_nonzero(bootstraps), np.bool_)
        found[bootstraps] = evaluate(obs, state, goes_on, mask)
    return found


def to_learn_from(fields: dict[str, Any], rollout: Rollout, *, is_memoryless: bool) -> dict[str, Any]:
    """Return columns [T, N, ...] as a minibatch holds them.

    These are steps [T * N, ...], or with a memory the same columns together with `is_first` and the carry before them.
    """
    if is_memoryless:
        return {name: joined(field) for name, field in fields.items()}
    return fields | {"is_first": rollout.columns["is_first"], "state": rollout.state}


def joined(tree: Any) -> Any:
    """Join steps and environments in every leaf of a tree: [T, N, ...] to [T * N, ...]."""
    return map_leaves(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), tree)


def filled(rows: int, example: Step) -> Rollout:
    """Return a full rollout of the same step, which shows what minibatches there will be."""
    rollout = Rollout(rows)
    for _ in range(rows):
        rollout.add(example)
    return rollout


# State -------------------------------------------------------------------------------------------------


class LearnsFromRollouts(Protocol):
    """An agent whose state is what was trained, the unfinished rollout, and two counters."""

    trained: Trained[Any]
    rollout: Rollout
    env_steps: int
    gradient_steps: int


def state_of(agent: LearnsFromRollouts) -> dict[str, Any]:
    """Return network, optimiser, the unfinished rollout and counters; leaves are live."""
    return {
        **agent.trained.state_dict(),
        "rollout": agent.rollout.state_dict(),
        "env_steps": agent.env_steps,
        "gradient_steps": agent.gradient_steps,
    }


def load_state(agent: LearnsFromRollouts, state: dict[str, Any]) -> None:
    """Load a state in place; weights alone are enough."""
    agent.trained.load_state_dict(state)
    if "optimiser" in state:
        agent.rollout.load_state_dict(state["rollout"])
        agent.env_steps, agent.gradient_steps = state["env_steps"], state["gradient_steps"]
