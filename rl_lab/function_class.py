"""What policies a learner can express at all, whatever it learns: a table, a network, a single policy.

A learner whose agent has a method `function_class()` lets `rl_lab.diagnosis` say how much of its regret no training
could have removed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from rl_lab.types import Array


@dataclass(frozen=True, eq=False)
class FitTask:
    """What a function class is fitted to: K states, and how good a policy in them is."""

    obs: Any
    """What the states show, [K, ...]."""
    mask: Array | None
    """Legal actions, bool [K, A]; None if all are."""
    good: Array
    """Actions that are best in each state, bool [K, A], at least one."""
    evaluate: Callable[[Array], float]
    """Maps actions int64 [K] to the return of taking them."""
    advantages: Callable[[Array], Array] | None
    """Maps probabilities [K, A] to the derivative of the return by them, [K, A]; None where it isn't known."""
    best: float
    """The return beyond which nothing can be gained."""
    tolerance: float = 0.0
    """By how much a return may differ from another by rounding."""
    seed: int = 0
    """Of the initialisations."""
    fits: int = 4
    """Initialisations that are tried."""
    steps: int = 1_000
    """Most gradient steps of each fit."""


class Fit(NamedTuple):
    """The best that was found."""

    value: float
    """Its return; -inf if nothing was fitted."""
    fits: int
    """Initialisations that were tried."""


class FunctionClass(Protocol):
    """The policies that a learner can express."""

    description: str
    """In a few words, as in "a network of 4,610 parameters"."""

    def fit(self, task: FitTask) -> Fit:
        """Return the best that was found among its policies, which is a lower bound on the best that there is."""


class Table:
    """An entry for each observation: every policy can be expressed."""

    description = "a table"

    def fit(self, task: FitTask) -> Fit:
        """Return the best there is."""
        return Fit(task.best, 0)


class OnePolicy:
    """A single policy, that of an agent that doesn't learn."""

    description = "one policy"

    def fit(self, task: FitTask) -> Fit:
        """Return that there is nothing to fit."""
        return Fit(float("-inf"), 0)
