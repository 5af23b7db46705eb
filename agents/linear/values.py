"""Action values that are linear in features: Q(s, a) = w_a . x(s), one vector of weights for each action."""

from __future__ import annotations

from rl_lab.types import Array, Obs, State

from .features import Active, Features


class LinearValues:
    """Live weights [A, F] over features.

    Args:
        initial: weights [F] of every action at the start.
    """

    def __init__(self, features: Features, num_actions: int, initial: Array):
        self.features, self.num_actions = features, num_actions
        self.weights = initial[None].repeat(num_actions, axis=0)  # [A, F]

    def of_observations(self, obs: Obs, state: State, is_first: Array) -> tuple[Array, State]:
        """Return the values [N, A] of observations, in the form that a `ValuePolicy` wants."""
        return self.of(self.features.active(self.features.read(obs))), ()

    def of(self, active: Active) -> Array:
        """Return the values of all actions, [N, A]."""
        return (self.weights[:, active.number] * active.value).sum(axis=-1).T
