"""The gain and the bias of one policy: its average reward per step, and what each state adds to it in the long run.

The bias h solves Poisson's equation, h = r - g + P h, and averages 0 over the steps of the policy. Both come from
one factorisation of the equations, with the bias of a reference state set to 0.
Source: Puterman, "Markov Decision Processes", 1994, section 8.2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.sparse import linalg

from rl_lab.mdp.recurring import Multichain, recurrent_classes
from rl_lab.types import Array

EPSILON = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, eq=False)
class Differential:
    """The gain and the bias of a Markov chain with one recurrent class, with certified bounds."""

    gain: float
    """Average reward per step."""
    gain_bound: float
    """Certified bound on the error of the gain, rounding included."""
    bias: Array
    """Expected reward above the gain from each state on, [S]; 0 on the average of all steps."""
    bias_bound: float
    """Certified bound on the error of the bias in the sup norm; inf if float64 certifies none."""
    recurrent: Array
    """Which states are visited for ever, bool [S]."""


class Chain:
    """A Markov chain with one recurrent class, whose equations are factorised.

    Args:
        matrix: probabilities [S, S]; rows sum to 1.
        steps: steps that leaving each state takes, [S]: 1 or 0.

    Raises:
        Multichain: it has several recurrent classes; the message names a state in each of two.
    """

    def __init__(self, matrix: sparse.csr_matrix, steps: Array):
        classes = recurrent_classes(matrix)
        if len(classes) > 1:
            one, other = (int(states[0]) for states in classes[:2])
            raise Multichain(
                f"multichain: the policy stays for ever around state {one} or around state {other}, so that its"
                " average reward depends on the start (allowed: policies with one recurrent class)"
            )
        self.matrix, self.steps, self.recurrent = matrix, steps, classes[0]
        entered = np.asarray(matrix[classes[0]].sum(axis=0)).ravel()
        self.reference = int(classes[0][np.argmax(entered[classes[0]])])
        others = np.ones(len(steps))
        others[self.reference] = 0.0
        self._system = sparse.csc_matrix(
            (sparse.identity(len(steps)) - matrix) @ sparse.diags(others)
            + sparse.csc_matrix(
                (steps, (np.arange(len(steps)), np.full(len(steps), self.reference))), matrix.shape
            )
        )
        self._factors = linalg.splu(self._system)

    def solve(self, reward: Array) -> tuple[float, Array]:
        """Return the gain per step and the bias [S], 0 in the reference state, of rewards [S]."""
        found = self._factors.solve(reward)
        found += self._factors.solve(reward - self._system @ found)  # removes most of the rounding
        gain = float(found[self.reference])
        found[self.reference] = 0.0
        return gain, found

    def residual(self, reward: Array, gain: float, bias: Array) -> float:
        """Return a bound on how far gain and bias [S] miss Poisson's equation in any state, rounding included."""
        missed = np.abs(reward - gain * self.steps + self.matrix @ bias - bias)
        terms = int(np.diff(self.matrix.indptr).max(initial=0)) + 6
        size = np.abs(reward) + abs(gain) + self.matrix @ np.abs(bias) + np.abs(bias)
        return float(missed.max() + terms * EPSILON * size.max())

    def longest(self) -> float:
        """Return a certified bound on the expected number of transitions to the reference state; inf if there is none.

        The number m solves m = 1 + P m in the other states. What exceeds 1 - e + P m there is at least (1 - e) m.
        """
        at = np.zeros(len(self.steps))
        at[self.reference] = 1.0
        (all_gain, all_bias), (at_gain, at_bias) = self.solve(np.ones(len(at))), self.solve(at)
        if not at_gain > 0:
            return np.inf
        number = all_bias - all_gain / at_gain * at_bias
        number[self.reference] = 0.0
        terms = int(np.diff(self.matrix.indptr).max(initial=0)) + 6
        short = 1.0 + self.matrix @ number - number + terms * EPSILON * (1.0 + 2.0 * np.abs(number).max())
        missing = float(short[at == 0.0].max(initial=0.0))
        return float(number.max() / (1.0 - missing)) if missing < 0.5 and number.min() >= 0.0 else np.inf

    def evaluate(self, reward: Array) -> Differential:
        """Return the gain and the bias of rewards [S], with their bounds.

        Up to the next visit of the reference state the errors of Poisson's equation add up, once per transition.
        The gain errs by at most their largest value per step: twice that if transitions without a step come between.
        """
        gain, relative = self.solve(reward)
        missed, per_step = self.residual(reward, gain, relative), 1.0 if self.steps.all() else 2.0
        gain_bound = per_step * missed
        paid = self.steps * relative
        mean, second = self.solve(paid)
        mean_bound = per_step * self.residual(paid, mean, second)
        bias_bound = 2.0 * (gain_bound + missed) * self.longest() + mean_bound
        recurrent = np.zeros(len(reward), dtype=bool)
        recurrent[self.recurrent] = True
        bias = relative - mean
        rounding = EPSILON * (abs(gain) + float(np.abs(bias).max()) + abs(mean))
        return Differential(gain, gain_bound + rounding, bias, bias_bound + rounding, recurrent)
