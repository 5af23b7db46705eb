"""Normalisation: scores of different tasks on one scale, on which 0 is random play and 1 is a reference.

Where an environment is a finite MDP, the reference is the exact optimum and random play is exact as well: a normalised
score of 1 can't be exceeded but by chance. Elsewhere both are scores that somebody measured (Agarwal et al. 2021; for
Atari, Mnih et al. 2015), and a score above 1 only says that the reference is beaten.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from rl_lab.evaluation.comparison.scores import score_table
from rl_lab.evaluation.exact import expected_return, limited_return, optimal_return
from rl_lab.mdp.horizon import finite_horizon
from rl_lab.mdp.model import TabularModel
from rl_lab.types import Array, UsageError


@dataclass(frozen=True)
class Scale:
    """A scale of scores: (score - low) / (high - low)."""

    low: float
    """The score that becomes 0."""
    high: float
    """The score that becomes 1."""
    source: str
    """Where the two come from."""

    def __post_init__(self) -> None:
        """Raise UsageError unless low < high, both finite."""
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise UsageError(
                f"scores can't be normalised from {self.low} to {self.high} ({self.source}): "
                "two finite numbers are needed, the second one greater"
            )

    def normalise(self, scores: ArrayLike) -> Array:
        """Return scores [...] on this scale, [...]."""
        return (np.asarray(scores, dtype=float) - self.low) / (self.high - self.low)


def discounted_scale(model: TabularModel, gamma: float) -> Scale:
    """Return the scale from random play to the optimum for discounted returns without a time limit, both exact.

    It is the scale of `optimal_return` and, taken from it, of `regret`.

    Raises:
        UsageError: random play is as good as the optimum.
        ValueError: gamma is out of range.
        NeverEnds, NotConverged: the model can't be solved.
    """
    random = expected_return(model, uniform_policy(model), gamma)
    return Scale(
        random, optimal_return(model, gamma), f"exact, from random play to the optimum, gamma {gamma:g}"
    )


def episode_scale(model: TabularModel, max_steps: int) -> Scale:
    """Return the scale from random play to the optimum for the returns of episodes that end after `max_steps`, exact.

    It is the scale of evaluation returns and of `exact_eval_return`. The optimum is that of policies that know how many
    steps are left.

    Raises:
        UsageError: random play is as good as the optimum.
        ValueError: `max_steps` is out of range.
    """
    best = float(model.initial @ finite_horizon(model, 1.0, max_steps).v[0])
    random = limited_return(model, uniform_policy(model), max_steps)
    assert random is not None  # only without a limit
    return Scale(random, best, f"exact, from random play to the optimum within {max_steps} steps")


def measured_scale(random_scores: ArrayLike, reference_scores: ArrayLike, reference: str) -> Scale:
    """Return the scale from the mean score of random play to the mean score of a reference, both measured.

    Args:
        random_scores: [runs].
        reference_scores: [runs].
        reference: what it is, such as "sb3-dqn" or "human".

    Raises:
        UsageError: scores are unusable, or the reference isn't better than random play.
    """
    low, high = (float(score_table(scores).mean()) for scores in (random_scores, reference_scores))
    return Scale(low, high, f"measured, from random play to {reference}")


def uniform_policy(model: TabularModel) -> Array:
    """Return the policy that takes each available action equally often, [S, A]."""
    return model.available / model.available.sum(axis=1, keepdims=True)
