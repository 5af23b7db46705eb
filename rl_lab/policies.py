"""Exploration over action values, shared by tabular and deep agents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rl_lab.types import Array, Decision, Obs, State

Values = Callable[[Obs, State, Array], tuple[Array, State]]  # obs, carry, is_first -> q [N, A], next carry
Choose = Callable[[Array, Array | None], Array]  # q [N, A], mask -> action [N]


def greedy(q_values: Array, mask: Array | None = None) -> Array:
    """Return the first best legal action int64 [N] of q_values [N, A]."""
    return legal(q_values, mask).argmax(axis=-1)


def legal(q_values: Array, mask: Array | None) -> Array:
    """Return q_values with -inf where an action is illegal."""
    return q_values if mask is None else np.where(mask, q_values, -np.inf)


def random_tie(rng: np.random.Generator) -> Choose:
    """Return the choice of a best legal action int64 [N] with ties broken at random.

    With the first index an untrained agent would walk into the same wall for ever (FrozenLake).
    """

    def choose(q_values: Array, mask: Array | None = None) -> Array:
        values = legal(q_values, mask)
        best = values == values.max(axis=-1, keepdims=True)
        return (best * (1.0 - rng.random(best.shape))).argmax(axis=-1)  # in (0, 1]: a best one always wins

    return choose


def random_actions(
    rng: np.random.Generator, num_envs: int, num_actions: int, mask: Array | None = None
) -> Array:
    """Return a uniformly random legal action int64 [N] for each environment."""
    if mask is None:
        return rng.integers(num_actions, size=num_envs)
    return (mask * (1.0 - rng.random(mask.shape))).argmax(axis=-1)


def epsilon_probabilities(q_values: Array, epsilon: float, mask: Array | None = None) -> Array:
    """Return the distribution [N, A] of epsilon-greedy over the first best legal action."""
    allowed = np.ones(q_values.shape, np.bool_) if mask is None else mask
    uniform = allowed / allowed.sum(axis=-1, keepdims=True)
    best = np.eye(q_values.shape[-1])[greedy(q_values, mask)]
    return epsilon * uniform + (1.0 - epsilon) * best


@dataclass(frozen=True, slots=True)
class EpsilonGreedy:
    """How to explore: with probability `epsilon()` a random action, otherwise the one that `choose` takes."""

    rng: np.random.Generator
    epsilon: Callable[[], float]
    choose: Choose = greedy


class ValuePolicy:
    """Acts on action values, greedily (first index) or exploring; shared by tabular and deep agents."""

    def __init__(
        self,
        values: Values,
        num_actions: int,
        initial_state: Callable[[int], State] | None = None,
        explore: EpsilonGreedy | None = None,
    ):
        self._values, self._num_actions = values, num_actions
        self._initial_state, self._explore = initial_state, explore

    def initial_state(self, num_envs: int) -> State:
        """Return the carry before an episode; () when memoryless."""
        return () if self._initial_state is None else self._initial_state(num_envs)

    def act(self, obs: Obs, state: State, is_first: Array, mask: Array | None = None) -> Decision:
        """Choose an action int64 [N] for each observation."""
        if self._explore is not None:
            return self._exploring(self._explore, obs, state, is_first, mask)
        q_values, state = self._values(obs, state, is_first)
        return Decision(greedy(q_values, mask), state)

    def _exploring(
        self, explore: EpsilonGreedy, obs: Obs, state: State, is_first: Array, mask: Array | None
    ) -> Decision:
        num_envs = len(is_first)
        random = explore.rng.random(num_envs) < explore.epsilon()
        count = np.count_nonzero(random)
        if count == num_envs and self._initial_state is None:  # no value is needed, and no carry
            return Decision(random_actions(explore.rng, num_envs, self._num_actions, mask))
        q_values, state = self._values(obs, state, is_first)
        action = explore.choose(q_values, mask)
        if count:
            action = np.where(random, random_actions(explore.rng, num_envs, self._num_actions, mask), action)
        return Decision(action, state)

    def inspect(self, obs: Obs, state: State, is_first: Array, mask: Array | None = None) -> dict[str, Array]:
        """Return the action values [N, A] of the legal actions; -inf elsewhere."""
        return {"q_values": legal(self._values(obs, state, is_first)[0], mask)}
