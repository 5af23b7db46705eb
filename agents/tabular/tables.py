"""What all rules share: the table with its counts, one step of N environments as rows of it, and how rules run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from rl_lab.mdp.learning.compiled import machine_code
from rl_lab.mdp.learning.records import Table
from rl_lab.types import Array

# Loading compiled functions takes a second: as long as so many steps take in Python
COMPILED_FROM_STEPS = 20_000
COMPILED_FROM_STEPS_AT_ONCE = 1_000_000  # rules that touch one entry a step
ALL_LEGAL = np.zeros((0, 0), np.bool_)


@dataclass(frozen=True, eq=False)
class Tables:
    """A table of action values, and what is counted and known of its entries."""

    q: Array  # float64 [S, A]
    visits: Array  # int64 [S, A]: updates of each entry
    tried: Array  # int64 [S, A]: how often each action was taken; counted only where someone asks
    legal: Array  # bool [S, A], the legal actions as seen last in each state; [0, 0] without masks
    draws: Callable[[tuple[int, ...]], Array]  # uniform numbers of a shape
    steps: int = 0  # of the run

    @classmethod
    def of(cls, q: Array, has_mask: bool, draws: Callable[..., Array], steps: int) -> Tables:
        """Return the tables around q [S, A]."""
        legal = np.ones(q.shape, np.bool_) if has_mask else ALL_LEGAL
        visits, tried = np.zeros(q.shape, np.int64), np.zeros(q.shape, np.int64)
        return cls(q, visits, tried, legal, draws, steps)

    @property
    def size(self) -> tuple[int, int]:
        """The numbers of states and of actions."""
        return self.q.shape[0], self.q.shape[1]

    @property
    def table(self) -> Table:
        """What rules of `rl_lab.mdp.learning` read and write."""
        return Table(self.q, self.visits, self.tried, self.legal)

    def run(self, function: Callable, from_steps: int = COMPILED_FROM_STEPS) -> Callable:
        """Return a function of `rl_lab.mdp.learning` as it runs here: as machine code in runs that are long enough."""
        if self.steps < from_steps:
            return function
        return lambda *args: machine_code(function)(
            *args
        )  # at the first call: greedy acting needs none of it


class Taken(NamedTuple):
    """One step of N environments, in rows of the table and actions from 0.

    Contiguous and writeable arrays [N]; for rules that ask for numbers, lists of them.
    """

    state: Any  # int64
    action: Any  # int64
    reward: Any  # float64
    terminated: Any  # bool
    truncated: Any  # bool
    next_state: Any  # int64
    is_first: Any  # bool
    next_legal: Any  # bool [N, A], or [0, 0] without masks


class Now(NamedTuple):
    """The settings at a step, as `rl_lab.mdp.learning` takes them."""

    env_steps: int
    kind: int  # of the behaviour
    parameter: float
    size_kind: int
    rate: float
    power: float


LearnOne = Callable[[int, int, float, bool, int, int, float, float], float]
"""Learns from one step: state, action, reward, terminated, next state, size_kind, rate, power -> the error."""


class Rule(Protocol):
    """Learns from steps; the tables are given at construction."""

    takes_numbers: bool  # whether `Taken` is to hold lists of numbers instead of arrays
    asks_behaviour: bool  # whether it learns about the behaviour that acts
    knows_legal: bool  # whether it reads the legal actions of states from the tables
    learn_one: LearnOne | None  # does the same for one environment without masks; None where a rule can't

    def learn(self, taken: Taken, now: Now) -> tuple[int, float]:
        """Learn from one step of N environments; return how many steps were learned from, and their mean |error|."""

    def state_dict(self) -> dict[str, Any]:
        """Return what the rule itself remembers."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore it, in place."""


def load_arrays(arrays: dict[str, Array], state: dict[str, Any]) -> None:
    """Copy saved arrays into those of the same names."""
    for name, array in arrays.items():
        array[...] = state[name]


def own(array: Array, dtype: Any) -> Array:
    """Return an array as compiled functions take it: contiguous and writeable, of this type."""
    return np.ascontiguousarray(array, dtype) if array.flags.writeable else np.array(array, dtype)
