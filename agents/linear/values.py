"""Action values that are linear in features, Q(s, a) = w_a . x(s), and acting on them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rl_lab.agent import Policy
from rl_lab.policies import EpsilonGreedy, ValuePolicy, random_tie, shifted
from rl_lab.types import Array, Obs, State

from .features import Active, Features
from .function_class import LinearClass
from .transitions import epsilon_greedy


class LinearValues:
    """Live weights [A, F] over features: one vector for each action.

    Args:
        initial: weights [F] of every action at the start.
    """

    def __init__(self, features: Features, num_actions: int, initial: Array):
        self.features, self.num_actions = features, num_actions
        self.weights = initial[None].repeat(num_actions, axis=0)  # [A, F]

    def of_observations(self, obs: Obs, state: State, is_first: Array) -> tuple[Array, State]:
        """Return the values [N, A] of observations, in the form that a `ValuePolicy` wants."""
        return self.of(self.features.read(obs)), ()

    def of(self, points: Array) -> Array:
        """Return the values of all actions at points [N, D], [N, A]."""
        return self.of_active(self.features.active(points))

    def of_active(self, active: Active) -> Array:
        """Return the values of all actions, [N, A], given the features that aren't 0."""
        return (self.weights[:, active.number] * active.value).sum(axis=-1).T


class Actor:
    """Acts on linear values, epsilon-greedily or greedily.

    Args:
        epsilon: returns the probability of a random action.
        first_action: the smallest action of the environment's space.
    """

    def __init__(
        self, values: LinearValues, epsilon: Callable[[], float], rng: np.random.Generator, first_action: int
    ):
        self._values, self._epsilon, self._rng, self._first_action = values, epsilon, rng, first_action

    def policy(self, explore: bool) -> Policy:
        """Return the policy over the live weights: epsilon-greedy with `explore`, otherwise greedy."""
        exploring = EpsilonGreedy(self._rng, self._epsilon, random_tie(self._rng)) if explore else None
        values = self._values
        policy = ValuePolicy(values.of_observations, values.num_actions, explore=exploring)
        return shifted(policy, self._first_action)

    def probabilities(self, points: Array, legal: Array) -> Array:
        """Return the probabilities [N, A] of the exploring policy's actions at points [N, D]; legal is bool [N, A]."""
        return epsilon_greedy(self._values.of(points), legal, self._epsilon())

    def function_class(self) -> LinearClass:
        """Return the policies that are greedy in linear values."""
        return LinearClass(self._values.features, self._values.weights)
