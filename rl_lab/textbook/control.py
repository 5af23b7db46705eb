"""Plays many runs of a learner of action values at once: what figures 6.3, 6.5 and 8.2 are made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from rl_lab.mdp.model import TabularModel
from rl_lab.textbook.lockstep import Lockstep
from rl_lab.types import Array

SARSA: Final = 0
EXPECTED_SARSA: Final = 1
Q_LEARNING: Final = 2
DOUBLE_Q: Final = 3
Watch = Callable[[Array], None]  # takes the action values [K, S, A] after each step


@dataclass(frozen=True)
class Settings:
    """How K runs learn; arrays [K] may differ between runs."""

    rule: Array
    """One of the rules above each."""
    step_size: Array
    epsilon: float = 0.1
    gamma: float = 1.0
    planning: int = 0
    """Updates of Q-learning from the learned model after each step, as in Dyna-Q. The world has to be deterministic,
    and all of its actions available."""


@dataclass(frozen=True)
class Played:
    """What the episodes of all runs came to, [K, E] each."""

    returns: Array
    steps: Array
    first_actions: Array


def learn(
    model: TabularModel,
    settings: Settings,
    episodes: int,
    rng: np.random.Generator,
    watch: Watch | None = None,
) -> Played:
    """Let K runs learn for some episodes each, all from action values of 0."""
    learner = _Learner(model, settings, rng)
    shape = (len(settings.rule), episodes)
    returns, steps, first = np.zeros(shape), np.zeros(shape, np.int64), np.full(shape, -1)
    episode = np.zeros(shape[0], np.int64)
    while (runs := np.flatnonzero(episode < episodes)).size:
        fresh = runs[steps[runs, episode[runs]] == 0]
        learner.begin(fresh)
        action, reward, done = learner.step(runs)
        new = steps[runs, episode[runs]] == 0
        first[runs[new], episode[runs[new]]] = action[new]
        returns[runs, episode[runs]] += reward
        steps[runs, episode[runs]] += 1
        episode[runs[done]] += 1
        if watch is not None:
            watch(learner.values)
    return Played(returns, steps, first)


class _Learner:
    """The tables of K runs."""

    def __init__(self, model: TabularModel, settings: Settings, rng: np.random.Generator):
        size = len(settings.rule)
        self._settings, self._rng, self._world = settings, rng, Lockstep(model, rng)
        self._barred = np.where(model.available, 0.0, -np.inf)
        self._table = np.zeros((2, size, *model.available.shape))  # the second is that of double Q-learning
        self._state, self._action = np.zeros(size, np.int64), np.zeros(size, np.int64)
        pairs = model.available.size
        self._known = np.zeros((size, pairs), np.int64)  # pairs in the order in which they were first taken
        self._count = np.zeros(size, np.int64)
        self._seen = np.zeros((size, pairs), bool)
        self._next = np.zeros((size, pairs), np.int64)
        self._reward, self._ends = np.zeros((size, pairs)), np.zeros((size, pairs), bool)
        self._paid = np.zeros(size, bool)

    @property
    def values(self) -> Array:
        """The action values [K, S, A]."""
        return self._table[0]

    def begin(self, runs: Array) -> None:
        """Begin an episode in some runs, int64."""
        if runs.size:
            self._state[runs] = self._world.begin(len(runs))
            self._action[runs] = self._choose(runs, self._state[runs])

    def step(self, runs: Array) -> tuple[Array, Array, Array]:
        """Take a step in some runs and learn from it; return the actions, rewards and ends of these."""
        state, action = self._state[runs], self._action[runs]
        next_state, reward, done = self._world.step(state, action)
        next_action = self._choose(runs, next_state)
        self._update(runs, state, action, reward, done, next_state, next_action)
        if self._settings.planning:
            self._plan(runs, state, action, reward, done, next_state)
            next_action = self._choose(runs, next_state)
        self._state[runs], self._action[runs] = next_state, next_action
        return action, reward, done

    def _preferences(self, runs: Array, state: Array) -> Array:
        """Return what the greedy policy maximises, [n, A]; -inf for unavailable actions."""
        double = (self._settings.rule[runs] == DOUBLE_Q)[:, None]
        q = self._table[0, runs, state] + np.where(double, self._table[1, runs, state], 0.0)
        return q + self._barred[state]

    def _choose(self, runs: Array, state: Array) -> Array:
        """Return epsilon-greedy actions; ties are broken at random."""
        q = self._preferences(runs, state)
        explore = self._rng.random(len(runs)) < self._settings.epsilon
        wanted = np.where(explore[:, None], self._barred[state] == 0.0, q == q.max(axis=1, keepdims=True))
        return np.where(wanted, self._rng.random(q.shape), -1.0).argmax(axis=1)

    def _update(
        self, runs: Array, state: Array, action: Array, reward: Array, done: Array, after: Array, then: Array
    ) -> None:
        rule, index = self._settings.rule[runs], np.arange(len(runs))
        own = np.where(rule == DOUBLE_Q, self._rng.random(len(runs)) < 0.5, False).astype(np.int64)
        q = self._table[own, runs, after] + self._barred[after]
        best = q.argmax(axis=1)
        greedy = q.max(axis=1)
        legal = self._barred[after] == 0.0
        mean = np.where(legal, self._table[own, runs, after], 0.0).sum(axis=1) / legal.sum(axis=1)
        epsilon = self._settings.epsilon
        following = np.choose(
            rule,
            [
                q[index, then],
                (1.0 - epsilon) * greedy + epsilon * mean,
                greedy,
                self._table[1 - own, runs, after, best],
            ],
        )
        target = reward + self._settings.gamma * np.where(done, 0.0, following)
        error = target - self._table[own, runs, state, action]
        self._table[own, runs, state, action] += self._settings.step_size[runs] * error

    def _plan(
        self, runs: Array, state: Array, action: Array, reward: Array, done: Array, after: Array
    ) -> None:
        """Learn from the model: pairs that were taken before, drawn at random, one per run at a time."""
        actions = self._table.shape[-1]
        pair = state * actions + action
        new = ~self._seen[runs, pair]
        self._known[runs[new], self._count[runs[new]]] = pair[new]
        self._count[runs[new]] += 1
        self._seen[runs, pair] = True
        self._next[runs, pair], self._reward[runs, pair], self._ends[runs, pair] = after, reward, done
        self._paid[runs] |= reward != 0.0
        runs = runs[self._paid[runs]]  # elsewhere all values are 0, and planning would leave them so
        q, gamma, step_size = self._table[0], self._settings.gamma, self._settings.step_size[runs]
        for share in self._rng.random((self._settings.planning, len(runs))) if runs.size else ():
            drawn = self._known[runs, (share * self._count[runs]).astype(np.int64)]
            old, taken = drawn // actions, drawn % actions
            following = q[runs, self._next[runs, drawn]].max(axis=1) * ~self._ends[runs, drawn]
            target = self._reward[runs, drawn] + gamma * following
            q[runs, old, taken] += step_size * (target - q[runs, old, taken])
