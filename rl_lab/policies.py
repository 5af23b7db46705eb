"""Acting on action values, greedily or with exploration; shared by tabular and deep agents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rl_lab.agent import Policy
from rl_lab.types import Array, Decision, Obs, State, Step

Values = Callable[[Obs, State, Array], tuple[Array, State]]  # obs, carry, is_first -> q [N, A], next carry
Choose = Callable[[Array, Array | None], Array]  # q [N, A], mask -> action [N]
Figures = Callable[[Obs, State, Array], dict[str, Array]]  # obs, carry, is_first -> figures [N, ...]


def for_episode(policy: Policy, seed: int) -> Policy:
    """Return the policy that plays a single episode: another one where draws follow from the episode's seed."""
    make = getattr(policy, "for_episode", None)
    return policy if make is None else make(seed)


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
        values = q_values if mask is None else legal(q_values, mask)
        if len(values) == 1:
            return np.array([random_best(values[0].tolist(), rng)])
        best = values == values.max(axis=-1, keepdims=True)
        # 1 - random() lies in (0, 1], so that one of the best always beats the zeros of the others
        return (best * (1.0 - rng.random(best.shape))).argmax(axis=-1)

    return choose


def random_best(values: list[float], rng: np.random.Generator) -> int:
    """Return what `random_tie` chooses for a single environment: numbers cost less than arrays of a few."""
    draws, best = rng.random(len(values)), max(values)
    if values.count(best) == 1:
        return values.index(best)
    heights = (1.0 - draws).tolist()
    return max((i for i, value in enumerate(values) if value == best), key=heights.__getitem__)


def random_actions(
    rng: np.random.Generator, num_envs: int, num_actions: int, mask: Array | None = None
) -> Array:
    """Draw a uniformly random legal action for each environment, int64 [N]; mask is bool [N, A]."""
    if mask is None and num_envs == 1:
        return np.array([rng.integers(num_actions)])  # the same draw, at a third of the cost
    if mask is None:
        return rng.integers(num_actions, size=num_envs)
    return (mask * (1.0 - rng.random(mask.shape))).argmax(axis=-1)


def random_parts(
    rng: np.random.Generator, num_envs: int, counts: Sequence[int], mask: Array | None = None
) -> Array:
    """Draw random legal values for actions of several parts, counted from 0, int64 [N, parts].

    Args:
        counts: how many values each part has.
        mask: bool [N, sum of counts], the values of the parts side by side. A part without any legal value has all.
    """
    if mask is None:
        return rng.integers(np.asarray(counts), size=(num_envs, len(counts)))
    parts = np.split(mask, np.cumsum(counts)[:-1], axis=-1)
    legal_parts = [part | ~part.any(axis=-1, keepdims=True) for part in parts]
    return np.stack([random_actions(rng, num_envs, part.shape[1], part) for part in legal_parts], axis=-1)


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
        network: the module that computes the values; None if there is none.
        figures: further figures for `inspect`; None for none.
        shown: the values that `inspect` shows; None: those acted on.
    """

    def __init__(
        self,
        values: Values,
        num_actions: int,
        initial_state: Callable[[int], State] | None = None,
        explore: EpsilonGreedy | None = None,
        *,
        network: Any = None,
        figures: Figures | None = None,
        shown: Values | None = None,
    ):
        self._shown = values if shown is None else shown
        self._values, self._num_actions = values, num_actions
        self._initial_state, self._explore = initial_state, explore
        self.network, self._figures = network, figures

    def initial_state(self, num_envs: int) -> State:
        """Return the carry at the start of an episode; () for a memoryless policy."""
        return () if self._initial_state is None else self._initial_state(num_envs)

    def act(self, obs: Obs, state: State, is_first: Array, mask: Array | None = None) -> Decision:
        """Choose an action for each observation, int64 [N]."""
        if self._explore is not None:
            alone = len(is_first) == 1
            exploring = self._exploring_alone if alone else self._exploring
            return exploring(self._explore, obs, state, is_first, mask)
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

    def _exploring_alone(
        self, explore: EpsilonGreedy, obs: Obs, state: State, is_first: Array, mask: Array | None
    ) -> Decision:
        """Do the same for a single environment, from the same draws, without arrays of one."""
        random = explore.rng.random() < explore.epsilon()
        if random and self._initial_state is None:
            return Decision(random_actions(explore.rng, 1, self._num_actions, mask))
        q_values, state = self._values(obs, state, is_first)
        action = explore.choose(q_values, mask)
        return Decision(random_actions(explore.rng, 1, self._num_actions, mask) if random else action, state)

    def inspect(self, obs: Obs, state: State, is_first: Array, mask: Array | None = None) -> dict[str, Array]:
        """Return `q_values` [N, A], with -inf for illegal actions, and what `figures` gives."""
        shown = {"q_values": legal(self._shown(obs, state, is_first)[0], mask)}
        return shown if self._figures is None else shown | self._figures(obs, state, is_first)


# Discrete spaces that don't start at 0 ------------------------------------------------------------------


def shifted(policy: Policy, first: int) -> Policy:
    """Return a policy that adds `first` to the actions [N] of `policy`; the policy itself if that is 0.

    It turns actions counted from 0 into values of a Discrete space that starts at `first`, and back with -first.
    """
    return Shifted(policy, first) if first else policy


class Shifted:
    """Adds a number to a policy's actions."""

    def __init__(self, policy: Policy, first: int):
        self._policy, self._first = policy, first
        self.network = getattr(policy, "network", None)

    def initial_state(self, num_envs: int) -> State:
        """Return the policy's carry at the start of an episode."""
        return self._policy.initial_state(num_envs)

    def for_episode(self, seed: int) -> Shifted:
        """Return one that shifts what the policy does in the episode with this seed."""
        return Shifted(for_episode(self._policy, seed), self._first)

    def act(self, obs: Obs, state: State, is_first: Array, mask: Array | None = None) -> Decision:
        """Return the policy's decision with the number added to its actions [N]."""
        decision = self._policy.act(obs, state, is_first, mask)
        return decision._replace(action=decision.action + self._first)

    def inspect(self, obs: Obs, state: State, is_first: Array, mask: Array | None = None) -> dict[str, Array]:
        """Return the policy's figures, whose columns count actions from 0."""
        return self._policy.inspect(obs, state, is_first, mask)


def counted_from_zero(step: Step, first: int) -> Step:
    """Return a step whose actions, values of a Discrete space that starts at `first`, are counted from 0."""
    return replace(step, action=step.action - first) if first else step
