"""Tables of action values and episodes on them, for tests of tabular rules."""

from __future__ import annotations

import numpy as np

ALL_LEGAL = np.zeros((0, 0), np.bool_)


def drawn_table(rng, states: int = 4, actions: int = 3):
    """Return action values [S, A] with ties among them."""
    return rng.integers(0, 4, (states, actions)).astype(float)


def drawn_episode(rng, length: int, states: int = 4, actions: int = 3):
    """Return steps (state, action, reward, next state), each of which goes on where the one before ended."""
    path = rng.integers(states, size=length + 1)
    return [
        (int(path[t]), int(rng.integers(actions)), float(rng.normal()), int(path[t + 1]))
        for t in range(length)
    ]


def mean_value(values, epsilon: float) -> float:
    """Return the mean of action values [A] under the epsilon-greedy policy."""
    return epsilon * values.mean() + (1 - epsilon) * values.max()


def lambda_return_of(rewards, values, gamma: float, decay: float) -> float:
    """Return the lambda-return by its definition, a mean of n-step returns; the longest has the rest of the weight.

    Args:
        rewards: of the steps in it.
        values: of what follows each of these steps.
    """
    total, weight, paid = 0.0, 1.0, 0.0
    for n, (reward, value) in enumerate(zip(rewards, values, strict=True), start=1):
        paid += gamma ** (n - 1) * reward
        last = n == len(rewards)
        total += weight * (1.0 if last else 1.0 - decay) * (paid + gamma**n * value)
        weight *= decay
    return total
