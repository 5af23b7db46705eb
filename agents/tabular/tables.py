"""What all rules share: the table with its counts, one step of N environments as rows of it, and how rules run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np

from rl_lab.mdp.learning.compiled import machine_code
from rl_lab.types import Array

COMPILED_FROM_STEPS = (
    20_000  # of a run: loading compiled functions takes as long as some 20,000 steps in Python
)
ALL_LEGAL = np.zeros((0, 0), np.bool_)


@dataclass(frozen=True, eq=False)
class Tables:
    """A table of action values, and what is counted and known of its entries."""

    q: Array  # float64 [S, A]
    visits: Array  # int64 [S, A]: updates of each entry
    tried: Array  # int64 [S, A]: how often each action was taken; counted only where someone asks
    legal: Array  # bool [S, A], the legal actions as seen last in each state; [0, 0] without masks
    draws: Callable[[tuple[int, ...]], Array]  # uniform numbers of a shape
    compiled: bool = False
    _functions: dict[Callable, Callable] = field(default_factory=dict)

    @classmethod
    def of(cls, q: Array, has_mask: bool, draws: Callable[..., Array], *, compiled: bool) -> Tables:
        """Return the tables around q [S, A]."""
        legal = np.ones(q.shape, np.bool_) if has_mask else ALL_LEGAL
        visits, tried = np.zeros(q.shape, np.int64), np.zeros(q.shape, np.int64)
        return cls(q, visits, tried, legal, draws, compiled)

    def run(self, function: Callable) -> Callable:
        """Return a function of `rl_lab.mdp.learning` as it runs here: as machine code in runs that are long enough."""
        if function not in self._functions:
            self._functions[function] = machine_code(function) if self.compiled else function
        return self._functions[function]


class Taken(NamedTuple):
    """One step of N environments, in rows of the table and actions from 0; contiguous and writeable arrays [N]."""

    state: Array  # int64
    action: Array  # int64
    reward: Array  # float64
    terminated: Array  # bool
    truncated: Array  # bool
    next_state: Array  # int64
    is_first: Array  # bool
    next_legal: Array  # bool [N, A], or [0, 0] without masks


class Now(NamedTuple):
    """The settings at a step, as `rl_lab.mdp.learning` takes them."""

    env_steps: int
    kind: int  # of the behaviour
    parameter: float
    size_kind: int
    rate: float
    power: float


class Rule(Protocol):
    """Learns from steps; the tables are given at construction."""

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
