"""Probability of improvement: how often a run of one agent beats a run of another.

Agarwal et al. 2021, https://arxiv.org/abs/2108.13264, section 4.3; Mann and Whitney 1947.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from rl_lab.evaluation.comparison.intervals import RESAMPLES, bootstrap
from rl_lab.evaluation.comparison.scores import score_tables
from rl_lab.evaluation.statistics import Estimate
from rl_lab.types import Array


def improvement_interval(
    x: ArrayLike,
    y: ArrayLike,
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
    expand: bool = True,
) -> Estimate:
    """Return the probability that a run of x beats a run of y on a task, averaged over tasks; ties count one half.

    Runs of x and of y are resampled independently, also if they have the same seeds.

    Args:
        x: [runs of x], or [runs of x, tasks].
        y: [runs of y], or [runs of y, tasks].

    Raises:
        UsageError: scores are unusable, or x and y have different numbers of tasks.
    """
    of_x, of_y = score_tables(x, y)
    low, high = bootstrap([of_x, of_y], win_rate, confidence, resamples, seed, expand)
    return Estimate(float(win_rate(of_x, of_y)), float(low), float(high))


def win_rate(x: Array, y: Array) -> Array:
    """Return which fraction of pairs of runs x wins, averaged over tasks.

    Args:
        x: [..., runs of x, tasks].
        y: [..., runs of y, tasks].
    """
    signs = np.sign(x[..., :, None, :] - y[..., None, :, :])  # [..., runs of x, runs of y, tasks]
    return (signs.mean(axis=(-3, -2, -1)) + 1.0) / 2.0
