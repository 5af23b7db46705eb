"""The rules that learn from real steps: at once, by traces, or by windows of several steps."""

from __future__ import annotations

from typing import Any

import numpy as np

from rl_lab.mdp.learning.exploring import EPSILON_GREEDY
from rl_lab.mdp.learning.records import Behaviour, Sizes, Step
from rl_lab.mdp.learning.rules import DOUBLE_Q, EXPECTED_SARSA, Q_LEARNING, update_at_once
from rl_lab.mdp.learning.step_sizes import BY_TIME, step_size
from rl_lab.mdp.learning.traces import TraceRule, Traces, most_traces, update_traces
from rl_lab.mdp.learning.windows import EVERY_VISIT, FIRST_VISIT, Window, WindowRule, update_windows
from rl_lab.mdp.simulated_learners import AT_ONCE, TRACES, WINDOWS
from rl_lab.types import Array

from .tables import COMPILED_FROM_STEPS_AT_ONCE, LearnOne, Now, Tables, Taken, load_arrays

NOTHING = np.zeros(0)


def _mean(learned: int, total: float) -> tuple[int, float]:
    return learned, total / learned if learned else 0.0


class AtOnce:
    """Q-learning, expected SARSA or double Q-learning: every step is learned from when it comes.

    If several environments update the same entry, their changes add up.
    """

    knows_legal = False

    def __init__(self, tables: Tables, gamma: float, rule: int, num_envs: int):
        self._tables, self._gamma, self._rule = tables, gamma, rule
        self.simulated = {"family": AT_ONCE, "rule": rule}
        self.asks_behaviour = rule == EXPECTED_SARSA
        self._update = tables.run(update_at_once, COMPILED_FROM_STEPS_AT_ONCE)
        self.takes_numbers = self._update is update_at_once
        self._error: Any = [0.0] * num_envs if self.takes_numbers else np.zeros(num_envs)
        self._halves: dict[str, Array] = {}
        if rule == DOUBLE_Q:
            self._halves = {"first": tables.q.copy(), "second": tables.q.copy()}
        self._first = self._halves.get("first", tables.q)
        self._second = self._halves.get("second", tables.q)
        self._second_visits = np.zeros_like(tables.visits) if rule == DOUBLE_Q else tables.visits
        arrays = (
            tables.q, self._first, self._second, tables.visits, self._second_visits, tables.tried
        )  # fmt: skip
        # in Python, numbers are read from a view of memory in a third of the time
        self._arrays: tuple[Any, ...] = tuple(a.data for a in arrays) if self.takes_numbers else arrays
        alone = self.takes_numbers and rule == Q_LEARNING
        self.learn_one: LearnOne | None = self._q_learning if alone else None

    def _q_learning(
        self, state: int, action: int, reward: float, terminated: bool, next_state: int,
        size_kind: int, rate: float, power: float,
    ) -> float:  # fmt: skip
        """Learn from one step by Q-learning as `update_at_once` does, and return the error."""
        best = 0.0 if terminated else max(self._tables.q[next_state].tolist())
        q, visits = self._arrays[0], self._arrays[3]
        value = q[state, action]
        error = reward + self._gamma * best - value
        visits[state, action] = count = visits[state, action] + 1
        size = rate if size_kind == BY_TIME else step_size(size_kind, rate, power, count)
        q[state, action] = value + size * error
        return error

    def learn(self, taken: Taken, now: Now) -> tuple[int, float]:
        """Learn from one step of N environments."""
        error = self._error
        draws = self._tables.draws((len(error),)) if self._rule == DOUBLE_Q else NOTHING
        self._update(
            self._rule, *self._arrays, *taken[:4], taken.next_state, draws, self._gamma, *now[1:],
            taken.next_legal, error,
        )  # fmt: skip
        return len(error), abs(float(error[0])) if len(error) == 1 else float(np.abs(error).mean())

    def state_dict(self) -> dict[str, Any]:
        """Return the two tables of double Q-learning, and the updates of the second."""
        return {**self._halves, "second_visits": self._second_visits} if self._halves else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the two tables; without a state both are what the agent acts on, as at a warm start."""
        if self._halves and not state:
            self._first[...] = self._second[...] = self._tables.q
        elif self._halves:
            load_arrays({**self._halves, "second_visits": self._second_visits}, state)


class ByTraces:
    """Watkins's Q(lambda), SARSA(lambda) or TD(lambda)."""

    takes_numbers = False
    learn_one: LearnOne | None = None
    asks_behaviour = True
    knows_legal = True

    def __init__(
        self, tables: Tables, gamma: float, rule: int, num_envs: int, *, trace_decay: float, trace_kind: int
    ):
        self._tables, decay = tables, gamma * trace_decay
        self._terms = TraceRule(rule, trace_kind, gamma, decay)
        self.simulated = {"family": TRACES, "rule": rule, "trace": trace_kind, "decay": decay}
        self._update = tables.run(update_traces)
        room = most_traces(decay, tables.q.size)
        self._traces = Traces(
            entry=np.zeros((num_envs, room), np.int64),
            trace=np.zeros((num_envs, room)),
            kept=np.zeros(num_envs, np.int64),
            old=np.zeros(num_envs),
            pending=np.full((num_envs, 3), -1),
            pending_reward=np.zeros(num_envs),
        )

    def learn(self, taken: Taken, now: Now) -> tuple[int, float]:
        """Learn from one step of N environments."""
        return _mean(
            *self._update(
                self._terms, self._tables.table, self._traces, Step(*taken[:7]), Behaviour(*now[1:3]),
                Sizes(*now[3:]),
            )
        )  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        """Return the traces and the steps that wait for their next action."""
        return {"count" if name == "kept" else name: a for name, a in self._traces._asdict().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore them."""
        if state:
            load_arrays(self.state_dict(), state)


class ByWindows:
    """n-step SARSA (SARSA with n = 1), tree backup, or Monte Carlo control, whose window is the whole episode.

    Args:
        greedy_target: learn about the greedy policy, whatever acts.
    """

    takes_numbers = False
    learn_one: LearnOne | None = None
    asks_behaviour = True
    knows_legal = True

    def __init__(
        self,
        tables: Tables,
        gamma: float,
        rule: int,
        num_envs: int,
        *,
        n_steps: int = 1,
        greedy_target: bool = False,
    ):
        self._tables, self._terms = tables, WindowRule(rule, n_steps, gamma)
        self._greedy_target, self._grows = greedy_target, rule in (EVERY_VISIT, FIRST_VISIT)
        self.simulated = {"family": WINDOWS, "rule": rule, "n": n_steps, "greedy_target": greedy_target}
        self._update = tables.run(update_windows)
        self._stamp = np.full(tables.q.shape if rule == FIRST_VISIT else (1, 1), -1)
        self._allocate(num_envs, 64 if self._grows else n_steps)

    def _allocate(self, num_envs: int, room: int) -> None:
        self._arrays = {
            "steps": np.zeros((num_envs, room, 2), np.int64),
            "rewards": np.zeros((num_envs, room)),
            "marks": np.zeros((num_envs, 3), np.int64),
        }

    def _grow(self) -> None:
        """Make room for the next step of episodes that are longer than any before."""
        old, room = self._arrays, self._arrays["rewards"].shape[1]
        if old["marks"][:, 1].max() < room:
            return
        self._allocate(len(old["marks"]), 2 * room)
        self._arrays["steps"][:, :room], self._arrays["rewards"][:, :room] = old["steps"], old["rewards"]
        self._arrays["marks"][...] = old["marks"]

    def learn(self, taken: Taken, now: Now) -> tuple[int, float]:
        """Learn from one step of N environments."""
        if self._grows:
            self._grow()
        numbers = np.arange(now.env_steps, now.env_steps + len(taken.state))
        about = Behaviour(EPSILON_GREEDY, 0.0) if self._greedy_target else Behaviour(*now[1:3])
        return _mean(
            *self._update(
                self._terms, self._tables.table, Window(**self._arrays, stamp=self._stamp), numbers,
                Step(*taken[:7]), about, Sizes(*now[3:]),
            )
        )  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        """Return the steps that haven't been learned from."""
        return dict(self._arrays)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore them."""
        if state:
            self._allocate(*np.shape(state["rewards"]))
            load_arrays(self._arrays, state)
