"""Estimating the model of an environment that doesn't provide one, by trying out its actions.

If the environment's state can be set, every action is tried in every state that is reached; otherwise
random play counts transitions. Unless the environment is declared deterministic, probabilities are
observed frequencies, and the result says how often each action was tried.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np

from rl_lab.mdp.model import TabularModel
from rl_lab.types import Array

Outcome = tuple[Hashable, float, bool]  # successor, reward, terminated


@dataclass(frozen=True, eq=False)
class Exploration:
    """A model, and the evidence for it."""

    model: TabularModel
    """The model. States are numbered in the order in which they were met; `observe` returns what was observed."""
    states: list[Hashable]
    """The value of the environment's state attribute, or its observation, for each state [S]."""
    tries: Array
    """How often each action was tried in each state, int64 [S, A]."""
    resets: int
    """The number of episodes begun, which is the sample size of the initial distribution."""
    exact: bool
    """Whether everything reachable was tried in an environment declared deterministic."""

    def describe(self) -> str:
        """Return one line on how reliable the model is."""
        total = int(self.tries.sum())
        if self.exact:
            return f"exact: {len(self.states)} states, every action tried in each ({total} steps)"
        tried = self.tries[self.tries > 0]
        untried = int((self.tries == 0).sum())
        return (
            f"an estimate: {len(self.states)} states, {total} steps, {tried.min() if tried.size else 0} to"
            f" {self.tries.max()} tries of an action, {untried} (state, action) never tried, {self.resets} resets"
        )


@dataclass
class _Counts:
    """The states, outcomes and starts seen so far."""

    num_actions: int
    numbers: dict[Hashable, int] = field(default_factory=dict)  # of each state
    shown: list[Any] = field(default_factory=list)  # the observation of each state
    outcomes: dict[tuple[int, int], Counter[Outcome]] = field(default_factory=dict)  # by state and action
    starts: Counter[Hashable] = field(default_factory=Counter)  # by state

    def number(self, key: Hashable, obs: Any) -> int:
        """Return the number of a state, a new one if it is met for the first time."""
        if key not in self.numbers:
            self.numbers[key] = len(self.shown)
            self.shown.append(np.array(obs))
        return self.numbers[key]

    def count(self, state: int, action: int, outcome: Outcome) -> None:
        """Count one step."""
        self.outcomes.setdefault((state, action), Counter())[outcome] += 1


def explore_states(
    env: gymnasium.Env,
    attribute: str = "s",
    *,
    samples: int = 100,
    deterministic: bool = False,
    legal: Callable[[Any], Array] | None = None,
    max_states: int = 100_000,
    seed: int = 0,
) -> Exploration:
    """Try every action in every reachable state, by setting the state attribute of `env.unwrapped`.

    Args:
        attribute: name of the attribute that holds the whole state; the environment must continue from
            whatever value is put there.
        samples: how often each (state, action) is tried, and the number of resets.
        deterministic: declare that an action always has the same outcome. Each is tried only twice, and a
            difference is an error.
        legal: maps a state to its legal actions, bool [A].
        max_states: the most states that may be reached.

    Raises:
        ValueError: an argument is out of range, actions aren't Discrete, the attribute doesn't exist, there
            are too many states, or outcomes differ although `deterministic`.
    """
    if samples < 1:
        raise ValueError(f"samples {samples} must be at least 1")
    counts, holder = _Counts(_count_actions(env)), _StateAttribute(env.unwrapped, attribute, seed)
    waiting: dict[int, Any] = {}  # states still to be tried and their values; final states are never tried
    for _ in range(samples):
        obs, _ = holder.base.reset()
        waiting[counts.number(key := holder.key(), obs)] = holder.value()
        counts.starts[key] += 1
    tried: set[int] = set()
    while waiting:
        state, value = waiting.popitem()
        tried.add(state)
        actions = range(counts.num_actions) if legal is None else np.flatnonzero(legal(value))
        for action in np.repeat(actions, 2 if deterministic else samples):
            outcome, obs = holder.step_from(value, int(action))
            successor = counts.number(outcome[0], obs)
            counts.count(state, int(action), outcome)
            if not outcome[2] and successor not in tried:
                waiting[successor] = holder.value()
        if len(counts.shown) > max_states:
            raise ValueError(f"more than max_states = {max_states} states can be reached")
    if deterministic:
        _require_deterministic(counts)
    return _conclude(counts, exact=deterministic and len(counts.starts) == 1)


