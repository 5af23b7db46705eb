"""The policies that linear values can express, fitted to the best actions of given states.

A softmax regression on the features, from the learned weights and from fresh ones, is followed by steps along the exact
gradient of the return, since weights that can't be right everywhere do best where it matters most. What is found is a
lower bound: a better fit may exist.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rl_lab.function_class import Fit, FitTask
from rl_lab.seeding import seed_of
from rl_lab.types import Array

from .features import Features, matrix_of

LEARNING_RATE = 0.05
LOOK_STEPS = 10  # between looks at what the greedy policy is worth
PATIENCE_LOOKS = 25  # without a better policy, after which a fit ends
Slope = Callable[
    [Array], Array
]  # probabilities [K, A] -> the derivative of what is to be gained by them [K, A]


class LinearClass:
    """The policies that take the action with the largest linear value.

    Args:
        weights: the learned ones, [A, F]; they are copied.
    """

    def __init__(self, features: Features, weights: Array):
        self._features, self._weights = features, weights.copy()
        self.description = f"linear values of {features.description}"

    def fit(self, task: FitTask) -> Fit:
        """Return the best that was found from several weights, the learned ones first."""
        x = matrix_of(self._features, self._features.read(task.obs))  # [K, F]
        best = float("-inf")
        for number in range(task.fits):
            best = max(best, _Search(x, self._start(number, task.seed), task).run())
            if best >= task.best - task.tolerance:
                return Fit(best, number + 1)
        return Fit(best, task.fits)

    def _start(self, number: int, seed: int) -> Array:
        """Return the weights [A, F] from which a fit begins."""
        if number == 0:
            return self._weights / max(1.0, float(np.abs(self._weights).max()))  # the greedy policy stays
        rng = np.random.Generator(np.random.PCG64(seed_of(seed, "fit", number)))
        return 0.1 * rng.standard_normal(self._weights.shape)


class _Search:
    """One fit, by Adam (Kingma and Ba, 2015)."""

    def __init__(self, x: Array, weights: Array, task: FitTask):
        self._x, self._w, self._task = x, weights, task
        self.best = float("-inf")

    def run(self) -> float:
        """Return the best return that was met."""
        self._climb(self._towards_good)
        if not self._has_all and (advantages := self._task.advantages) is not None:
            self._climb(advantages)
        return self.best

    @property
    def _has_all(self) -> bool:
        return self.best >= self._task.best - self._task.tolerance

    def _towards_good(self, p: Array) -> Array:
        """Return the derivative of the mean logarithm of the probability of being among the best actions."""
        chance = np.maximum((p * self._task.good).sum(axis=1, keepdims=True), 1e-12)
        return self._task.good / chance / len(p)

    def _climb(self, slope: Slope) -> None:
        mean, square = np.zeros_like(self._w), np.zeros_like(self._w)
        waited = 0
        for step in range(self._task.steps + 1):
            scores = (self._x @ self._w.T) if self._task.mask is None else np.where(
                self._task.mask, self._x @ self._w.T, -np.inf
            )  # fmt: skip
            if step % LOOK_STEPS == 0:
                waited = 0 if self._look(scores) else waited + 1
                if self._has_all or waited >= PATIENCE_LOOKS:
                    return
            p = np.exp(scores - scores.max(axis=1, keepdims=True))
            p /= p.sum(axis=1, keepdims=True)
            by_p = slope(p)
            by_score = p * (by_p - (p * by_p).sum(axis=1, keepdims=True))
            gradient = np.asarray((self._x.T @ by_score).T)
            mean = 0.9 * mean + 0.1 * gradient
            square = 0.999 * square + 0.001 * gradient**2
            ahead = mean / (1 - 0.9 ** (step + 1))
            self._w = self._w + LEARNING_RATE * ahead / (np.sqrt(square / (1 - 0.999 ** (step + 1))) + 1e-8)

    def _look(self, scores: Array) -> bool:
        """Evaluate the greedy policy; return whether it is the best so far."""
        value = self._task.evaluate(scores.argmax(axis=1))
        better, self.best = value > self.best, max(value, self.best)
        return better
