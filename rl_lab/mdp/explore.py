"""The model of an environment that offers none, found by trying its actions out.

Where the environment's state can be set, every action is tried in every state that is reached.
Where it can't, random play counts what it meets. Unless the environment is said to be
deterministic, probabilities are frequencies: an estimate, which says how often each was tried.
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
    """A model and what it rests on."""

    model: TabularModel
    """Its states are numbered in the order in which they were met; `observe` gives what they look like."""
    states: list[Hashable]
    """What was found in the environment's state attribute, or its observation, by state [S]."""
    tries: Array
    """How often each action was tried in each state, int64 [S, A]."""
    resets: int
    """Episodes begun: the sample of the initial distribution."""
    exact: bool
    """Whether all that can be reached was tried in an environment said to be deterministic."""

    def describe(self) -> str:
        """Return one line on how far the model is to be trusted."""
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
class _Notes:
    """What was met so far."""

    num_actions: int
    numbers: dict[Hashable, int] = field(default_factory=dict)
    shown: list[Any] = field(default_factory=list)
    outcomes: dict[tuple[int, int], Counter[Outcome]] = field(default_factory=dict)
    starts: Counter[Hashable] = field(default_factory=Counter)

    def number(self, key: Hashable, obs: Any) -> int:
        """Return the number of a state; a new one if it was never met."""
        if key not in self.numbers:
            self.numbers[key] = len(self.shown)
            self.shown.append(np.array(obs))
        return self.numbers[key]

    def count(self, state: int, action: int, outcome: Outcome) -> None:
        """Note one step."""
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
    """Try every action in every state that can be reached, setting `env.unwrapped`'s state attribute.

    Args:
        attribute: holds the whole state; `env.unwrapped` must go on from whatever is put there.
        samples: tries of each (state, action), and resets.
        deterministic: one try tells all. It is tried twice nonetheless, and a difference refused.
        legal: maps a state to its legal actions [A] bool.
        max_states: more are an error.
    """
    if samples < 1:
        raise ValueError(f"samples {samples} must be at least 1")
    notes, place = _Notes(_count_actions(env)), _Place(env.unwrapped, attribute, seed)
    waiting: dict[int, Any] = {}  # states yet to be tried and their values; ends are never tried
    for _ in range(samples):
        obs, _ = place.base.reset()
        waiting[notes.number(key := place.key(), obs)] = place.value()
        notes.starts[key] += 1
    tried: set[int] = set()
    while waiting:
        state, value = waiting.popitem()
        tried.add(state)
        actions = range(notes.num_actions) if legal is None else np.flatnonzero(legal(value))
        for action in np.repeat(actions, 2 if deterministic else samples):
            outcome, obs = place.step_from(value, int(action))
            successor = notes.number(outcome[0], obs)
            notes.count(state, int(action), outcome)
            if not outcome[2] and successor not in tried:
                waiting[successor] = place.value()
        if len(notes.shown) > max_states:
            raise ValueError(f"more than max_states = {max_states} states can be reached")
    if deterministic:
        _require_deterministic(notes)
    return _conclude(notes, exact=deterministic and len(notes.starts) == 1)


class _Place:
    """The attribute of an environment that holds its state."""

    def __init__(self, base: gymnasium.Env, attribute: str, seed: int):
        base.reset(seed=seed)  # later resets go on with that generator
        if not hasattr(base, attribute):
            raise ValueError(f"{base!r} has no attribute {attribute!r} that holds its state")
        self.base, self._attribute = base, attribute

    def value(self) -> Any:
        """Return a copy of the state."""
        return copy.deepcopy(getattr(self.base, self._attribute))

    def key(self) -> Hashable:
        """Return the state as something that can be looked up."""
        return _freeze(getattr(self.base, self._attribute))

    def step_from(self, value: Any, action: int) -> tuple[Outcome, Any]:
        """Return what an action leads to from a state, and the observation there."""
        self.base.reset()  # an episode of its own: some environments refuse to go on after an end
        setattr(self.base, self._attribute, copy.deepcopy(value))
        obs, reward, terminated, _, _ = self.base.step(action)
        return (self.key(), float(reward), bool(terminated)), obs


def explore_samples(env: gymnasium.Env, steps: int, *, seed: int = 0) -> Exploration:
    """Play at random for `steps` steps and count; states are told apart by their observations.

    `info["action_mask"]` is heeded. The observation must tell all there is to know of the state.
    """
    if steps < 1:
        raise ValueError(f"steps {steps} must be at least 1")
    rng, notes = np.random.default_rng(seed), _Notes(_count_actions(env))
    obs, info = env.reset(seed=seed)
    state = notes.number(key := _freeze(obs), obs)
    notes.starts[key] += 1
    for _ in range(steps):
        mask = info.get("action_mask")
        legal = np.arange(notes.num_actions) if mask is None else np.flatnonzero(mask)
        action = int(rng.choice(legal))
        obs, reward, terminated, truncated, info = env.step(action)
        successor = notes.number(key := _freeze(obs), obs)
        notes.count(state, action, (key, float(reward), bool(terminated)))
        state = successor
        if terminated or truncated:
            obs, info = env.reset()
            state = notes.number(key := _freeze(obs), obs)
            notes.starts[key] += 1
    return _conclude(notes, exact=False)


def _conclude(notes: _Notes, exact: bool) -> Exploration:
    size, actions = len(notes.shown), notes.num_actions
    tries = np.zeros((size, actions), dtype=np.int64)
    table = []
    for (state, action), counter in notes.outcomes.items():
        tries[state, action] = total = sum(counter.values())
        for (key, reward, terminated), times in counter.items():
            table.append((state, action, times / total, notes.numbers[key], reward, terminated))
    # Where nothing was tried, as in final states, an episode ends for nothing.
    idle = np.flatnonzero(tries.sum(axis=1) == 0).tolist()
    table += [(s, a, 1.0, s, 0.0, True) for s in idle for a in range(actions)]
    resets = sum(notes.starts.values())
    initial = np.zeros(size)
    for key, times in notes.starts.items():
        initial[notes.numbers[key]] = times / resets
    shown = np.stack(notes.shown)
    model = TabularModel.from_outcomes(
        table, size, actions, initial, observe=lambda states: shown[np.asarray(states, dtype=np.int64)]
    )
    return Exploration(model, list(notes.numbers), tries, resets, exact)


def _require_deterministic(notes: _Notes) -> None:
    for (state, action), counter in notes.outcomes.items():
        if len(counter) > 1:
            key = list(notes.numbers)[state]
            raise ValueError(
                f"action {action} in state {key!r} had the outcomes {list(counter)}: not deterministic"
            )


def _count_actions(env: gymnasium.Env) -> int:
    space = env.action_space
    if not isinstance(space, gymnasium.spaces.Discrete) or space.start != 0:
        raise ValueError(f"action space {space} must be Discrete and start at 0")
    return int(space.n)


def _freeze(value: Any) -> Hashable:
    """Return a state or an observation as something that can be looked up."""
    if isinstance(value, np.ndarray):
        return value.item() if value.ndim == 0 else (value.shape, value.dtype.str, value.tobytes())
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list | tuple):
        return tuple(_freeze(part) for part in value)
    return value
