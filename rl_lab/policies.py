"""Acting on action values, greedily or with exploration; shared by tabular and deep agents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rl_lab.types import Array, Decision, Obs, State

Values = Callable[[Obs, State, Array], tuple[Array, State]]  # obs, carry, is_first -> q [N, A], next carry
Choose = Callable[[Array, Array | None], Array]  # q [N, A], mask -> action [N]


def greedy(q_values: Array, mask: Array | None = None) -> Array:
    """Return the first of the best legal actions, int64 [N], for q_values [N, A] and a mask bool [N, A]."""
    return legal(q_values, mask).argmax(axis=-1)


def legal(q_values: Array, mask: Array | None) -> Array:
    """Return q_values [N, A] with -inf where an action is illegal (mask [N, A] False)."""
    return q_values if mask is None else np.where(mask, q_values, -np.inf)


def random_tie(rng: np.random.Generator) -> Choose:
    """Return a function that chooses a best legal action, int64 [N], breaking ties at random.

    Always taking the first would send an untrained agent into the same wall for ever (FrozenLake).
    """

    def choose(q_values: Array, mask: Array | None = None) -> Array:
        values = legal(q_values, mask)
        best = values == values.max(axis=-1, keepdims=True)
        # 1 - random() lies in (0, 1], so that one of the best always beats the zeros of the others
        return (best * (1.0 - rng.random(best.shape))).argmax(axis=-1)

    return choose


def random_actions(
    rng: np.random.Generator, num_envs: int, num_actions: int, mask: Array | None = None
) -> Array:
    """Draw a uniformly random legal action for each environment, int64 [N]; mask is bool [N, A]."""
    if mask is None:
        return rng.integers(num_actions, size=num_envs)
    return (mask * (1.0 - rng.random(mask.shape))).argmax(axis=-1)


@dataclass(frozen=True, slots=True)
class EpsilonGreedy:
    """Exploration: a random action with probability `epsilon()`, otherwise the one that `choose` returns."""

    rng: np.random.Generator
    epsilon: Callable[[], float]
    choose: Choose = greedy


class ValuePolicy:
    """Acts on action values: greedily (the first of the best), or as `explore` says.

    Args:
        values: maps observations, carry and is_first to action values [N, A] and the next carry.
        initial_state: returns the carry at the start of an episode; None for memoryless values.
        explore: None to act greedily.
    """

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
        """Return the carry at the start of an episode; () for a memoryless policy."""
        return () if self._initial_state is None else self._initial_state(num_envs)

    def act(self, obs: Obs, state: State, is_first: Array, mask: Array | None = None) -> Decision:
        """Choose an action for each observation, int64 [N]."""
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
        if count == num_envs and self._initial_state is None:  # neither values nor a carry are needed
            return Decision(random_actions(explore.rng, num_envs, self._num_actions, mask))
        q_values, state = self._values(obs, state, is_first)
        action = explore.choose(q_values, mask)
        if count:
            action = np.where(random, random_actions(explore.rng, num_envs, self._num_actions, mask), action)
        return Decision(action, state)

    def inspect(self, obs: Obs, state: State, is_first: Array, mask: Array | None = None) -> dict[str, Array]:
        """Return `q_values` [N, A], with -inf for illegal actions."""
        return {"q_values": legal(self._values(obs, state, is_first)[0], mask)}