class _StateAttribute:
    """The attribute of an environment that holds its state."""

    def __init__(self, base: gymnasium.Env, attribute: str, seed: int):
        base.reset(seed=seed)  # later resets continue with this generator
        if not hasattr(base, attribute):
            raise ValueError(f"{base!r} has no attribute {attribute!r} that holds its state")
        self.base, self._attribute = base, attribute

    def value(self) -> Any:
        """Return a copy of the state."""
        return copy.deepcopy(getattr(self.base, self._attribute))

    def key(self) -> Hashable:
        """Return the state in hashable form."""
        return _freeze(getattr(self.base, self._attribute))

    def step_from(self, value: Any, action: int) -> tuple[Outcome, Any]:
        """Take an action in a state; return the outcome and the observation after it."""
        self.base.reset()  # each try is an episode: some environments refuse to step after an end
        setattr(self.base, self._attribute, copy.deepcopy(value))
        obs, reward, terminated, _, _ = self.base.step(action)
        return (self.key(), float(reward), bool(terminated)), obs


def explore_samples(env: gymnasium.Env, steps: int, *, seed: int = 0) -> Exploration:
    """Play at random for `steps` steps and count transitions, taking each observation for a state.

    Observations must therefore determine the state. Actions that `info["action_mask"]` forbids aren't taken.

    Raises:
        ValueError: `steps` is below 1, or actions aren't Discrete.
    """
    if steps < 1:
        raise ValueError(f"steps {steps} must be at least 1")
    rng, counts = np.random.default_rng(seed), _Counts(_count_actions(env))
    obs, info = env.reset(seed=seed)
    state = counts.number(key := _freeze(obs), obs)
    counts.starts[key] += 1
    for _ in range(steps):
        mask = info.get("action_mask")
        legal = np.arange(counts.num_actions) if mask is None else np.flatnonzero(mask)
        action = int(rng.choice(legal))
        obs, reward, terminated, truncated, info = env.step(action)
        successor = counts.number(key := _freeze(obs), obs)
        counts.count(state, action, (key, float(reward), bool(terminated)))
        state = successor
        if terminated or truncated:
            obs, info = env.reset()
            state = counts.number(key := _freeze(obs), obs)
            counts.starts[key] += 1
    return _conclude(counts, exact=False)


def _conclude(counts: _Counts, exact: bool) -> Exploration:
    size, actions = len(counts.shown), counts.num_actions
    tries = np.zeros((size, actions), dtype=np.int64)
    table = []
    for (state, action), counter in counts.outcomes.items():
        tries[state, action] = total = sum(counter.values())
        for (key, reward, terminated), times in counter.items():
            table.append((state, action, times / total, counts.numbers[key], reward, terminated))
    # States in which nothing was tried (final states) end the episode without reward.
    idle = np.flatnonzero(tries.sum(axis=1) == 0).tolist()
    table += [(s, a, 1.0, s, 0.0, True) for s in idle for a in range(actions)]
    resets = sum(counts.starts.values())
    initial = np.zeros(size)
    for key, times in counts.starts.items():
        initial[counts.numbers[key]] = times / resets
    shown = np.stack(counts.shown)
    model = TabularModel.from_outcomes(
        table, size, actions, initial, observe=lambda states: shown[np.asarray(states, dtype=np.int64)]
    )
    return Exploration(model, list(counts.numbers), tries, resets, exact)


def _require_deterministic(counts: _Counts) -> None:
    for (state, action), counter in counts.outcomes.items():
        if len(counter) > 1:
            key = list(counts.numbers)[state]
            raise ValueError(
                f"action {action} in state {key!r} had the outcomes {list(counter)}: not deterministic"
            )


def _count_actions(env: gymnasium.Env) -> int:
    space = env.action_space
    if not isinstance(space, gymnasium.spaces.Discrete) or space.start != 0:
        raise ValueError(f"action space {space} must be Discrete and start at 0")
    return int(space.n)


def _freeze(value: Any) -> Hashable:
    """Return a state or an observation in hashable form."""
    if isinstance(value, np.ndarray):
        return value.item() if value.ndim == 0 else (value.shape, value.dtype.str, value.tobytes())
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list | tuple):
        return tuple(_freeze(part) for part in value)
    return value
