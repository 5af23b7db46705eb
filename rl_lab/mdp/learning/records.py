"""What the rules of this package are handed: tables, steps and settings, as tuples of names that numba can compile."""

from __future__ import annotations

from typing import Any, NamedTuple

from rl_lab.types import Array


class Table(NamedTuple):
    """A table of values, and what is counted and known of its entries."""

    q: Array  # float64 [S, A]
    visits: Array  # int64 [S, A]: updates of each entry
    tried: Array  # int64 [S, A]: how often each action was chosen; read with UCB
    legal: Array  # bool [S, A]: the actions that are legal in each state, or [0, 0] if all are


class Step(NamedTuple):
    """One step, in numbers; or one step of each of N environments, in arrays [N]."""

    state: Any
    action: Any
    reward: Any
    terminated: Any
    truncated: Any
    next_state: Any
    is_first: Any  # whether the state opens an episode


def step_of(steps: Step, i: int) -> Step:
    """Return the step of environment i, given those of N in arrays [N]."""
    return Step(
        steps.state[i], steps.action[i], steps.reward[i], steps.terminated[i], steps.truncated[i],
        steps.next_state[i], steps.is_first[i],
    )  # fmt: skip


class Behaviour(NamedTuple):
    """How actions are chosen; see `exploring`."""

    kind: int
    parameter: float


class Sizes(NamedTuple):
    """How far entries move; see `step_sizes`."""

    kind: int
    rate: float
    power: float
