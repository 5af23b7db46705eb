"""The rules that learn a model and plan with it: Dyna-Q, Dyna-Q+ and prioritised sweeping."""

from __future__ import annotations

from typing import Any

import numpy as np

from rl_lab.mdp.learning.planning import fresh_model, fresh_queue, update_dyna, update_sweeping
from rl_lab.mdp.learning.records import Sizes, Step
from rl_lab.mdp.simulated_learners import DYNA, DYNA_PLUS, PLANNING, SWEEPING

from .learning import AtOnce
from .tables import LearnOne, Now, Tables, Taken, load_arrays


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
        self._model = fresh_model(*tables.size, outcomes)
        self._arrays = {**self._model._asdict(), "last": np.zeros(tables.q.size, np.int64)}
        self.simulated = {
            "family": PLANNING, "rule": DYNA if bonus is None else DYNA_PLUS, "planning_steps": steps,
            "outcomes": outcomes, "bonus": self._bonus,
        }  # fmt: skip

    def learn(self, taken: Taken, now: Now) -> tuple[int, float]:
        """Learn from one step of N environments, then plan as many times N steps."""
        tables, learned = self._tables, self._direct.learn(taken, now)
        draws = tables.draws((self._steps * len(taken.state), 3))
        self._update(
            tables.table, self._model, self._arrays["last"], now.env_steps, draws, Step(*taken[:7]),
            self._gamma, self._bonus, self._untried, Sizes(*now[3:]),
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
        self._tables, self._gamma, self._backups, self._threshold = tables, gamma, backups, threshold
        self._update = tables.run(update_sweeping)
        self._model, self._queue = (
            fresh_model(*tables.size, outcomes),
            fresh_queue(*tables.size, outcomes),
        )
        self._arrays = {
            "queue" if name == "pairs" else name: array
            for name, array in (self._model._asdict() | self._queue._asdict()).items()
        }
        self.simulated = {
            "family": PLANNING, "rule": SWEEPING, "planning_steps": backups, "outcomes": outcomes,
            "threshold": threshold,
        }  # fmt: skip

    def learn(self, taken: Taken, now: Now) -> tuple[int, float]:
        """Take one step of N environments into the model, then do as many backups as are allowed for each."""
        tables, count = self._tables, len(taken.state)
        done, total = self._update(
            tables.table, self._model, self._queue, self._backups * count, self._threshold, Step(*taken[:7]),
            self._gamma, Sizes(*now[3:]),
        )  # fmt: skip
        return done, total / count

    def state_dict(self) -> dict[str, Any]:
        """Return the model and the queue."""
        return dict(self._arrays)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore them."""
        if state:
            load_arrays(self._arrays, state)
