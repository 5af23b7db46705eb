"""The rules that learn a model and plan with it: Dyna-Q, Dyna-Q+ and prioritised sweeping."""

from __future__ import annotations

from typing import Any

import numpy as np

from rl_lab.mdp.learning.planning import update_dyna, update_sweeping
from rl_lab.types import Array

from .learning import AtOnce
from .tables import LearnOne, Now, Tables, Taken, load_arrays


class Model:
    """The last outcomes of each action in each state.

    Args:
        outcomes: how many are remembered, M.
    """

    def __init__(self, tables: Tables, outcomes: int):
        pairs = tables.q.size
        self.arrays: dict[str, Array] = {
            "outcomes": np.zeros((pairs, outcomes, 2), np.int64),
            "payments": np.zeros((pairs, outcomes)),
            "seen": np.zeros(pairs, np.int64),
            "visited": np.zeros(len(tables.q) + 1, np.int64),
        }


class Dyna:
    """Q-learning from real steps, and from steps that are imagined with a learned model.

    Args:
        bonus: kappa of Dyna-Q+, which also imagines actions that were never taken; None for Dyna-Q.
    """

    takes_numbers = False
    learn_one: LearnOne | None = None
    asks_behaviour = False
    knows_legal = True

    def __init__(
        self, tables: Tables, gamma: float, direct: AtOnce, *, steps: int, outcomes: int, bonus: float | None
    ):
        self._tables, self._gamma, self._direct, self._steps = tables, gamma, direct, steps
        self._bonus, self._untried = bonus or 0.0, bonus is not None
        self._update = tables.run(update_dyna)
        self._arrays = Model(tables, outcomes).arrays | {"last": np.zeros(tables.q.size, np.int64)}

    def learn(self, taken: Taken, now: Now) -> tuple[int, float]:
        """Learn from one step of N environments, then plan as many times N steps."""
        tables, learned = self._tables, self._direct.learn(taken, now)
        self._update(
            tables.q, tables.visits, *self._arrays.values(), now.env_steps,
            tables.draws((self._steps * len(taken.state), 3)), *taken[:4], taken.next_state,
            self._gamma, self._bonus, self._untried, *now[3:], tables.legal,
        )  # fmt: skip
        return learned

    def state_dict(self) -> dict[str, Any]:
        """Return the model."""
        return dict(self._arrays)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore it."""
        if state:
            load_arrays(self._arrays, state)


class Sweeping:
    """Backs up the entries whose remembered outcomes show the largest error, and then what leads to them."""

    takes_numbers = False
    learn_one: LearnOne | None = None
    asks_behaviour = False
    knows_legal = True

    def __init__(self, tables: Tables, gamma: float, *, backups: int, outcomes: int, threshold: float):
        pairs = tables.q.size
        self._tables, self._gamma, self._backups, self._threshold = tables, gamma, backups, threshold
        self._update = tables.run(update_sweeping)
        self._arrays = Model(tables, outcomes).arrays | {
            "queue": np.zeros(pairs + 1, np.int64),
            "priority": np.zeros(pairs),
            "place": np.full(pairs, -1),
            "heads": np.full(len(tables.q), -1),
            "links": np.full((pairs * outcomes, 2), -1),
            "checked": np.zeros(pairs + 1, np.int64),
        }

    def learn(self, taken: Taken, now: Now) -> tuple[int, float]:
        """Take one step of N environments into the model, then do as many backups as are allowed for each."""
        tables, count = self._tables, len(taken.state)
        done, total = self._update(
            tables.q, tables.visits, *self._arrays.values(), self._backups * count, self._threshold,
            *taken[:4], taken.next_state, self._gamma, *now[3:], tables.legal,
        )  # fmt: skip
        return done, total / count

    def state_dict(self) -> dict[str, Any]:
        """Return the model and the queue."""
        return dict(self._arrays)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore them."""
        if state:
            load_arrays(self._arrays, state)
